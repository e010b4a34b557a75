//! The GPU tier: where there is a device, the files of what has a kernel run on it too.

use core::ops::Range;

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::gpu::llm_gpu::testing::gpu;
use llm_sampling::gpu::llm_gpu::{GpuTensor, Recorder};
use llm_sampling::gpu::mask::{self, BitMeaning};
use llm_sampling::gpu::{GpuLogits, GpuSamplingError, history, log_normalization};
use llm_sampling::gpu::{min_p, presence_frequency, repetition_penalty, temperature, top_k, top_p};
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use ndarray::{Array2, Ix2};

use super::ids;

/// The tiers that this machine can run.
pub(super) fn tiers() -> Vec<Tier> {
    match gpu() {
        Some(_) => vec![Tier::Reference, Tier::Cpu, Tier::Gpu],
        None => vec![Tier::Reference, Tier::Cpu],
    }
}

type Recorded = Result<(), GpuSamplingError>;

pub(super) fn run(case: &Case) -> Result<(), VectorError> {
    let least = || case.param_usize("min_tokens_to_keep");
    match case.op() {
        "sampling.processor.temperature" => {
            let t = case.param_f64("temperature")?;
            on_device(case, |r, x, _| temperature::apply_inplace(r, x, t))
        }
        "sampling.processor.top_k" => {
            if case.param_str("ties")? != "kept" {
                return Err(case.unknown_param("ties", "\"kept\""));
            }
            let (k, least) = (case.param_usize("top_k")?, least()?);
            on_device(case, |r, x, _| {
                top_k::apply_inplace(r, x, k, Ties::Kept, least)
            })
        }
        "sampling.processor.top_p" => {
            let (p, least) = (case.param_f64("top_p")?, least()?);
            on_device(case, |r, x, _| {
                top_p::apply_inplace(r, x, p, SumFrom::Smallest, least)
            })
        }
        "sampling.processor.min_p" => {
            let (p, least) = (case.param_f64("min_p")?, least()?);
            on_device(case, |r, x, _| min_p::apply_inplace(r, x, p, least))
        }
        "sampling.processor.log_softmax" => {
            on_device(case, |r, x, _| log_normalization::apply_inplace(r, x))
        }
        "sampling.processor.suppress" => {
            let tokens = case.param_usize_list("tokens")?;
            on_device(case, |r, x, _| {
                let mut bits = vec![0; x.vocab().div_ceil(32)];
                for token in tokens.iter().filter(|token| **token < x.vocab()) {
                    bits[token / 32] |= 1 << (token % 32);
                }
                let bits = r.gpu().upload_slice(&[1, bits.len()], &bits)?;
                mask::apply_inplace(r, x, &bits, BitMeaning::OneForbids)
            })
        }
        "sampling.processor.repetition_penalty" => {
            let penalty = case.param_f64("penalty")?;
            let skip = ids(case, "prompt_ignore_length")?.unwrap_or_else(|| vec![0]);
            on_device(case, |r, x, tokens| {
                let length = tokens.ncols();
                let first = |row: usize| skip[if skip.len() == 1 { 0 } else { row }] as usize;
                let windows = (0..x.batch()).map(|row| first(row).min(length)..length);
                let counts = counted(r, x, tokens, windows.collect())?;
                repetition_penalty::apply_inplace(r, x, &counts, penalty)
            })
        }
        "sampling.processor.penalties" => {
            let last_n = case.param_usize("last_n")?;
            let penalty = case.param_f64("repetition_penalty")?;
            let presence = case.param_f64("presence_penalty")?;
            let frequency = case.param_f64("frequency_penalty")?;
            on_device(case, |r, x, tokens| {
                let length = tokens.ncols();
                let windows = vec![length.saturating_sub(last_n)..length; x.batch()];
                let counts = counted(r, x, tokens, windows)?;
                repetition_penalty::apply_inplace(r, x, &counts, penalty)?;
                presence_frequency::apply_inplace(r, x, &counts, presence, frequency)
            })
        }
        _ => Err(case.unsupported("no kernel")),
    }
}

fn counted(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    tokens: &Array2<u32>,
    windows: Vec<Range<usize>>,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let tokens = recorder.gpu().upload(tokens)?;
    history::count(recorder, &tokens, &windows, logits.vocab())
}

/// Records on the logits of the file, and compares what is left.
fn on_device(
    case: &Case,
    record: impl FnOnce(&mut Recorder, &GpuLogits, &Array2<u32>) -> Recorded,
) -> Result<(), VectorError> {
    let gpu = gpu().ok_or_else(|| VectorError::op("no device"))?;
    let tokens = case.input_i64::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let x = gpu
        .upload(&case.input_f32::<Ix2>("logits")?)
        .map_err(VectorError::op)?;
    let mut recorder = gpu.recorder();
    let logits = GpuLogits::new(&mut recorder, &x).map_err(VectorError::op)?;
    record(&mut recorder, &logits, &tokens).map_err(VectorError::op)?;
    recorder.submit().map_err(VectorError::op)?;
    logits.check_blocking().map_err(VectorError::op)?;
    case.expect("logits", &x.download_blocking().map_err(VectorError::op)?)
}
