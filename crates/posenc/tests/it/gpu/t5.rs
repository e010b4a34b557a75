//! T5's bias on the GPU: values come through bit by bit, gradients add up.

use llm_numerics::testing::Tolerance;
use llm_posenc::gpu::t5 as gpu_t5;
use llm_posenc::reference::t5 as reference;
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array2, Array3};
use proptest::prelude::*;

use super::{close, close_sums, config, gpu, run, wave};

/// Where a bucket found in f32, as transformers does, may be another than in real numbers: four roundings of 6e-8 of a
/// logarithm below 5 are 1.2e-6 of the distance. The first border is a whole number, and its logarithm 0.
fn is_near_a_border(relative: i64, config: &T5Config) -> bool {
    let distance = relative.unsigned_abs() as f64;
    let mut borders = reference::borders(config).into_iter().skip(1);
    borders.any(|border| (border - distance).abs() <= 1.2e-6 * border)
}

#[test]
fn equals_the_reference() {
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
        prop_assert_eq!(&got, &want.into_dyn()); // copies: the same bits
        let is_near = |i: usize, j: usize| is_near_a_border(j as i64 - (i + past) as i64, &config);
        let mut want = reference::bias(&table.mapv(f64::from), seq, kv_seq, past, &config);
        for ((h, i, j), want) in want.indexed_iter_mut() {
            if is_near(i, j) {
                *want = f64::from(got[[h, i, j]]);
            }
        }
        close(&got, &want, Tolerance::new(0.0, 0.0))?;

        let dbias = Array3::from_shape_fn((heads, seq, kv_seq), |(h, i, j)| match is_near(i, j) {
            true => 0.0,
            false => wave(h + 3 * i + 7 * j),
        });
        let device = gpu.upload(&dbias).unwrap();
        let got = run(&gpu, |r| gpu_t5::backward(r, &device, past, &config));
        let want = reference::backward(&dbias.mapv(f64::from), past, &config);
        // At most 20 additions along a diagonal and 90 over diagonals: 110 roundings of 2^-24.
        let magnitude = reference::backward(&dbias.mapv(|x| f64::from(x).abs()), past, &config);
        close_sums(&got, &want, &magnitude, 110.0 / 16_777_216.0)?;
    });
}
