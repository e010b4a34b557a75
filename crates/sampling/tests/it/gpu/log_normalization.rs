//! Log-softmax on the GPU: the reference to the last digit, and the refusals of the CPU.

use llm_sampling::gpu::{GpuSamplingError, log_normalization};
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::reference;
use ndarray::{Array2, array};
use proptest::prelude::*;

use super::{
    LARGE_VOCAB, MASKED, any_logit, apply, contexts, few, gpu, model_logits, on_the_cpu, rows_of,
};

/// Half a unit in the last place, the error of the logarithm, and what a rounded weight of each token can do to the sum.
fn close(got: &Array2<f32>, logits: &Array2<f32>) -> Result<(), TestCaseError> {
    for (got, row) in got.rows().into_iter().zip(logits.rows()) {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        for (got, want) in got.iter().zip(reference::categorical::log_softmax(&row)) {
            if want == f64::NEG_INFINITY {
                prop_assert_eq!(*got, MASKED);
                continue;
            }
            let allowed =
                want.abs() * 2_f64.powi(-24) + 2_f64.powi(-28) + row.len() as f64 * 2_f64.powi(-44);
            prop_assert!(
                (f64::from(*got) - want).abs() <= allowed,
                "{} {}",
                got,
                want
            );
        }
    }
    Ok(())
}

#[test]
fn equals_the_reference_and_refuses_what_the_cpu_does() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(128), |(logits in rows_of(any_logit()))| {
        let (got, refused) = apply(&gpu, &logits, log_normalization::apply_inplace);
        let (_, want) = on_the_cpu(&logits, &contexts(logits.nrows()), &LogNormalization);
        prop_assert_eq!(&refused, &want);
        if refused.is_ok() {
            close(&got, &logits)?;
        }
    });
}

#[test]
fn a_large_vocabulary_equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut logits = model_logits(3, LARGE_VOCAB, 11);
    logits.row_mut(2).fill(-7.25); // the sum of 151,936 equal weights
    let (got, refused) = apply(&gpu, &logits, log_normalization::apply_inplace);
    assert_eq!(refused, Ok(()));
    close(&got, &logits).unwrap();
}

/// 150,000 weights, each of which loses nearly a unit if it is cut off instead of rounded: that would be more than the stated bound.
#[test]
fn weights_of_a_flat_tail_are_rounded() {
    let Some(gpu) = gpu() else { return };
    let units = |x: f32| f64::from(x).exp() * 2_f64.powi(43);
    let mut tail = -16.7_f32;
    while !(0.95..0.98).contains(&units(tail).fract()) {
        tail = tail.next_up();
    }
    let mut logits = Array2::from_elem((1, LARGE_VOCAB), tail);
    logits[[0, 0]] = 0.0;
    let (got, _) = apply(&gpu, &logits, log_normalization::apply_inplace);
    close(&got, &logits).unwrap();
}

/// Differences that overflow f32, and weights far below the largest.
#[test]
fn extremes_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    let logits = array![
        [3e38_f32, -3e38, 0.0, MASKED],
        [-3.4e38, -3.4e38, MASKED, MASKED],
        [100.0, 72.0, 71.0, 69.0],
        [1e-40, -1e-40, 0.0, -0.0],
    ];
    let (got, refused) = apply(&gpu, &logits, log_normalization::apply_inplace);
    assert_eq!(refused, Ok(()));
    close(
        &got.slice(ndarray::s![1.., ..]).to_owned(),
        &logits.slice(ndarray::s![1.., ..]).to_owned(),
    )
    .unwrap();
    // -6e38 is beyond f32.
    assert_eq!(got.row(0), array![0.0, MASKED, -3e38, MASKED]);
}

#[test]
fn rows_without_a_likeliest_token_are_refused() {
    let Some(gpu) = gpu() else { return };
    use llm_sampling::SamplingError as E;
    for (logits, want) in [
        (
            array![[0.0, 1.0], [MASKED, MASKED]],
            E::MaskedRow { row: 1 },
        ),
        (
            array![[0.0, f32::INFINITY], [f32::NAN, 0.0]],
            E::InfiniteLogits { row: 0, token: 1 },
        ),
        (
            array![[MASKED, f32::NAN], [MASKED, MASKED]],
            E::NanLogits { row: 0, token: 1 },
        ),
    ] {
        let (after, refused) = apply(&gpu, &logits, log_normalization::apply_inplace);
        assert_eq!(refused, Err(GpuSamplingError::from(want)));
        let stays = |i: usize| {
            after
                .row(i)
                .iter()
                .map(|x| x.to_bits())
                .eq(logits.row(i).iter().map(|x| x.to_bits()))
        };
        assert!(stays(1));
    }
}
