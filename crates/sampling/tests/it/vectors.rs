//! The vector files: see `tests/data/README.md`.

mod search;

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_numerics::softmax;
use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use llm_sampling::generate::{GenerateConfig, generate};
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use llm_sampling::{SamplingConfig, SamplingError, reference, temperature, top_k, top_p};
use ndarray::{Array1, Array2, Array3, ArrayD, ArrayRef2, Axis, Ix2};

#[test]
fn vectors() {
    let files = VectorRun::new(
        "sampling",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"),
    )
    .with_tiers(&[Tier::Reference, Tier::Cpu]);
    run_crate(&files, |case, tier| match case.op() {
        _ if tier == Tier::Gpu => Err(case.unsupported("no kernel")),
        "sampling.processor.temperature" => processors(
            case,
            tier,
            &[Processor::Temperature(case.param_f64("temperature")?)],
        ),
        "sampling.processor.top_k" => {
            if case.param_str("ties")? != "kept" {
                return Err(case.unknown_param("ties", "\"kept\""));
            }
            let least = case.param_usize("min_tokens_to_keep")?;
            processors(
                case,
                tier,
                &[Processor::TopK(case.param_usize("top_k")?, least)],
            )
        }
        "sampling.processor.top_p" => {
            let least = case.param_usize("min_tokens_to_keep")?;
            processors(
                case,
                tier,
                &[Processor::TopP(case.param_f64("top_p")?, least)],
            )
        }
        "sampling.processor.log_softmax" => processors(case, tier, &[Processor::LogSoftmax]),
        "sampling.chain.huggingface" => chain(case, tier),
        "sampling.search.greedy" => greedy(case, tier),
        "sampling.search.beam" | "sampling.search.beam_processors" => search::beam(case, tier),
        "sampling.search.beam_sample" => search::beam_sample(case, tier),
        "sampling.search.group_beam" => search::group_beam(case, tier),
        "sampling.search.constrained_beam" => search::constrained_beam(case, tier),
        "sampling.search.transition_scores" => search::transition_scores(case, tier),
        _ => Err(case.unknown_op()),
    });
}

/// One step of a chain, with its `min_tokens_to_keep`.
#[derive(Clone, Copy)]
enum Processor {
    Temperature(f64),
    TopK(usize, usize),
    TopP(f64, usize),
    LogSoftmax,
}

impl Processor {
    /// The class in transformers.
    fn name(self) -> &'static str {
        match self {
            Self::Temperature(_) => "TemperatureLogitsWarper",
            Self::TopK(..) => "TopKLogitsWarper",
            Self::TopP(..) => "TopPLogitsWarper",
            Self::LogSoftmax => "LogitNormalization",
        }
    }

    fn fast(self, logits: &mut ArrayRef2<f32>) -> Result<(), SamplingError> {
        match self {
            Self::Temperature(t) => temperature::apply_inplace(logits, t),
            Self::TopK(k, least) => top_k::apply_inplace(logits, k, Ties::Kept, least),
            Self::TopP(p, least) => top_p::apply_inplace(logits, p, least),
            Self::LogSoftmax => {
                softmax::log_softmax_inplace(logits);
                Ok(())
            }
        }
    }

    fn textbook(self, row: &[f64]) -> Vec<f64> {
        match self {
            Self::Temperature(t) => reference::temperature::apply(row, t),
            Self::TopK(k, least) => reference::top_k::apply(row, k, Ties::Kept, least),
            Self::TopP(p, least) => reference::top_p::apply(row, p, SumFrom::Smallest, least),
            Self::LogSoftmax => reference::categorical::log_softmax(row),
        }
    }
}

fn processors(case: &Case, tier: Tier, steps: &[Processor]) -> Result<(), VectorError> {
    case.input_i64::<Ix2>("input_ids")?; // none of these processors looks at the tokens so far
    if tier == Tier::Reference {
        let mut logits = case.input_f64::<Ix2>("logits")?;
        for mut row in logits.rows_mut() {
            let out = steps.iter().fold(row.to_vec(), |x, step| step.textbook(&x));
            row.assign(&Array1::from(out));
        }
        return case.expect("logits", &logits);
    }
    let mut logits = case.input_f32::<Ix2>("logits")?;
    for step in steps {
        step.fast(&mut logits).map_err(VectorError::op)?;
    }
    case.expect("logits", &logits)
}

fn chain(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let eos = ids(case, "eos_token_id")?;
    // Only processors that are not here, and whose parameters fail as unknown, look at lengths.
    case.param_opt_usize("max_length")?;
    case.param_opt_usize("prompt_length")?;
    let least = match case.param_opt_usize("num_beams")? {
        None | Some(1) => 1,
        Some(_) => eos.map_or(1, |eos| eos.len()) + 1,
    };
    let (t, k, p) = (
        case.param_opt_f64("temperature")?,
        case.param_opt_usize("top_k")?,
        case.param_opt_f64("top_p")?,
    );
    let mut steps = Vec::new();
    if case.param_opt_bool("do_sample")?.unwrap_or(false) {
        steps.extend(t.filter(|t| *t != 1.0).map(Processor::Temperature));
        steps.extend(k.filter(|k| *k != 0).map(|k| Processor::TopK(k, least)));
        steps.extend(p.filter(|p| *p < 1.0).map(|p| Processor::TopP(p, least)));
    }
    if case.param_opt_bool("renormalize_logits")?.unwrap_or(false) {
        steps.push(Processor::LogSoftmax);
    }
    if case.has_param("order") {
        let names: Vec<_> = steps.iter().map(|step| step.name()).collect();
        let order = case.param_value("order")?.as_array();
        let same = order.is_some_and(|order| {
            order
                .iter()
                .map(|name| name.as_str())
                .eq(names.iter().copied().map(Some))
        });
        if !same {
            return Err(case.unknown_param("order", &format!("{names:?}")));
        }
    }
    processors(case, tier, &steps)
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
