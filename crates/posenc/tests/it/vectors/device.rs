//! The GPU tier: where there is a device, each op of a file runs on it too.

use llm_numerics::testing::vectors::{Tier, VectorError};
use llm_posenc::PosencError;
use llm_posenc::gpu::llm_gpu::testing::gpu;
use llm_posenc::gpu::llm_gpu::{Gpu, GpuElement, GpuTensor, Recorder};
use ndarray::ArrayD;

/// The tiers that this machine can run.
pub(super) fn tiers() -> Vec<Tier> {
    match gpu() {
        Some(_) => vec![Tier::Reference, Tier::Cpu, Tier::Gpu],
        None => vec![Tier::Reference, Tier::Cpu],
    }
}

/// Uploads, records, submits and downloads.
pub(super) fn run<T: GpuElement>(
    op: impl FnOnce(&Gpu, &mut Recorder) -> Result<GpuTensor<T>, PosencError>,
) -> Result<ArrayD<T>, VectorError> {
    let gpu = gpu().ok_or_else(|| VectorError::op("no device"))?;
    let mut recorder = gpu.recorder();
    let y = op(&gpu, &mut recorder).map_err(VectorError::op)?;
    recorder.submit().map_err(VectorError::op)?;
    y.download_blocking().map_err(VectorError::op)
}
