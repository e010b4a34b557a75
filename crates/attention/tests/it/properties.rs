//! Laws of attention, over the documented domain.

use llm_attention::{CausalAlignment, Mask, flash, reference};
use llm_numerics::testing::Tolerance;
use ndarray::{Array3, Array4, Axis, ShapeBuilder, concatenate, s};
use proptest::prelude::*;

use crate::cases::{alignments, cases, close, masks, non_empty_cases};

/// Sums of at most 20 terms of size 10 in f64, and exponentials of scores below 100.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);
/// The same in f32: scores err by 20 · 10 · 6e-8 at most, gradients multiply that by 10.
const F32: Tolerance = Tolerance::new(2e-4, 2e-4);

const CAUSAL: Mask = Mask::Causal(CausalAlignment::BottomRight);

proptest! {
    /// The tiled path equals the textbook, forward and backward, in f64 and f32.
    #[test]
    fn equals_the_reference(case in cases()) {
        let (q, k, v) = (&case.q, &case.k, &case.v);
        let (want, want_lse) = reference::attention::forward(q, k, v, &case.config).unwrap();
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let want_grads =
            reference::attention::backward(&case.dout, q, k, v, &case.config).unwrap();
        let grads = case.backward();
        close(&grads.dq, &want_grads.dq, F64)?;
        close(&grads.dk, &want_grads.dk, F64)?;
        close(&grads.dv, &want_grads.dv, F64)?;
        let (out, grads) = case.in_f32().unwrap();
        close(&out, &want, F32)?;
        close(&grads.dq, &want_grads.dq, F32)?;
        close(&grads.dk, &want_grads.dk, F32)?;
        close(&grads.dv, &want_grads.dv, F32)?;
    }

    /// Each row is a mean of value rows: between the smallest and the largest of those it sees.
    #[test]
    fn rows_are_convex_combinations_of_values(case in non_empty_cases()) {
        let (out, lse) = case.forward();
        let group = case.q.dim().1 / case.k.dim().1;
        let sees = reference::attention::mask_matrix(case.config.mask, case.q.dim().2, case.k.dim().2);
        for ((b, h, i, d), &x) in out.indexed_iter() {
            if lse[[b, h, i]] == f64::NEG_INFINITY {
                continue;
            }
            let values = case.v.slice(s![b, h / group, .., d]);
            let seen = values.iter().zip(sees.row(i)).filter(|(_, sees)| **sees);
            let (low, high) = seen.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (v, _)| {
                (low.min(*v), high.max(*v))
            });
            prop_assert!(low - 1e-12 <= x && x <= high + 1e-12, "{low} {x} {high}");
        }
        // Weights sum to one: equal values come out as they are.
        let ones = Array4::ones(case.v.dim());
        let out = flash::forward(&case.q, &case.k, &ones, &case.config).unwrap();
        for ((b, h, i, _), &x) in out.indexed_iter() {
            let want = if lse[[b, h, i]] == f64::NEG_INFINITY { 0.0 } else { 1.0 };
            prop_assert!((x - want).abs() < 1e-12);
        }
    }

    /// Without a mask, keys have no order: permuting them with their values changes nothing.
    #[test]
    fn keys_have_no_order(mut case in non_empty_cases(), shift in 0_usize..20) {
        case.config.mask = Mask::Full;
        let (want, want_lse) = case.forward();
        let n = case.k.dim().2;
        // A rotation and a reversal make every permutation of 3 and many of more.
        let order: Vec<usize> = (0..n).rev().map(|j| (j + shift) % n).collect();
        case.k = case.k.select(Axis(2), &order);
        case.v = case.v.select(Axis(2), &order);
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
    }

    /// Causal: output `i` and its gradient have the same bits whatever comes after it; after NaN and infinity, whose
    /// tiles take another order of sums, they are the same to rounding.
    #[test]
    fn the_past_ignores_the_future(
        mut case in non_empty_cases(),
        alignment in alignments(),
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(1e3), Just(-7.0)],
        from in 0_usize..20,
    ) {
        case.config.mask = Mask::Causal(alignment);
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let from = from.min(kv_seq - 1);
        let sees = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let (want, _) = case.forward();
        let want_grads = case.backward();
        case.k.slice_mut(s![.., .., from.., ..]).fill(junk);
        case.v.slice_mut(s![.., .., from.., ..]).fill(junk);
        let (out, _) = case.forward();
        let grads = case.backward();
        for i in (0..seq).filter(|&i| !sees[[i, from]]) {
            let row = s![.., .., i, ..];
            let pairs = [(&out, &want), (&grads.dq, &want_grads.dq)];
            for (got, want) in pairs.map(|(x, y)| (x.slice(row), y.slice(row))) {
                if junk.is_finite() {
                    prop_assert_eq!(got, want);
                } else {
                    close(&got.to_owned(), &want.to_owned(), F64)?;
                }
            }
        }
    }

    /// Causal: no gradient reaches a key from the queries before it, even if these are NaN.
    #[test]
    fn gradients_of_keys_ignore_earlier_queries(
        mut case in non_empty_cases(),
        alignment in alignments(),
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-7.0)],
        until in 0_usize..20,
    ) {
        case.config.mask = Mask::Causal(alignment);
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let until = until.min(seq - 1);
        let sees = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let want = case.backward();
        case.q.slice_mut(s![.., .., ..=until, ..]).fill(junk);
        case.dout.slice_mut(s![.., .., ..=until, ..]).fill(junk);
        let got = case.backward();
        for j in (0..kv_seq).filter(|&j| !sees[[until, j]]) {
            let row = s![.., .., j, ..];
            close(&got.dk.slice(row).to_owned(), &want.dk.slice(row).to_owned(), F64)?;
            close(&got.dv.slice(row).to_owned(), &want.dv.slice(row).to_owned(), F64)?;
        }
    }

    // ANCHOR: tiled
    /// Every tile size gives what one tile gives.
    #[test]
    fn tiled_equals_untiled(mut case in cases(), query_tile in 1_usize..25, key_tile in 1_usize..25) {
        case.config = case.config.with_tile(usize::MAX, usize::MAX);
        let ((want, want_lse), want_grads) = (case.forward(), case.backward());
        case.config = case.config.with_tile(query_tile, key_tile);
        let ((out, lse), grads) = (case.forward(), case.backward());
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        close(&grads.dq, &want_grads.dq, F64)?;
        close(&grads.dk, &want_grads.dk, F64)?;
        close(&grads.dv, &want_grads.dv, F64)?;
    }
    // ANCHOR_END: tiled

    /// Grouped queries are multi-head attention over repeated keys and values.
    #[test]
    fn grouped_queries_equal_repeated_keys(mut case in non_empty_cases()) {
        let group = case.q.dim().1 / case.k.dim().1;
        let (want, want_lse) = case.forward();
        let want_grads = case.backward();
        let order: Vec<usize> = (0..case.q.dim().1).map(|h| h / group).collect();
        case.k = case.k.select(Axis(1), &order);
        case.v = case.v.select(Axis(1), &order);
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let grads = case.backward();
        close(&grads.dq, &want_grads.dq, F64)?;
        for (repeated, want) in [(&grads.dk, &want_grads.dk), (&grads.dv, &want_grads.dv)] {
            let mut sum = Array4::zeros(want.dim());
            for (h, kv_head) in order.iter().enumerate() {
                let mut sum = sum.index_axis_mut(Axis(1), *kv_head);
                sum += &repeated.index_axis(Axis(1), h);
            }
            close(&sum, want, F64)?;
        }
    }

    /// The last queries against all keys are the suffix of the whole computation.
    #[test]
    fn a_cached_prefix_changes_nothing(mut case in non_empty_cases(), prefix in 0_usize..20) {
        case.config.mask = CAUSAL;
        // As many queries as keys.
        let n = case.q.dim().2.min(case.k.dim().2);
        case.q = case.q.slice(s![.., .., ..n, ..]).to_owned();
        case.k = case.k.slice(s![.., .., ..n, ..]).to_owned();
        case.v = case.v.slice(s![.., .., ..n, ..]).to_owned();
        let (want, want_lse) = case.forward();
        let prefix = prefix.min(n - 1);
        case.q = case.q.slice(s![.., .., prefix.., ..]).to_owned();
        let (out, lse) = case.forward();
        close(&out, &want.slice(s![.., .., prefix.., ..]).to_owned(), F64)?;
        close(&lse, &want_lse.slice(s![.., .., prefix..]).to_owned(), F64)?;
    }

    /// A query that sees no key: zeros, `-inf`, no gradient, and none passed on.
    #[test]
    fn rows_that_see_nothing_are_zero(mut case in non_empty_cases(), junk in any::<bool>()) {
        case.config.mask = CAUSAL;
        let blind = case.q.dim().2.saturating_sub(case.k.dim().2);
        let (out, lse) = case.forward();
        prop_assert!(out.slice(s![.., .., ..blind, ..]).iter().all(|x| *x == 0.0));
        prop_assert!(lse.slice(s![.., .., ..blind]).iter().all(|x| *x == f64::NEG_INFINITY));
        prop_assert!(lse.slice(s![.., .., blind..]).iter().all(|x| x.is_finite()));
        let want = case.backward();
        prop_assert!(want.dq.slice(s![.., .., ..blind, ..]).iter().all(|x| *x == 0.0));
        let junk = if junk { f64::NAN } else { 1e9 };
        case.q.slice_mut(s![.., .., ..blind, ..]).fill(junk);
        case.dout.slice_mut(s![.., .., ..blind, ..]).fill(junk);
        let got = case.backward();
        prop_assert!(got.dq.slice(s![.., .., ..blind, ..]).iter().all(|x| *x == 0.0));
        close(&got.dk, &want.dk, F64)?;
        close(&got.dv, &want.dv, F64)?;
    }

    /// Adding one number to all scores of a row (here: a feature that is 1 in every key) changes no weight.
    #[test]
    fn weights_ignore_a_common_shift(mut case in non_empty_cases(), shift in -300.0_f64..300.0) {
        case.config = case.config.with_scale(0.5);
        case.config.softcap = None; // it bends the shift too
        let (want, want_lse) = case.forward();
        let (b, h, n, _) = case.q.dim();
        let (_, kv_heads, m, _) = case.k.dim();
        let extra = Array4::from_elem((b, h, n, 1), 2.0 * shift);
        case.q = concatenate![Axis(3), case.q, extra];
        case.k = concatenate![Axis(3), case.k, Array4::ones((b, kv_heads, m, 1))];
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &(want_lse + shift), F64)?;
    }

    /// Any strides in, any strides out; old content of the outputs does not matter.
    #[test]
    fn strides_do_not_matter(case in cases()) {
        let ((want, want_lse), want_grads) = (case.forward(), case.backward());
        let tokens = |x: &Array4<f64>| {
            // Token-major memory: [batch, seq, heads, features].
            let x = x.view().permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned();
            x.permuted_axes([0, 2, 1, 3])
        };
        let fortran = |x: &Array4<f64>| {
            let mut y = Array4::zeros(x.dim().f());
            y.assign(x);
            y
        };
        let (q, k, v, dout) = (tokens(&case.q), fortran(&case.k), tokens(&case.v), fortran(&case.dout));
        for layout in [&tokens as &dyn Fn(&Array4<f64>) -> Array4<f64>, &fortran] {
            let junk = |x: &Array4<f64>| layout(&Array4::from_elem(x.dim(), f64::NAN));
            let mut out = junk(&want);
            let mut lse = Array3::from_elem(want_lse.dim().f(), f64::NAN);
            flash::forward_into(&q, &k, &v, &case.config, &mut out, None).unwrap();
            close(&out, &want, F64)?;
            out.fill(f64::NAN);
            flash::forward_into(&q, &k, &v, &case.config, &mut out, Some(&mut lse)).unwrap();
            close(&out, &want, F64)?;
            close(&lse, &want_lse, F64)?;
            let (mut dq, mut dk, mut dv) = (junk(&case.q), junk(&case.k), junk(&case.v));
            flash::backward_into(
                &dout, &q, &k, &v, &out, &lse, &case.config, &mut dq, &mut dk, &mut dv,
            ).unwrap();
            close(&dq, &want_grads.dq, F64)?;
            close(&dk, &want_grads.dk, F64)?;
            close(&dv, &want_grads.dv, F64)?;
        }
        // Views that run backwards.
        let flip = s![.., .., .., ..;-1];
        let got = flash::forward(
            &case.q.slice(flip), &case.k.slice(flip), &case.v.slice(flip), &case.config,
        ).unwrap();
        close(&got.slice(flip).to_owned(), &want, F64)?;
    }

    /// A NaN in a key or value reaches the rows that see it, and only those.
    #[test]
    fn nan_is_not_swallowed(mut case in non_empty_cases(), mask in masks(), j in 0_usize..20) {
        case.config.mask = mask;
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let j = j % kv_seq;
        case.v.slice_mut(s![.., .., j, ..]).fill(f64::NAN);
        let sees = reference::attention::mask_matrix(mask, seq, kv_seq);
        let (out, _) = case.forward();
        for ((_, _, i, _), x) in out.indexed_iter() {
            prop_assert_eq!(x.is_nan(), sees[[i, j]]);
        }
    }
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    use crate::cases::Case;
    use llm_attention::AttentionConfig;
    use llm_numerics::testing::compare;

    let sizes = crate::cases::Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 150,
        kv_seq: 170,
        head_dim: 16,
        value_dim: 24,
    };
    let case = Case::new(sizes, AttentionConfig::new(CAUSAL), 3);
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap();
        pool.install(|| (case.forward(), case.backward()))
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
    let (q, k, v) = (&case.q, &case.k, &case.v);
    let (out, _) = reference::attention::forward(q, k, v, &case.config).unwrap();
    compare(&want.0.0, &out, F64).unwrap();
}
