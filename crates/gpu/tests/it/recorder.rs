//! Dispatches in one submission.

use llm_gpu::Grid;
use llm_gpu::testing::gpu;
use ndarray::Array1;

use crate::kernels::{SCALE, ScaleParams};

#[test]
fn a_kernel_does_what_a_loop_does() {
    let Some(gpu) = gpu() else { return };
    let x = Array1::from_iter((0..1000).map(|i| i as f32 - 300.5));
    let on_device = gpu.upload(&x).unwrap();
    let mut recorder = gpu.recorder();
    let params = ScaleParams {
        n: 1000,
        factor: -0.5,
    };
    let grid = Grid::linear(1000, 64).unwrap();
    recorder
        .dispatch(&SCALE, &[], &params, &[on_device.write()], grid)
        .unwrap();
    recorder.submit().unwrap();
    // A product with a power of two is exact.
    assert_eq!(
        on_device.download_blocking().unwrap(),
        (x * -0.5).into_dyn()
    );
}
