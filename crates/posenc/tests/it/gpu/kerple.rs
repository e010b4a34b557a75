//! KERPLE on the GPU equals the CPU's f64 form within the device's logarithm and power.

use llm_numerics::testing::Tolerance;
use llm_posenc::gpu::kerple as gpu_kerple;
use llm_posenc::kerple::{self, KerpleKernel};
use ndarray::{Array1, Array3};
use proptest::prelude::*;

use super::{close, close_sums, config, gpu, run, wave};

#[test]
fn equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(
        parameters in prop::collection::vec((0.05_f32..2.0, 0.05_f32..1.9), 1..6),
        (seq, kv_seq) in (0_usize..20, 0_usize..100),
        kernel in prop_oneof![Just(KerpleKernel::Logarithmic), Just(KerpleKernel::Power)],
    )| {
        let r1: Array1<f32> = parameters.iter().map(|p| p.0).collect();
        let r2: Array1<f32> = parameters.iter().map(|p| p.1).collect();
        let heads = r1.len();
        let (wide1, wide2) = (r1.mapv(f64::from), r2.mapv(f64::from));
        let (device1, device2) = (gpu.upload(&r1).unwrap(), gpu.upload(&r2).unwrap());
        let got = run(&gpu, |r| gpu_kerple::bias(r, &device1, &device2, seq, kv_seq, kernel));
        let want = kerple::bias(&wide1, &wide2, seq, kv_seq, kernel).unwrap();
        // WGSL allows log and log2 an absolute error of 2^-21 near 1 and 3 units in the last place elsewhere; the exponent
        // r2 log2 d is at most 13, and its error grows by that factor: 13 · 2^-21 · ln 2 = 4e-6, and as much from rounding.
        close(&got, &want, Tolerance::new(2e-6, 1e-5))?;

        let dbias = Array3::from_shape_fn((heads, seq, kv_seq), |(h, i, j)| wave(h + 3 * i + 7 * j));
        let device = gpu.upload(&dbias).unwrap();
        let mut recorder = gpu.recorder();
        let (dr1, dr2) = gpu_kerple::backward(&mut recorder, &device, &device1, &device2, kernel).unwrap();
        recorder.submit().unwrap();
        let (want1, want2) = kerple::backward(&dbias.mapv(f64::from), &wide1, &wide2, kernel).unwrap();
        // A term errs as the bias does (2e-6 absolute on log d, which may be small, so 1e-5 on the whole), then 30 additions.
        let size = dbias.mapv(|x| f64::from(x).abs());
        let (magnitude1, magnitude2) = kerple::backward(&size, &wide1, &wide2, kernel).unwrap();
        close_sums(&dr1.download_blocking().unwrap(), &want1, &magnitude1, 1.2e-5)?;
        close_sums(&dr2.download_blocking().unwrap(), &want2, &magnitude2, 1.2e-5)?;

    });
}
