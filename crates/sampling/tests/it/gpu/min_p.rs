//! Min-p on the GPU keeps the tokens of the CPU.

use llm_sampling::gpu::min_p;
use llm_sampling::min_p::MinP;
use ndarray::array;
use proptest::prelude::*;

use super::{
    LARGE_VOCAB, MASKED, any_logit, apply, contexts, few, gpu, model_logits, on_the_cpu, rows_of,
    same,
};

fn shares() -> impl Strategy<Value = f64> {
    prop_oneof![6 => 0.0..1.0_f64, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(f64::from_bits(1)), 2 => (-300.0..0.0_f64).prop_map(f64::exp)]
}

#[test]
fn equals_the_cpu_bit_for_bit() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(128), |(logits in rows_of(any_logit()), p in shares(), least in prop_oneof![Just(1_usize), 1..20_usize, Just(usize::MAX)])| {
        let got = apply(&gpu, &logits, |r, x| min_p::apply_inplace(r, x, p, least));
        let on_cpu = MinP::new(p, least).unwrap();
        same(&got, &on_the_cpu(&logits, &contexts(logits.nrows()), &on_cpu))?;
    });
}

/// The bound is between two numbers of f32: the ones next to it fall on their sides.
#[test]
fn the_bound_is_that_of_f64() {
    let Some(gpu) = gpu() else { return };
    for (max, p) in [
        (0.0_f32, 0.3_f64),
        (7.5, 0.05),
        (-1e5, 0.9),
        (3.4e38, 0.5),
        (1e-40, 0.999_999),
    ] {
        let near = (f64::from(max) + p.ln()) as f32;
        let row = array![[max, near.next_down(), near, near.next_up().min(max), MASKED]];
        let got = apply(&gpu, &row, |r, x| min_p::apply_inplace(r, x, p, 1));
        let want = on_the_cpu(&row, &contexts(1), &MinP::new(p, 1).unwrap());
        same(&got, &want).unwrap();
        let bound = f64::from(max) + p.ln();
        for (got, x) in got.0.iter().zip(&row) {
            assert_eq!(*got > MASKED, f64::from(*x) >= bound, "{x} {bound}");
        }
    }
}

#[test]
fn a_large_vocabulary_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let logits = model_logits(2, LARGE_VOCAB, 31);
    for least in [1, 100_000] {
        let got = apply(&gpu, &logits, |r, x| {
            min_p::apply_inplace(r, x, 0.05, least)
        });
        let on_cpu = MinP::new(0.05, least).unwrap();
        same(&got, &on_the_cpu(&logits, &contexts(2), &on_cpu)).unwrap();
    }
}
