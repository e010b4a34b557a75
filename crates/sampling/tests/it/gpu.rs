//! The compute shaders against the CPU and the reference, on whatever adapter there is (`LLM_GPU=off|auto|require`).

mod beam;
mod chain;
mod dispatches;
mod draws;
mod errors;
mod log_normalization;
mod mask;
mod min_p;
mod noise;
mod penalties;
mod rounding;
mod shaders;
mod temperature;
mod top_k;
mod top_p;
mod wide;

use llm_numerics::philox::Philox4x32;
use llm_sampling::gpu::llm_gpu::testing::gpu;
use llm_sampling::gpu::llm_gpu::{Gpu, Recorder};
use llm_sampling::gpu::{GpuLogits, GpuSamplingError};
use llm_sampling::{Context, Processor, SamplingError, processor};
use ndarray::Array2;
use proptest::prelude::*;

const MASKED: f32 = f32::NEG_INFINITY;

/// The vocabulary of Qwen2: odd to nothing, and 19 groups of the kernels.
const LARGE_VOCAB: usize = 151_936;

/// Each case takes some milliseconds on a software device.
fn few(cases: u32) -> ProptestConfig {
    ProptestConfig::with_cases(cases)
}

/// Records on logits, and returns what became of them and whether a row was refused.
fn apply(
    gpu: &Gpu,
    logits: &Array2<f32>,
    record: impl FnOnce(&mut Recorder, &GpuLogits) -> Result<(), GpuSamplingError>,
) -> (Array2<f32>, Result<(), GpuSamplingError>) {
    let x = gpu.upload(logits).unwrap();
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &x).unwrap();
    record(&mut recorder, &rows).unwrap();
    recorder.submit().unwrap();
    let after = x.download_blocking().unwrap();
    let after = after.into_dimensionality().unwrap();
    (after, rows.check_blocking())
}

/// What a processor of the CPU makes of logits, row by row: the first error, and rows that were refused as they came.
fn on_the_cpu(
    logits: &Array2<f32>,
    contexts: &[Context<'_>],
    processor: &impl Processor<f32>,
) -> (Array2<f32>, Result<(), GpuSamplingError>) {
    let mut after = logits.clone();
    let mut first = Ok(());
    for (row, context) in contexts.iter().enumerate() {
        let mut one = logits.slice(ndarray::s![row..=row, ..]).to_owned();
        match processor::apply_inplace(&mut one, &[*context], processor) {
            Ok(()) => after.row_mut(row).assign(&one.row(0)),
            Err(error) if first.is_ok() => first = Err(in_row(error, row).into()),
            Err(_) => {}
        }
    }
    (after, first)
}

/// The error of row 0 as that of another row.
fn in_row(error: SamplingError, row: usize) -> SamplingError {
    match error {
        SamplingError::NanLogits { token, .. } => SamplingError::NanLogits { row, token },
        SamplingError::InfiniteLogits { token, .. } => SamplingError::InfiniteLogits { row, token },
        SamplingError::MaskedRow { .. } => SamplingError::MaskedRow { row },
        SamplingError::TemperatureOverflow {
            token,
            logit,
            temperature,
            ..
        } => SamplingError::TemperatureOverflow {
            row,
            token,
            logit,
            temperature,
        },
        error => error,
    }
}

/// The same bits, and the same refusal.
fn same(
    got: &(Array2<f32>, Result<(), GpuSamplingError>),
    want: &(Array2<f32>, Result<(), GpuSamplingError>),
) -> Result<(), TestCaseError> {
    prop_assert_eq!(&got.1, &want.1);
    for (i, (g, w)) in got.0.iter().zip(&want.0).enumerate() {
        prop_assert_eq!(g.to_bits(), w.to_bits(), "element {}: {} for {}", i, g, w);
    }
    Ok(())
}

/// A logit of any kind: masked, one of a few (so that there are ties), usual, tiny, huge; no NaN, no `+inf`.
fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        2 => Just(MASKED),
        4 => (-3..4_i32).prop_map(|x| x as f32),
        8 => -20.0..20.0_f32,
        1 => Just(-0.0),
        1 => (0..0x80_0000_u32, any::<bool>()).prop_map(|(x, sign)| f32::from_bits(x | u32::from(sign) << 31)),
        1 => (0..0x7f80_0000_u32, any::<bool>()).prop_map(|(x, sign)| f32::from_bits(x | u32::from(sign) << 31)),
    ]
}

/// As [`logit`], and sometimes what is refused.
fn any_logit() -> impl Strategy<Value = f32> {
    prop_oneof![400 => logit(), 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)]
}

/// Sizes around those of a word, a workgroup and nothing.
fn vocab() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(1_usize),
        Just(2),
        Just(31),
        Just(33),
        Just(255),
        Just(257),
        1..600_usize
    ]
}

fn rows_of(logit: impl Strategy<Value = f32> + 'static) -> impl Strategy<Value = Array2<f32>> {
    let logit = logit.boxed();
    (0..4_usize, vocab()).prop_flat_map(move |(batch, vocab)| {
        prop::collection::vec(logit.clone(), batch * vocab)
            .prop_map(move |x| Array2::from_shape_vec((batch, vocab), x).unwrap())
    })
}

/// Logits as models make them: some likely tokens, a long tail, a few masked.
fn model_logits(batch: usize, vocab: usize, key: u64) -> Array2<f32> {
    let random = Philox4x32::new(key);
    Array2::from_shape_fn((batch, vocab), |(row, token)| {
        let u = random.uniform_f64(row as u64, token as u64);
        let x = 4.0 * random.normal_f64(1000 + row as u64, token as u64) as f32;
        if u < 0.02 { MASKED } else { x }
    })
}

/// A context for each row.
fn contexts(batch: usize) -> Vec<Context<'static>> {
    vec![Context::new(&[], &[]); batch]
}
