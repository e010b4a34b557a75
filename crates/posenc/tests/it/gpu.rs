//! The compute shaders against the reference, on whatever adapter there is (`LLM_GPU=off|auto|require`).

mod alibi;
mod errors;
mod kerple;
mod learned;
mod rope;
mod shaders;
mod sinusoidal;
mod t5;

use llm_numerics::testing::{Tolerance, compare};
use llm_posenc::PosencError;
use llm_posenc::gpu::llm_gpu::testing::gpu;
use llm_posenc::gpu::llm_gpu::{Gpu, GpuElement, GpuTensor, Recorder};
use ndarray::{ArrayD, ArrayRef, Dimension};
use proptest::prelude::*;

/// Records, submits, downloads.
fn run<T: GpuElement>(
    gpu: &Gpu,
    op: impl FnOnce(&mut Recorder) -> Result<GpuTensor<T>, PosencError>,
) -> ArrayD<T> {
    let mut recorder = gpu.recorder();
    let y = op(&mut recorder).unwrap();
    recorder.submit().unwrap();
    y.download_blocking().unwrap()
}

fn close<D: Dimension, E: Dimension>(
    got: &ArrayRef<f32, D>,
    want: &ArrayRef<f64, E>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    compare(got, want, tolerance)
        .map(drop)
        .map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))
}

/// Sums: each may be off by `relative` times the sum of the absolute values of its terms.
fn close_sums<D: Dimension, E: Dimension>(
    got: &ArrayRef<f32, D>,
    want: &ArrayRef<f64, E>,
    magnitude: &ArrayRef<f64, E>,
    relative: f64,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.shape(), want.shape());
    for ((got, want), magnitude) in got.iter().zip(want).zip(magnitude) {
        let allowed = relative * magnitude.abs();
        prop_assert!(
            (f64::from(*got) - want).abs() <= allowed,
            "{got} {want} {allowed}"
        );
    }
    Ok(())
}

/// Each case takes some milliseconds on a software device.
fn config() -> ProptestConfig {
    ProptestConfig::with_cases(48)
}

/// A smooth function of the index: no randomness where none is needed.
fn wave(index: usize) -> f32 {
    (index as f32 * 0.7 + 0.3).sin() * 2.0
}
