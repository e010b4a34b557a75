//! Masks of bits on the GPU equal lists of suppressed tokens.

use llm_sampling::gpu::mask::{self, BitMeaning};
use llm_sampling::suppress::Suppress;
use ndarray::{Array2, Axis};
use proptest::prelude::*;

use super::{
    LARGE_VOCAB, any_logit, apply, contexts, few, gpu, model_logits, on_the_cpu, rows_of, same,
};

fn forbidden(mask: &Array2<u32>, row: usize, vocab: usize, ones: bool) -> Vec<u32> {
    let row = if mask.nrows() == 1 { 0 } else { row };
    let bit = |token: u32| mask[[row, token as usize / 32]] >> (token % 32) & 1 == 1;
    (0..vocab as u32).filter(|&t| bit(t) == ones).collect()
}

fn check(logits: &Array2<f32>, mask: &Array2<u32>, ones: bool) -> Result<(), TestCaseError> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let meaning = if ones {
        BitMeaning::OneForbids
    } else {
        BitMeaning::OneAllows
    };
    let got = apply(&gpu, logits, |r, x| {
        mask::apply_inplace(r, x, &gpu.upload(mask)?, meaning)
    });
    let mut want = (logits.clone(), Ok(()));
    for (row, mut to) in want.0.axis_iter_mut(Axis(0)).enumerate() {
        let suppress = Suppress::new(forbidden(mask, row, logits.ncols(), ones));
        let one = logits.slice(ndarray::s![row..=row, ..]).to_owned();
        to.assign(&on_the_cpu(&one, &contexts(1), &suppress).0.row(0));
    }
    same(&got, &want)
}

#[test]
fn equals_the_cpu() {
    let Some(_) = gpu() else { return };
    proptest!(few(64), |(logits in rows_of(any_logit()), words in prop::collection::vec(any::<u32>(), 80), one in any::<bool>(), ones in any::<bool>())| {
        let rows = if one { 1 } else { logits.nrows() };
        let mask = Array2::from_shape_fn((rows, logits.ncols().div_ceil(32)), |(r, i)| words[(r * 20 + i) % 80]);
        check(&logits, &mask, ones)?;
    });
}

#[test]
fn a_large_vocabulary_equals_the_cpu() {
    let logits = model_logits(2, LARGE_VOCAB, 3);
    let mask = Array2::from_shape_fn((2, LARGE_VOCAB / 32), |(r, i)| {
        (i as u32).wrapping_mul(0x9e37_79b9) ^ r as u32
    });
    check(&logits, &mask, true).unwrap();
}
