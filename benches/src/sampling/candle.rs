//! candle's sampler. Its random numbers are its own: compared are its probabilities before the filter, and that what it draws has been kept.

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use candle_transformers::utils::apply_repeat_penalty;
use llm_sampling::reference;
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use ndarray::Array2;

use super::rows::VOCAB;
use super::{FLAT, Filter, Penalties, REPETITION, Step, TEMPERATURE, TOP_K, TOP_P};
use crate::case::{Peer, agree};
use crate::measure::Calls;

/// The step by candle, if it has one: no min-p, no presence and frequency.
pub(super) fn peer(step: Step, logits: &Array2<f32>, tokens: &[u32]) -> Result<Option<Peer>> {
    let (sampling, temperature) = match step.filter {
        Filter::None => (Sampling::All { temperature: 1.0 }, 1.0),
        Filter::TopP => {
            let (p, temperature) = (TOP_P, 1.0);
            (Sampling::TopP { p, temperature }, temperature)
        }
        Filter::TopKTopP => {
            let (k, p, temperature) = (TOP_K, TOP_P, TEMPERATURE);
            (Sampling::TopKThenTopP { k, p, temperature }, temperature)
        }
        Filter::MinP => return Ok(None),
    };
    let penalty = match step.penalties {
        Penalties::None => None,
        Penalties::Repetition => Some(REPETITION as f32),
        Penalties::All => return Ok(None),
    };
    let tensors = tensors(logits)?;
    let mut processor = LogitsProcessor::from_sampling(2026, sampling);
    let seen_tokens = tokens.to_vec();
    let mut sample = move |logits: &Tensor, seen: &mut dyn FnMut(&[f32])| match penalty {
        Some(penalty) => {
            let logits = apply_repeat_penalty(logits, penalty, &seen_tokens)?;
            processor.sample_f(&logits, |probabilities| seen(probabilities))
        }
        None => processor.sample_f(logits, |probabilities| seen(probabilities)),
    };

    let unfiltered = Step {
        filter: Filter::None,
        ..step
    };
    let row = logits.row(0);
    let x = unfiltered.reference(row.as_slice().context(FLAT)?, tokens);
    let x = reference::temperature::apply(&x, temperature);
    let want: Vec<f64> = reference::categorical::log_softmax(&x);
    let kept = match step.filter {
        Filter::TopP => reference::top_p::apply(&x, TOP_P, SumFrom::Largest, 1),
        // candle's top-p does not normalize again after top-k, so that here it keeps all of these.
        Filter::TopKTopP => reference::top_k::apply(&x, TOP_K, Ties::Exact, 1),
        _ => x,
    };
    // candle sums all weights of the softmax in f32, which makes a share of 0.17 wrong by 1.02e-6.
    for _ in 0..64 {
        let mut got = Vec::new();
        let token = sample(&tensors[0], &mut |p| got = p.to_vec())?;
        let got = got.iter().map(|&p| f64::from(p));
        agree(
            "candle's probabilities",
            got,
            want.iter().map(|x| x.exp()),
            1e-5,
        )?;
        let is_kept = kept[token as usize] > f64::NEG_INFINITY;
        anyhow::ensure!(
            is_kept,
            "candle drew {token}, which must not be kept; nothing was timed"
        );
    }
    Ok(Some(Peer {
        library: "candle".to_owned(),
        version: crate::peers::CANDLE.to_owned(),
        contender: Calls::boxed(move |call| {
            let row = &tensors[call % tensors.len()];
            std::hint::black_box(sample(row, &mut |_| {})?);
            Ok(())
        }),
    }))
}

/// The largest logit by candle.
pub(super) fn greedy(logits: &Array2<f32>, want: f64) -> Result<Peer> {
    let tensors = tensors(logits)?;
    let mut processor = LogitsProcessor::from_sampling(2026, Sampling::ArgMax);
    agree(
        "candle",
        [f64::from(processor.sample(&tensors[0])?)],
        [want],
        0.0,
    )?;
    Ok(Peer {
        library: "candle".to_owned(),
        version: crate::peers::CANDLE.to_owned(),
        contender: Calls::boxed(move |call| {
            std::hint::black_box(processor.sample(&tensors[call % tensors.len()])?);
            Ok(())
        }),
    })
}

fn tensors(logits: &Array2<f32>) -> Result<Vec<Tensor>> {
    let rows = logits.rows().into_iter();
    rows.map(|row| Ok(Tensor::from_vec(row.to_vec(), VOCAB, &Device::Cpu)?))
        .collect()
}
