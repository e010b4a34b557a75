//! T5's bias on the GPU: values come through bit by bit, gradients add up.

use llm_posenc::gpu::t5 as gpu_t5;
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array2, Array3};
use proptest::prelude::*;

use super::{close_sums, config, gpu, run, wave};

#[test]
fn equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(
        (half_buckets, extra) in (2_usize..12, 1_usize..60),
        direction in prop_oneof![Just(T5Direction::Bidirectional), Just(T5Direction::Causal)],
        (heads, seq, kv_seq, past) in (1_usize..5, 0_usize..20, 0_usize..70, 0_usize..90),
    )| {
        let n_buckets = 2 * half_buckets;
        let config = T5Config::new(n_buckets, n_buckets + extra, direction).unwrap();
        let table = Array2::from_shape_fn((n_buckets, heads), |(b, h)| wave(b * heads + h));
        let device = gpu.upload(&table).unwrap();
        let got = run(&gpu, |r| gpu_t5::bias(r, &device, seq, kv_seq, past, &config));
        let want = t5::bias(&table, seq, kv_seq, past, &config).unwrap();
        prop_assert_eq!(got, want.into_dyn()); // copies: the same bits

        let dbias = Array3::from_shape_fn((heads, seq, kv_seq), |(h, i, j)| wave(h + 3 * i + 7 * j));
        let device = gpu.upload(&dbias).unwrap();
        let got = run(&gpu, |r| gpu_t5::backward(r, &device, past, &config));
        let want = t5::backward(&dbias.mapv(f64::from), past, &config).unwrap();
        // At most 20 additions along a diagonal and 90 over diagonals: 110 roundings of 2^-24.
        let magnitude = t5::backward(&dbias.mapv(|x| f64::from(x).abs()), past, &config).unwrap();
        close_sums(&got, &want, &magnitude, 110.0 / 16_777_216.0)?;

    });
}
