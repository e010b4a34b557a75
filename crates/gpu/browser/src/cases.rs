//! What runs in the browser: uploaded, computed on the device, downloaded, and compared with the same on the CPU.

use llm_gpu::{Gpu, GpuError, GpuTensor, Grid};

use crate::Case;
use crate::kernels::{SCALE, ScaleParams};

/// Lengths around the sizes of a workgroup and of a grid.
const LENGTHS: [usize; 7] = [0, 1, 63, 64, 65, 1000, 100_003];

/// Runs all cases.
pub(crate) async fn run(gpu: &Gpu) -> Result<Vec<Case>, GpuError> {
    let mut cases = Vec::new();
    for n in LENGTHS {
        cases.push(scale(gpu, n).await?);
    }
    Ok(cases)
}

/// One rounding on either side, so the same bits.
async fn scale(gpu: &Gpu, n: usize) -> Result<Case, GpuError> {
    let factor = 0.7;
    let x = numbers(n);
    let want: Vec<f32> = x.iter().map(|x| factor * x).collect();
    let tensor = gpu.upload_slice(&[n], &x)?;
    let mut recorder = gpu.recorder();
    let params = ScaleParams {
        n: n as u32,
        factor,
    };
    let grid = Grid::linear(n, 64)?;
    recorder.dispatch(&SCALE, &[], &params, &[tensor.write()], grid)?;
    recorder.submit()?;
    compare(format!("scale, n = {n}"), &tensor, &want, 0.0).await
}

/// Numbers of many sizes and both signs, the same in each run.
fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let x = ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
            x * (1 << (i % 11)) as f32
        })
        .collect()
}

/// Downloads and compares; `tolerance` is absolute.
async fn compare(
    name: String,
    got: &GpuTensor<f32>,
    want: &[f32],
    tolerance: f64,
) -> Result<Case, GpuError> {
    let got = got.download().await?;
    let mut error = if got.len() == want.len() {
        0.0
    } else {
        f64::NAN
    };
    for (&got, &want) in got.iter().zip(want) {
        let difference = f64::from((got - want).abs());
        // A NaN stays: `max` would lose it.
        if !(difference <= error) {
            error = difference;
        }
    }
    Ok(Case {
        name,
        compared: want.len(),
        error,
        tolerance,
    })
}
