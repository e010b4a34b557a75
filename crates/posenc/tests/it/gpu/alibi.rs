//! ALiBi on the GPU equals the reference at every origin.

use llm_numerics::testing::Tolerance;
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding};
use llm_posenc::gpu::alibi as gpu_alibi;
use llm_posenc::reference::alibi as reference;
use ndarray::{Array1, Array2, Array3, Array4, Axis};
use proptest::prelude::*;

use super::{close, close_sums, config, gpu, run, wave};

const ORIGINS: [AlibiOrigin; 5] = [
    AlibiOrigin::KeyIndex,
    AlibiOrigin::LastKeyZero,
    AlibiOrigin::AbsoluteDistance,
    AlibiOrigin::SignedDistance,
    AlibiOrigin::PastDistance,
];

/// One product of an f32 and a whole number below 2^24: one rounding.
const PRODUCT: Tolerance = Tolerance::new(0.0, 1.0 / 16_777_216.0);

/// A product, then at most 3 + 20 + 6 additions on the way to the sum: 30 roundings of 2^-24.
const SUM: f64 = 30.0 / 16_777_216.0;

/// Any numbers: those of a model with up to eight heads are powers of two, which hide a rounding.
fn slopes() -> impl Strategy<Value = Array1<f32>> {
    prop::collection::vec(0.0_f32..2.0, 1..9).prop_map(Array1::from)
}

#[test]
fn equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(
        slopes in slopes(),
        seq in 0_usize..20,
        kv_seq in 0_usize..150,
        origin in prop::sample::select(&ORIGINS[..]),
    )| {
        let heads = slopes.len();
        let device = gpu.upload(&slopes).unwrap();
        let got = run(&gpu, |r| gpu_alibi::bias(r, &device, seq, kv_seq, origin));
        close(&got, &reference::bias(&slopes.mapv(f64::from), seq, kv_seq, origin), PRODUCT)?;
        // The same single product on the CPU.
        prop_assert_eq!(got, alibi::bias(&slopes, seq, kv_seq, origin).unwrap().into_dyn());

        let dbias = Array3::from_shape_fn((heads, seq, kv_seq), |(h, i, j)| wave(h + 3 * i + 7 * j));
        let device = gpu.upload(&dbias).unwrap();
        let got = run(&gpu, |r| gpu_alibi::backward(r, &device, origin));
        let want = reference::backward(&dbias.mapv(f64::from), origin);
        let size = match origin {
            AlibiOrigin::SignedDistance | AlibiOrigin::PastDistance => AlibiOrigin::AbsoluteDistance,
            origin => origin,
        };
        let magnitude = reference::backward(&dbias.mapv(|x| f64::from(x).abs()), size);
        close_sums(&got, &want, &magnitude, SUM)?;
    });
}

#[test]
fn padded_batches_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(
        slopes in slopes(),
        mask in (0_usize..4, 0_usize..100).prop_flat_map(|(batch, kv_seq)| {
            let mask = prop::collection::vec(any::<bool>(), batch * kv_seq);
            mask.prop_map(move |m| Array2::from_shape_vec((batch, kv_seq), m).unwrap())
        }),
        seq in 0_usize..4,
        rounding in prop_oneof![Just(AlibiRounding::Product), Just(AlibiRounding::Bfloat16)],
    )| {
        let heads = slopes.len();
        let positions = alibi::key_positions(&mask).unwrap();
        let device_slopes = gpu.upload(&slopes).unwrap();
        let device_positions = gpu.upload(&positions.mapv(|p| p as u32)).unwrap();
        let got = run(&gpu, |r| gpu_alibi::bias_at(r, &device_slopes, &device_positions, rounding));
        let exact = reference::key_positions(&mask);
        let tolerance = match rounding {
            AlibiRounding::Product => PRODUCT,
            _ => Tolerance::new(0.0, 0.0), // f32 holds the product of two bfloat16
        };
        close(&got, &reference::bias_at(&slopes.mapv(f64::from), &exact, rounding), tolerance)?;
        prop_assert_eq!(got, alibi::bias_at(&slopes, &positions, rounding).unwrap().into_dyn());

        let (batch, kv_seq) = mask.dim();
        let dbias = Array4::from_shape_fn((batch, heads, seq, kv_seq), |(b, h, i, j)| wave(b + 2 * h + 3 * i + 7 * j));
        let device = gpu.upload(&dbias).unwrap();
        let got = run(&gpu, |r| gpu_alibi::backward_at(r, &device, &device_positions));
        // The bias is linear in the slopes, so its derivative is the bias of slopes 1.
        let derivative = reference::bias_at(&Array1::ones(heads), &exact, AlibiRounding::Product);
        let gradient = |dbias: Array4<f64>| {
            (dbias * &derivative).sum_axis(Axis(3)).sum_axis(Axis(2)).sum_axis(Axis(0))
        };
        let want = gradient(dbias.mapv(f64::from));
        let magnitude = gradient(dbias.mapv(|x| f64::from(x).abs()));
        close_sums(&got, &want, &magnitude, SUM)?;
    });
}
