//! Top-k on the GPU keeps the tokens of the CPU and of the reference, whatever is equal.

use llm_sampling::gpu::top_k;
use llm_sampling::reference;
use llm_sampling::top_k::{Ties, TopK};
use ndarray::Array2;
use proptest::prelude::*;

use super::{
    LARGE_VOCAB, any_logit, apply, contexts, few, gpu, logit, model_logits, on_the_cpu, rows_of,
    same,
};

fn ties() -> impl Strategy<Value = Ties> {
    prop_oneof![Just(Ties::Kept), Just(Ties::Exact)]
}

fn any_k() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1_usize), 1..10_usize, 1..700_usize, Just(usize::MAX)]
}

#[test]
fn equals_the_cpu_bit_for_bit() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(128), |(logits in rows_of(any_logit()), k in any_k(), ties in ties(), least in prop_oneof![Just(1_usize), 1..20_usize])| {
        let got = apply(&gpu, &logits, |r, x| top_k::apply_inplace(r, x, k, ties, least));
        let top_k = TopK::new(k, ties, least).unwrap();
        same(&got, &on_the_cpu(&logits, &contexts(logits.nrows()), &top_k))?;
    });
}

/// Few different logits, over more than one group: nearly all are equal to others.
#[test]
fn many_equals_are_settled_as_in_the_reference() {
    let Some(gpu) = gpu() else { return };
    let values = [0.0_f32, -0.0, 1.0, 1e-40, -3.0];
    let strategy = (
        prop::collection::vec(0..values.len(), 20_000),
        1..20_000_usize,
        ties(),
    );
    proptest!(few(12), |((places, k, ties) in strategy)| {
        let row: Vec<f32> = places.iter().map(|&i| values[i]).collect();
        let logits = Array2::from_shape_vec((1, row.len()), row.clone()).unwrap();
        let (got, refused) = apply(&gpu, &logits, |r, x| top_k::apply_inplace(r, x, k, ties, 1));
        prop_assert!(refused.is_ok());
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let want = reference::top_k::apply(&row, k, ties, 1);
        for (got, want) in got.iter().zip(want) {
            prop_assert_eq!(f64::from(*got).to_bits(), want.to_bits());
        }
    });
}

#[test]
fn equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(logits in rows_of(logit()), k in any_k(), ties in ties())| {
        let (got, _) = apply(&gpu, &logits, |r, x| top_k::apply_inplace(r, x, k, ties, 1));
        for (got, row) in got.rows().into_iter().zip(logits.rows()) {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            let want = reference::top_k::apply(&row, k, ties, 1);
            prop_assert!(got.iter().zip(&want).all(|(g, w)| f64::from(*g) == *w));
        }
    });
}

#[test]
fn a_large_vocabulary_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    // Steps of 1/64, so that there are thousands of each logit.
    let logits = model_logits(2, LARGE_VOCAB, 21).mapv(|x| (x * 64.0).round() / 64.0);
    for (k, ties) in [(50, Ties::Kept), (50, Ties::Exact), (70_000, Ties::Exact)] {
        let got = apply(&gpu, &logits, |r, x| top_k::apply_inplace(r, x, k, ties, 1));
        let top_k = TopK::new(k, ties, 1).unwrap();
        same(&got, &on_the_cpu(&logits, &contexts(2), &top_k)).unwrap();
    }
}
