//! Modified scores in `f32`.

use llm_attention::{ScoreMods, reference, score_mods};
use llm_numerics::testing::Tolerance;
use ndarray::{Array1, Array4, s};
use proptest::prelude::*;

use super::choices;
use crate::cases::{Case, cases, close};

/// As in `properties.rs`.
const F32: Tolerance = Tolerance::new(2e-4, 2e-4);

/// How far the gradients of the slopes may be off, one for each head.
fn slope_bounds(case: &Case, mods: &ScoreMods<'_, f64>) -> Array1<f64> {
    // A gradient is the sum over rows of p (dp - <dout, out>) d. With a = <|dout|, weights |v|>, neither the sum of p |dp|
    // nor |<dout, out>| is more than a, so a row adds at most 2 a max|d|, and errs by that times the relative errors of
    // p and dp. That of p is the error of its score and of the log-sum-exp, each a sum of terms that err by 2^-24 of
    // their size for each step: rounded inputs, the product, the softcap, the distance, the bias below 2; the
    // exponential and the logarithm take some steps more. That of dp is `value_dim` steps, and rounded inputs.
    let Some((slopes, origin)) = mods.alibi else {
        return Array1::zeros(0);
    };
    let (batch, n_heads, seq, head_dim) = case.q.dim();
    let (_, n_kv_heads, kv_seq, value_dim) = case.v.dim();
    let size = |x: &Array4<f64>| x.mapv(f64::abs);
    let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(size);
    let (sizes, _) =
        reference::score_mods::forward(&case.q, &case.k, &v, mods, &case.config).unwrap();
    let distances = reference::score_mods::alibi_matrix(origin, seq, kv_seq).mapv(f64::abs);
    let scale = (case.config.scale)
        .unwrap_or(1.0 / (head_dim.max(1) as f64).sqrt())
        .abs();
    let largest = |x: f64, y: &f64| x.max(*y);
    Array1::from_shape_fn(n_heads, |h| {
        let (mut terms, mut score) = (0.0, 0.0_f64);
        for b in 0..batch {
            let (q, k) = (
                q.slice(s![b, h, .., ..]),
                k.slice(s![b, h * n_kv_heads / n_heads, .., ..]),
            );
            score = (scale * q.dot(&k.t())).iter().fold(score, largest);
            for i in 0..seq {
                let row = s![b, h, i, ..];
                let a = (&dout.slice(row) * &sizes.slice(row)).sum();
                terms += 2.0 * a * distances.row(i).fold(0.0, largest);
            }
        }
        let farthest = slopes[h].abs() * distances.iter().fold(0.0, largest);
        let of_score = (head_dim + 4) as f64 * score + 4.0 * farthest + 2.0 * 2.0;
        let steps = 2.0 * of_score + value_dim as f64 + 16.0;
        2_f64.powi(-24) * steps * terms
    })
}

proptest! {
    /// The same in `f32`.
    #[test]
    fn equals_the_reference_in_f32(case in cases(), choice in choices()) {
        let arrays = choice.arrays(&case);
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let wide = |x: &Array4<f32>| x.mapv(f64::from);
        let (slopes, bias) = (arrays.slopes.mapv(|x| x as f32), narrow(&arrays.bias));
        let mods = choice.mods(&arrays);
        let mut mods32 = ScoreMods::<f32>::new();
        mods32.alibi = mods.alibi.map(|(_, origin)| (&*slopes, origin));
        mods32.bias = mods.bias.map(|_| &*bias);
        mods32.mask = mods.mask;
        mods32.dropout = mods.dropout;
        let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(narrow);
        let (out, lse) = score_mods::forward(&q, &k, &v, &mods32, &case.config).unwrap();
        let (want, want_lse) =
            reference::score_mods::forward(&case.q, &case.k, &case.v, &mods, &case.config).unwrap();
        close(&wide(&out), &want, F32)?;
        close(&lse.mapv(f64::from), &want_lse, F32)?;
        let got =
            score_mods::backward(&dout, &q, &k, &v, &out, &lse, &mods32, &case.config).unwrap();
        let want = reference::score_mods::backward(
            &case.dout, &case.q, &case.k, &case.v, &mods, &case.config,
        )
        .unwrap();
        // Sums over all heads and rows of some hundreds of numbers below 10.
        let sums = Tolerance::new(2e-3, 2e-4);
        close(&wide(&got.inputs.dq), &want.inputs.dq, F32)?;
        close(&wide(&got.inputs.dk), &want.inputs.dk, F32)?;
        close(&wide(&got.inputs.dv), &want.inputs.dv, F32)?;
        if let (Some(got), Some(want)) = (&got.dbias, &want.dbias) {
            close(&wide(got), want, sums)?;
        }
        if let (Some(got), Some(want)) = (&got.dslopes, &want.dslopes) {
            let bounds = slope_bounds(&case, &mods);
            for ((&got, want), bound) in got.iter().zip(want).zip(&bounds) {
                let error = (f64::from(got) - want).abs();
                prop_assert!(error <= *bound, "{error} is more than {bound}");
            }
        }
    }
}
