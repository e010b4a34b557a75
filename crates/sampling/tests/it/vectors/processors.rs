//! One processor at a time.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::guidance::{self, GuidanceSpace};
use llm_sampling::prefix_allowed::{self, PrefixAllowed};
use llm_sampling::{Context, SamplingError, Sources, reference, synthid};
use ndarray::{Array2, Axis, Ix2, Ix3};

use super::ids;
use super::steps::{self, Step, compare};

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let least = || case.param_usize("min_tokens_to_keep");
    let stop_ids = || Ok(ids(case, "eos_token_id")?.unwrap_or_default());
    let tokens = || -> Result<Vec<u32>, VectorError> {
        let tokens = case.param_usize_list("tokens")?;
        Ok(tokens.into_iter().map(|id| id as u32).collect())
    };
    let mut prompt = None;
    let step: Result<Step, SamplingError> = match &case.op()["sampling.processor.".len()..] {
        "temperature" => steps::temperature(case.param_f64("temperature")?),
        "top_k" => {
            if case.param_str("ties")? != "kept" {
                return Err(case.unknown_param("ties", "\"kept\""));
            }
            steps::top_k(case.param_usize("top_k")?, least()?)
        }
        "top_p" => steps::top_p(case.param_f64("top_p")?, least()?),
        "top_h" => steps::top_h(case.param_f64("top_h")?),
        "min_p" => steps::min_p(case.param_f64("min_p")?, least()?),
        "typical" => steps::typical(case.param_f64("mass")?, least()?),
        "epsilon" => steps::epsilon(case.param_f64("epsilon")?, least()?),
        "eta" => steps::eta(case.param_f64("epsilon")?, least()?),
        "log_softmax" => Ok(steps::log_softmax()),
        "inf_nan_remove" => Ok(steps::remove_invalid()),
        "repetition_penalty" => {
            let skip = match ids(case, "prompt_ignore_length")? {
                None => vec![0],
                Some(list) => list.into_iter().map(|n| n as usize).collect(),
            };
            steps::repetition_penalty(case.param_f64("penalty")?, skip)
        }
        "encoder_repetition_penalty" => {
            steps::encoder_repetition_penalty(case.param_f64("penalty")?, sources(case)?)
        }
        "no_repeat_ngram" => steps::no_repeat_ngram(case.param_usize("ngram_size")?),
        "encoder_no_repeat_ngram" => {
            steps::encoder_no_repeat_ngram(case.param_usize("ngram_size")?, sources(case)?)
        }
        "sequence_bias" => steps::sequence_bias(biases(case)?),
        "bad_words" => steps::bad_words(lists(case, "bad_words_ids")?, stop_ids()?),
        "min_length" => Ok(steps::min_length(
            case.param_usize("min_length")?,
            stop_ids()?,
        )),
        "min_new_tokens" => {
            prompt = Some(case.param_usize("prompt_length")?);
            let n = case.param_usize("min_new_tokens")?;
            Ok(steps::min_new_tokens(n, stop_ids()?))
        }
        "exponential_decay_length" => {
            prompt = Some(case.param_usize("prompt_length")?);
            steps::exponential_decay_length(
                case.param_usize("start")?,
                case.param_f64("factor")?,
                stop_ids()?,
            )
        }
        "forced_bos" => Ok(steps::forced_bos(case.param_usize("bos_token_id")? as u32)),
        "forced_eos" => Ok(steps::forced_eos(
            case.param_usize("max_length")?,
            stop_ids()?,
        )),
        "suppress" => Ok(steps::suppress(tokens()?)),
        "begin_suppress" => Ok(steps::begin_suppress(
            tokens()?,
            case.param_usize("begin_index")?,
        )),
        _ => return Err(case.unknown_op()),
    };
    let step = step.map_err(VectorError::op)?;
    compare(case, tier, &[step], prompt)
}

/// The rows of `encoder_input_ids`, each for as many rows of logits as there are beams.
pub(super) fn sources(case: &Case) -> Result<Sources, VectorError> {
    let tokens = case.input_i64::<Ix2>("encoder_input_ids")?;
    let batch = case.input_shape("logits").map_or(0, |shape| shape[0]);
    let rows: Vec<Vec<u32>> = tokens
        .rows()
        .into_iter()
        .map(|row| row.iter().map(|&id| id as u32).collect())
        .collect();
    let beams = (batch / rows.len().max(1)).max(1);
    Sources::new(rows, beams).map_err(VectorError::op)
}

/// A list of lists of ids.
pub(super) fn lists(case: &Case, name: &str) -> Result<Vec<Vec<u32>>, VectorError> {
    let list = case.param_value(name)?.as_array();
    list.and_then(|list| {
        list.iter()
            .map(|words| {
                let ids = words.as_array()?.iter();
                ids.map(|id| Some(id.as_u64()? as u32)).collect()
            })
            .collect()
    })
    .ok_or_else(|| case.unknown_param(name, "a list of lists of ids"))
}

