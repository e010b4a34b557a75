//! The vector files: see `tests/data/README.md`.

mod chain;
mod contrast;
mod processors;
mod search;
mod speculative;
mod steps;

use core::convert::Infallible;
use core::ops::ControlFlow;

mod llama_cpp;

#[cfg(feature = "gpu")]
mod device;

use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use llm_sampling::generate::{GenerateConfig, generate};
use llm_sampling::{SamplingConfig, reference};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix2};

#[test]
fn vectors() {
    let files = VectorRun::new(
        "sampling",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"),
    )
    .with_tiers(&[Tier::Reference, Tier::Cpu]);
    #[cfg(feature = "gpu")]
    let files = files.with_tiers(&device::tiers());
    run_crate(&files, |case, tier| match case.op() {
        #[cfg(feature = "gpu")]
        _ if tier == Tier::Gpu => device::run(case),
        "sampling.chain.huggingface" => chain::run(case, tier),
        "sampling.processor.prefix_allowed" => processors::prefix_allowed(case, tier),
        "sampling.processor.cfg" | "sampling.processor.cfg_batched" => {
            processors::guidance(case, tier)
        }
        "sampling.processor.penalties"
        | "sampling.processor.logit_bias"
        | "sampling.processor.dynamic_temperature"
        | "sampling.processor.top_n_sigma"
        | "sampling.processor.xtc"
        | "sampling.processor.dry" => llama_cpp::run(case, tier),
        "sampling.processor.synthid_tournament" => processors::tournament(case, tier),
        op if op.starts_with("sampling.processor.") => processors::run(case, tier),
        "sampling.search.greedy" => greedy(case, tier),
        "sampling.search.assisted_greedy" => speculative::assisted_greedy(case, tier),
        "sampling.speculative.verify" => speculative::verify(case, tier),
        "sampling.speculative.residual" => speculative::residual(case, tier),
        "sampling.prompt_lookup.candidates" => speculative::prompt_lookup(case, tier),
        "sampling.contrastive.rank" => contrast::contrastive_rank(case, tier),
        "sampling.search.contrastive" => contrast::contrastive(case, tier),
        "sampling.dola.contrast" => contrast::dola_contrast(case, tier),
        "sampling.search.beam" | "sampling.search.beam_processors" => search::beam(case, tier),
        "sampling.search.beam_sample" => search::beam_sample(case, tier),
        "sampling.search.group_beam" => search::group_beam(case, tier),
        "sampling.search.constrained_beam" => search::constrained_beam(case, tier),
        "sampling.search.transition_scores" => search::transition_scores(case, tier),
        _ => llama_cpp::run(case, tier),
    });
}

/// A list of ids, a single one, or none.
fn ids(case: &Case, name: &str) -> Result<Option<Vec<u32>>, VectorError> {
    if !case.has_param(name) || case.param_value(name)?.is_null() {
        return Ok(None);
    }
    let list = if case.param_value(name)?.is_array() {
        case.param_usize_list(name)?
    } else {
        vec![case.param_usize(name)?]
    };
    Ok(Some(list.into_iter().map(|id| id as u32).collect()))
}

/// A model that knows the last token (order 1) or the last two (order 2).
struct Table(ArrayD<f32>);

impl Table {
    fn logits(&self, sequence: &[u32]) -> Vec<f32> {
        let last = sequence[sequence.len() - 1] as usize;
        let row = self.0.view();
        let row = if self.0.ndim() == 3 {
            let before = if sequence.len() > 1 {
                sequence[sequence.len() - 2]
            } else {
                0
            };
            row.index_axis_move(Axis(0), before as usize)
        } else {
            row
        };
        row.index_axis_move(Axis(0), last).iter().copied().collect()
    }
}

fn greedy(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let table = Table(case.input_f32_dyn("table")?);
    if case.param_usize("order")? + 1 != table.0.ndim() {
        return Err(case.unknown_param("order", "one less than the axes of the table"));
    }
    let prompts = case.input_usize::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let max_new_tokens = case.param_usize("max_new_tokens")?;
    let stop_ids = ids(case, "eos_token_id")?.unwrap_or_default();
    let pad = case.param_opt_usize("pad_token_id")?.unwrap_or(0) as u32;
    let (batch, prompt) = prompts.dim();
    let vocab = table.0.shape()[table.0.ndim() - 1];

    let mut rows: Vec<Vec<u32>> = Vec::new();
    for row in prompts.rows() {
        let row = row.to_vec();
        rows.push(match tier {
            Tier::Reference => textbook(&table, row, max_new_tokens, &stop_ids),
            _ => fast(&table, row, max_new_tokens, &stop_ids)?,
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
) -> Result<Vec<u32>, VectorError> {
    let config = GenerateConfig::new(SamplingConfig::greedy(), max_new_tokens)
        .with_stop_ids(stop_ids.to_vec());
    let mut seen = Vec::new();
    let step = |new: &[u32]| -> Result<Array1<f32>, Infallible> {
        seen.extend_from_slice(new);
        Ok(table.logits(&seen).into())
    };
    let generation = generate(&sequence, &config, step, |_| ControlFlow::Continue(()))
        .map_err(VectorError::op)?;
    sequence.extend(generation.tokens);
    Ok(sequence)
}

fn textbook(
    table: &Table,
    mut sequence: Vec<u32>,
    max_new_tokens: usize,
    stop_ids: &[u32],
) -> Vec<u32> {
    for _ in 0..max_new_tokens {
        let logits: Vec<f64> = table.logits(&sequence).into_iter().map(f64::from).collect();
        let token = reference::greedy::argmax(&logits) as u32;
        sequence.push(token);
        if stop_ids.contains(&token) {
            break;
        }
    }
    sequence
}
