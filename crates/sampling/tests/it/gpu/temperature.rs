//! Temperature on the GPU: the bits of the CPU, and its refusals.

use llm_sampling::SamplingError;
use llm_sampling::gpu::temperature;
use llm_sampling::temperature::Temperature;
use ndarray::{Array2, array};
use proptest::prelude::*;

use super::{
    LARGE_VOCAB, MASKED, any_logit, apply, contexts, few, gpu, logit, model_logits, on_the_cpu,
    rows_of, same,
};

/// Usual temperatures, all that there are, and such whose quotients are tiny or huge.
fn temperatures() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.05..5.0_f64,
        1 => Just(1.0),
        1 => Just(0.1),
        2 => (1_u64..0x7ff0_0000_0000_0000).prop_map(f64::from_bits),
        2 => (-45.0..45.0_f64).prop_map(|x| 10_f64.powf(x)),
    ]
}

#[test]
fn equals_the_cpu_bit_for_bit() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |(logits in rows_of(any_logit()), t in temperatures())| {
        let got = apply(&gpu, &logits, |r, x| temperature::apply_inplace(r, x, t));
        let want = on_the_cpu(&logits, &contexts(logits.nrows()), &Temperature::new(t).unwrap());
        same(&got, &want)?;
    });
}

/// The quotient of `f64`, rounded to `f32`: what the language computes, without this crate.
#[test]
fn is_the_quotient_of_f64() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(x in prop::collection::vec(logit(), 1..400), t in temperatures())| {
        let logits = Array2::from_shape_vec((1, x.len()), x.clone()).unwrap();
        let (got, refused) = apply(&gpu, &logits, |r, x| temperature::apply_inplace(r, x, t));
        let max = x.iter().copied().fold(MASKED, f32::max);
        let overflows = max > MASKED && (f64::from(max) / t) as f32 == f32::INFINITY
            || max < 0.0 && max > MASKED && (f64::from(max) / t) as f32 == MASKED;
        prop_assert_eq!(refused.is_err(), overflows);
        for (got, x) in got.iter().zip(&x) {
            let want = if overflows { *x } else { (f64::from(*x) / t) as f32 };
            prop_assert_eq!(got.to_bits(), want.to_bits());
        }
    });
}

#[test]
fn a_large_vocabulary_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let logits = model_logits(2, LARGE_VOCAB, 5);
    let got = apply(&gpu, &logits, |r, x| temperature::apply_inplace(r, x, 0.7));
    let want = on_the_cpu(&logits, &contexts(2), &Temperature::new(0.7).unwrap());
    same(&got, &want).unwrap();
}

/// Each refusal with its row and token, though later rows are fine, and rows that are refused stay.
#[test]
fn refusals_name_the_first_row_and_token() {
    let Some(gpu) = gpu() else { return };
    let logits = array![
        [1.0_f32, 2.0, 3.0],
        [1.0, 3e38, 3e38],
        [f32::NAN, 1.0, f32::NAN]
    ];
    let (after, refused) = apply(&gpu, &logits, |r, x| temperature::apply_inplace(r, x, 0.5));
    let want = SamplingError::TemperatureOverflow {
        row: 1,
        token: 1,
        logit: f64::from(3e38_f32),
        temperature: 0.5,
    };
    assert_eq!(refused, Err(want.into()));
    assert_eq!(after.row(0), array![2.0, 4.0, 6.0]);
    assert_eq!(after.row(1), logits.row(1));
    assert_eq!(after[[2, 1]], 1.0);
    // The first reason stays, whatever comes later.
    let (_, refused) = apply(&gpu, &array![[3e38_f32]], |r, x| {
        temperature::apply_inplace(r, x, 0.5)?;
        temperature::apply_inplace(r, x, 0.25)
    });
    let (row, token, logit, temperature) = (0, 0, f64::from(3e38_f32), 0.5);
    let want = SamplingError::TemperatureOverflow {
        row,
        token,
        logit,
        temperature,
    };
    assert_eq!(refused, Err(want.into()));
}
