//! A case of `llm-decoder`: the embedded model writes on, from the cache of `llm-kvcache`.

use anyhow::{Context as _, Result};
use llm_decoder::checkpoint::{self, WeightType};
use llm_decoder::{Decoder, DecoderError, Session};
use llm_tiny_model::TinyModel;
use ndarray::Array1;
use serde_json::json;

use crate::case::{Bars, Case, Plan, Setup, Work, agree};
use crate::measure::Calls;
use crate::peers::Input;

const PROMPT: &str = "轻舟已过万重山";
/// Tokens of the answer.
const NEW: usize = 128;

/// Every case of the crate.
pub(crate) fn plans() -> Vec<Plan> {
    vec![Plan {
        name: format!("write {NEW} tokens with the embedded model, greedily, batch 1"),
        bars: Bars {
            of_limit: None,
            peers: &[("transformers", 10.0)],
        },
        build: Box::new(write_on),
    }]
}

fn write_on(setup: &Setup) -> Result<Case> {
    let model = TinyModel::base_model()?.decoder().clone();
    let prompt = TinyModel::text_prompt(PROMPT)?;
    let ids = greedy(&model, &prompt)?;
    let weights: usize = (model.params().tensors().iter())
        .map(|(_, tensor)| tensor.len())
        .sum();

    let mut peers = Vec::new();
    if let Some(python) = &setup.python {
        let folder = tempfile::tempdir().context("no temporary folder for the checkpoint")?;
        checkpoint::save(&model, folder.path(), WeightType::F32)?;
        let prompt: Vec<f32> = prompt.iter().map(|&id| id as f32).collect();
        let inputs = [Input {
            name: "prompt",
            shape: vec![1, prompt.len()],
            data: &prompt,
            rotates: false,
        }];
        let params = json!({ "checkpoint": folder.path(), "new": NEW });
        for opened in python.open(["decoder", "write_on"], &params, &inputs, 1)? {
            let theirs = opened
                .outputs
                .get("ids")
                .context("a peer must give `ids`")?;
            agree(
                &opened.peer.library,
                theirs.iter().map(|&id| f64::from(id)),
                ids.iter().map(|&id| f64::from(id)),
                0.0,
            )?;
            peers.push(opened.peer);
        }
    }
    Ok(Case {
        // One multiplication and one addition for each weight and token.
        work: Work::Product {
            operations: 2 * weights * NEW,
        },
        ours: Calls::boxed(move |_| {
            std::hint::black_box(greedy(&model, &prompt)?);
            Ok(())
        }),
        peers,
    })
}

/// The likeliest tokens after a prompt, each with those before it in the cache.
fn greedy(model: &Decoder<f32>, prompt: &[u32]) -> Result<Vec<u32>, DecoderError> {
    let mut session = Session::new(model, prompt.len() + NEW)?;
    let mut logits = session.extend(prompt)?;
    let mut ids = vec![likeliest(&logits)];
    while ids.len() < NEW {
        logits = session.extend(&ids[ids.len() - 1..])?;
        ids.push(likeliest(&logits));
    }
    Ok(ids)
}

fn likeliest(logits: &Array1<f32>) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_changes_no_token() -> Result<()> {
        let model = TinyModel::base_model()?.decoder().clone();
        let prompt = TinyModel::text_prompt(PROMPT)?;
        let ids = greedy(&model, &prompt)?;
        assert_eq!(ids.len(), NEW);
        // The first tokens again, each from the whole text so far.
        let mut text = prompt;
        for &id in &ids[..8] {
            let mut session = Session::new(&model, text.len())?;
            assert_eq!(likeliest(&session.extend(&text)?), id);
            text.push(id);
        }
        Ok(())
    }
}
