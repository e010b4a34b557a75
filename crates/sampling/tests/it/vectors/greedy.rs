//! Greedy decoding of table models, with and without processors.

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::forced_tokens::ForcedEos;
use llm_sampling::generate::{GenerateConfig, generate};
use llm_sampling::{Dialect, SamplingConfig, SamplingError, reference};
use ndarray::{Array1, Array2, Array3, Ix2};

use super::search::Step;
use super::{Table, ids};

pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let table = Table(case.input_f32_dyn("table")?);
    if case.param_usize("order")? + 1 != table.0.ndim() {
        return Err(case.unknown_param("order", "one less than the axes of the table"));
    }
    let prompts = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let max_new_tokens = case.param_usize("max_new_tokens")?;
    let stop_ids = ids(case, "eos_token_id")?.unwrap_or_default();
    let pad = case.param_opt_usize("pad_token_id")?.unwrap_or(0) as u32;
    let steps = Step::read(case, &stop_ids, max_new_tokens, false)?;
    let (batch, prompt) = prompts.dim();
    let vocab = table.0.shape()[table.0.ndim() - 1];

    let mut rows: Vec<Vec<u32>> = Vec::new();
    for row in prompts.rows() {
        let row = row.to_vec();
        rows.push(match tier {
            Tier::Reference => textbook(&table, row, max_new_tokens, &stop_ids, &steps),
            _ => fast(&table, row, max_new_tokens, &stop_ids, &steps)?,
        });
    }
    let longest = rows.iter().map(Vec::len).max().unwrap_or(prompt);
    for row in &mut rows {
        row.resize(longest, pad);
    }
    case.expect_int(
        "sequences",
        &Array2::from_shape_fn([batch, longest], |(row, i)| rows[row][i]),
    )?;
    // The library goes on with rows that have ended, as long as another has not.
    let step_logits =
        Array3::from_shape_fn([batch, longest - prompt, vocab], |(row, step, token)| {
            table.logits(&rows[row][..prompt + step])[token]
        });
    if case.has_output("step_logits") {
        case.expect("step_logits", &step_logits)
    } else {
        Ok(())
    }
}

fn fast(
    table: &Table,
    mut sequence: Vec<u32>,
    max_new_tokens: usize,
    stop_ids: &[u32],
    steps: &[Step],
) -> Result<Vec<u32>, VectorError> {
    let mut seen = Vec::new();
    let step = |new: &[u32]| -> Result<Array1<f32>, Infallible> {
        seen.extend_from_slice(new);
        Ok(table.logits(&seen).into())
    };
    let go_on = |_: &_| ControlFlow::Continue(());
    let generation = if steps.is_empty() {
        let config = GenerateConfig::new(SamplingConfig::greedy(), max_new_tokens)
            .with_stop_ids(stop_ids.to_vec());
        generate(&sequence, &config, step, go_on)
    } else {
        let mut config = ChainConfig::new(Dialect::HuggingFace).with_stop_ids(stop_ids.to_vec());
        for step in steps {
            config = config.with(setting(step, sequence.len()).map_err(VectorError::op)?);
        }
        let chain = config
            .with(Setting::Greedy)
            .build()
            .map_err(VectorError::op)?;
        let config = GenerateConfig::new(chain, max_new_tokens).with_stop_ids(stop_ids.to_vec());
        generate(&sequence, &config, step, go_on)
    };
    sequence.extend(generation.map_err(VectorError::op)?.tokens);
    Ok(sequence)
}

/// The setting of a chain that does what the textbook does.
fn setting(step: &Step, prompt: usize) -> Result<Setting, SamplingError> {
    Ok(match step {
        Step::RepetitionPenalty(penalty) => Setting::RepetitionPenalty(*penalty),
        Step::NoRepeat(n) => Setting::NoRepeatNgram(*n),
        Step::BadWords(words) => Setting::BadWords(words.clone()),
        Step::MinNewTokens(n, _) => Setting::MinNewTokens(*n),
        Step::ForcedEnd(at, token) => {
            Setting::ForcedEos(ForcedEos::new(prompt + at + 1, vec![*token]))
        }
        Step::Decay(start, factor, stop_ids) => Setting::ExponentialDecayLength(
            ExponentialDecayLength::new(*start, *factor, stop_ids.clone())?,
        ),
        Step::Temperature(t) => Setting::Temperature(*t),
        Step::TopK(k, _) => Setting::TopK(*k),
        Step::Normalize => Setting::Renormalize,
    })
}

fn textbook(
    table: &Table,
    mut sequence: Vec<u32>,
    max_new_tokens: usize,
    stop_ids: &[u32],
    steps: &[Step],
) -> Vec<u32> {
    let prompt = sequence.len();
    for _ in 0..max_new_tokens {
        let mut logits: Vec<f64> = table.logits(&sequence).into_iter().map(f64::from).collect();
        for step in steps {
            logits = step.apply(&logits, &sequence[..prompt], &sequence[prompt..]);
        }
        let token = reference::greedy::argmax(&logits) as u32;
        sequence.push(token);
        if stop_ids.contains(&token) {
            break;
        }
    }
    sequence
}