/// A list of pairs of ids and a number.
pub(super) fn biases(case: &Case) -> Result<Vec<(Vec<u32>, f64)>, VectorError> {
    let list = case.param_value("sequence_bias")?.as_array();
    list.and_then(|list| {
        list.iter()
            .map(|pair| {
                let [sequence, bias] = &pair.as_array()?[..] else {
                    return None;
                };
                let ids = sequence.as_array()?.iter();
                let ids: Option<_> = ids.map(|id| Some(id.as_u64()? as u32)).collect();
                Some((ids?, bias.as_f64()?))
            })
            .collect()
    })
    .ok_or_else(|| case.unknown_param("sequence_bias", "a list of pairs [ids, bias]"))
}

pub(super) fn prefix_allowed(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let allowed = lists(case, "allowed_by_batch_item")?;
    let n_beams = case.param_usize("num_beams")?;
    case.note("rule");
    let tokens = case.input_i64::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let tokens: Vec<Vec<u32>> = tokens.rows().into_iter().map(|row| row.to_vec()).collect();
    let contexts: Vec<_> = tokens.iter().map(|t| Context::new(t, &[])).collect();
    if tier == Tier::Reference {
        let mut logits = case.input_f64::<Ix2>("logits")?;
        let groups = logits.axis_chunks_iter_mut(Axis(0), n_beams);
        for (mut beams, ids) in groups.into_iter().zip(&allowed) {
            let rows: Vec<_> = beams.rows().into_iter().map(|row| row.to_vec()).collect();
            let out = reference::prefix_allowed::apply(&rows, &vec![ids.clone(); n_beams]);
            for (mut row, out) in beams.rows_mut().into_iter().zip(out) {
                row.assign(&ndarray::Array1::from(out));
            }
        }
        return case.expect("logits", &logits);
    }
    let processor = PrefixAllowed::new(|context: &Context<'_>, ids: &mut Vec<u32>| {
        ids.extend_from_slice(&allowed[context.row / n_beams]);
    });
    let mut logits = case.input_f32::<Ix2>("logits")?;
    prefix_allowed::apply_beams_inplace(&mut logits, &contexts, n_beams, &processor)
        .map_err(VectorError::op)?;
    if n_beams == 1 {
        // With one beam this is the plain processor.
        let mut plain = case.input_f32::<Ix2>("logits")?;
        llm_sampling::processor::apply_inplace(&mut plain, &contexts, &processor)
            .map_err(VectorError::op)?;
        assert_eq!(plain, logits);
    }
    case.expect("logits", &logits)
}

pub(super) fn guidance(case: &Case, tier: Tier) -> Result<(), VectorError> {
    case.input_i64::<Ix2>("input_ids")?; // the model's, which is not here
    case.note("layout");
    let scale = case.param_f64("guidance_scale")?;
    let space = if case.param_bool("log_softmax")? {
        GuidanceSpace::LogProbabilities
    } else {
        GuidanceSpace::Logits
    };
    let (conditional, unconditional) = if case.op().ends_with("cfg") {
        (
            case.input_f64::<Ix2>("logits")?,
            case.input_f64::<Ix2>("unconditional_logits")?,
        )
    } else {
        let both = case.input_f64::<Ix2>("logits")?;
        let (c, u) = both.view().split_at(Axis(0), both.nrows() / 2);
        (c.to_owned(), u.to_owned())
    };
    if tier == Tier::Reference {
        let mut out = Array2::zeros(conditional.dim());
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            let (c, u) = (conditional.row(i).to_vec(), unconditional.row(i).to_vec());
            let guided = reference::guidance::guide(&c, &u, scale, space);
            row.assign(&ndarray::Array1::from(guided));
        }
        return case.expect("logits", &out);
    }
    let narrow = |x: Array2<f64>| x.mapv(|x| x as f32);
    let guided = guidance::guide(&narrow(conditional), &narrow(unconditional), scale, space)
        .map_err(VectorError::op)?;
    case.expect("logits", &guided)
}

pub(super) fn tournament(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let coins = case.input_i64::<Ix3>("coins")?;
    if tier == Tier::Reference {
        let mut logits = case.input_f64::<Ix2>("logits")?;
        for (mut row, coins) in logits.rows_mut().into_iter().zip(coins.outer_iter()) {
            let rounds = coins.columns().into_iter();
            let rounds: Vec<Vec<f64>> = rounds
                .map(|g| g.iter().map(|&g| g as f64).collect())
                .collect();
            let out = reference::synthid::tournament(&row.to_vec(), &rounds);
            row.assign(&ndarray::Array1::from(out));
        }
        return case.expect("logits", &logits);
    }
    let mut logits = case.input_f32::<Ix2>("logits")?;
    synthid::tournament_inplace(&mut logits, &coins.mapv(|g| g == 1)).map_err(VectorError::op)?;
    case.expect("logits", &logits)
}
