//! KERPLE on the GPU equals the paper's formula within the device's logarithm and power.

use llm_numerics::testing::Tolerance;
use llm_posenc::gpu::kerple as gpu_kerple;
use llm_posenc::kerple::KerpleKernel;
use llm_posenc::reference::kerple as reference;
use ndarray::{Array1, Array3, Axis};
use proptest::prelude::*;

use super::{close, close_sums, config, gpu, run, wave};

#[test]
fn equals_the_reference() {
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
        let want = reference::bias(&wide1, &wide2, seq, kv_seq, kernel);
        // WGSL allows log and log2 an absolute error of 2^-21 near 1 and 3 units in the last place elsewhere; the exponent
        // r2 log2 d is at most 13, and its error grows by that factor: 13 · 2^-21 · ln 2 = 4e-6, and as much from rounding.
        close(&got, &want, Tolerance::new(2e-6, 1e-5))?;

        let dbias = Array3::from_shape_fn((heads, seq, kv_seq), |(h, i, j)| wave(h + 3 * i + 7 * j));
        let device = gpu.upload(&dbias).unwrap();
        let mut recorder = gpu.recorder();
        let (dr1, dr2) = gpu_kerple::backward(&mut recorder, &device, &device1, &device2, kernel).unwrap();
        recorder.submit().unwrap();
        // Linear in r1; by r2 a central difference, off by at most h^2 / (3 r2^2) = 1.4e-8 and 1e-9 from rounding, relative.
        let h = 1e-5;
        let at = |r2: Array1<f64>| reference::bias(&wide1, &r2, seq, kv_seq, kernel);
        let by_r1 = reference::bias(&Array1::ones(heads), &wide2, seq, kv_seq, kernel);
        let by_r2 = (at(&wide2 + h) - at(&wide2 - h)) / (2.0 * h);
        let gradient = |terms: Array3<f64>| terms.sum_axis(Axis(2)).sum_axis(Axis(1));
        let wide = dbias.mapv(f64::from);
        let (terms1, terms2) = (&wide * &by_r1, &wide * &by_r2);
        // A term errs as the bias does (2e-6 absolute on log d, which may be small, so 1e-5 on the whole), then 30 additions.
        for (got, terms) in [(dr1, terms1), (dr2, terms2)] {
            let magnitude = gradient(terms.abs());
            close_sums(&got.download_blocking().unwrap(), &gradient(terms), &magnitude, 1.2e-5)?;
        }
    });
}
