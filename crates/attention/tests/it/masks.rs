//! Laws of the masks and of the softcap: what they are equal to, and what they hide.

use std::num::NonZero;

use llm_attention::CausalAlignment::{BottomRight, TopLeft};
use llm_attention::{Mask, flash, reference};
use llm_numerics::testing::Tolerance;
use ndarray::{array, s};
use proptest::prelude::*;

use crate::cases::{alignments, close, non_empty_cases};

/// As in `properties.rs`.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);

/// Rows of `x` and dots, as a paper draws a mask.
fn drawn(mask: Mask, seq: usize, kv_seq: usize) -> Vec<String> {
    let sees = reference::attention::mask_matrix(mask, seq, kv_seq);
    let row = |row: ndarray::ArrayView1<'_, bool>| {
        row.iter()
            .map(|&sees| if sees { 'x' } else { '.' })
            .collect()
    };
    sees.outer_iter().map(row).collect()
}

#[test]
fn masks_are_as_drawn() {
    // Mistral 7B's window of 3: each token and the two before it (arXiv:2310.06825v1, figure 1).
    let three = NonZero::new(3).unwrap();
    let window = Mask::last_keys(three, BottomRight);
    assert_eq!(
        drawn(window, 5, 5),
        ["x....", "xx...", "xxx..", ".xxx.", "..xxx"]
    );
    // Behind three cached tokens.
    assert_eq!(drawn(window, 2, 5), [".xxx.", "..xxx"]);
    assert_eq!(
        drawn(Mask::last_keys(three, TopLeft), 2, 5),
        ["x....", "xx..."]
    );
    // FlashAttention's window_size=(1, 2).
    let both = Mask::Window {
        left: Some(1),
        right: Some(2),
        alignment: TopLeft,
    };
    assert_eq!(
        drawn(both, 5, 5),
        ["xxx..", "xxxx.", ".xxxx", "..xxx", "...xx"]
    );
    let chunks = Mask::ChunkedCausal {
        chunk: 3,
        alignment: TopLeft,
    };
    // The example in transformers' masking_utils: three tokens a chunk.
    assert_eq!(
        drawn(chunks, 5, 5),
        ["x....", "xx...", "xxx..", "...x.", "...xx"]
    );
    let prefix = Mask::PrefixLm {
        prefix: 2,
        alignment: TopLeft,
    };
    // As T5's figure 3 draws it, with a prefix of two.
    assert_eq!(drawn(prefix, 4, 4), ["xx..", "xx..", "xxx.", "xxxx"]);
}

#[test]
fn a_softcap_by_hand() {
    // tanh(ln 3) = (9 - 1) / (9 + 1) = 0.8, so a score of 2 ln 3 under a cap of 2 is 1.6.
    let q = array![[[[2.0 * 3_f64.ln()]]]];
    let k = array![[[[0.0], [1.0]]]];
    let v = array![[[[0.0], [1.0]]]];
    let config = llm_attention::AttentionConfig::new(Mask::Full).with_softcap(2.0);
    let (out, lse) = flash::forward_with_lse(&q, &k, &v, &config).unwrap();
    let total = 1.0 + 1.6_f64.exp();
    assert!((out[[0, 0, 0, 0]] - 1.6_f64.exp() / total).abs() < 1e-14);
    assert!((lse[[0, 0, 0]] - total.ln()).abs() < 1e-14);
}

proptest! {
    /// Masks that say the same in other words give the same bits.
    #[test]
    fn masks_meet_at_their_ends(mut case in non_empty_cases(), alignment in alignments()) {
        let n = case.q.dim().2.max(case.k.dim().2);
        let window = |left, right| Mask::Window { left, right, alignment };
        let pairs = [
            (window(None, None), Mask::Full),
            (window(Some(n), Some(n)), Mask::Full),
            (window(None, Some(0)), Mask::Causal(alignment)),
            (window(Some(n), Some(0)), Mask::Causal(alignment)),
            (Mask::last_keys(NonZero::new(n).unwrap(), alignment), Mask::Causal(alignment)),
            (Mask::ChunkedCausal { chunk: n, alignment }, Mask::Causal(alignment)),
            (Mask::PrefixLm { prefix: 0, alignment }, Mask::Causal(alignment)),
            (Mask::PrefixLm { prefix: n, alignment }, Mask::Full),
        ];
        for (mask, same) in pairs {
            case.config.mask = same;
            let want = (case.forward(), case.backward());
            case.config.mask = mask;
            prop_assert_eq!((case.forward(), case.backward()), want, "{:?}", mask);
        }
    }

    /// What a query does not see may be anything, NaN too: neither its row nor its gradient changes.
    #[test]
    fn hidden_keys_do_not_matter(
        mut case in non_empty_cases(),
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1e3)],
        j in 0_usize..20,
    ) {
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let j = j % kv_seq;
        let sees = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let ((want, want_lse), want_grads) = (case.forward(), case.backward());
        case.k.slice_mut(s![.., .., j, ..]).fill(junk);
        case.v.slice_mut(s![.., .., j, ..]).fill(junk);
        let ((out, lse), grads) = (case.forward(), case.backward());
        for i in (0..seq).filter(|&i| !sees[[i, j]]) {
            let row = s![.., .., i, ..];
            close(&out.slice(row).to_owned(), &want.slice(row).to_owned(), F64)?;
            close(&grads.dq.slice(row).to_owned(), &want_grads.dq.slice(row).to_owned(), F64)?;
            let row = s![.., .., i];
            close(&lse.slice(row).to_owned(), &want_lse.slice(row).to_owned(), F64)?;
        }
    }

    /// A query that does not see a key gives it no gradient, whatever it is.
    #[test]
    fn hidden_queries_do_not_matter(
        mut case in non_empty_cases(),
        junk in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1e3)],
        i in 0_usize..20,
    ) {
        let (seq, kv_seq) = (case.q.dim().2, case.k.dim().2);
        let i = i % seq;
        let sees = reference::attention::mask_matrix(case.config.mask, seq, kv_seq);
        let want = case.backward();
        case.q.slice_mut(s![.., .., i, ..]).fill(junk);
        case.dout.slice_mut(s![.., .., i, ..]).fill(junk);
        let got = case.backward();
        for j in (0..kv_seq).filter(|&j| !sees[[i, j]]) {
            let row = s![.., .., j, ..];
            close(&got.dk.slice(row).to_owned(), &want.dk.slice(row).to_owned(), F64)?;
            close(&got.dv.slice(row).to_owned(), &want.dv.slice(row).to_owned(), F64)?;
        }
    }

    /// Chunks are sequences of their own.
    #[test]
    fn each_chunk_is_causal_attention_alone(mut case in non_empty_cases(), chunk in 1_usize..22) {
        let n = case.q.dim().2.min(case.k.dim().2);
        case.q = case.q.slice(s![.., .., ..n, ..]).to_owned();
        case.k = case.k.slice(s![.., .., ..n, ..]).to_owned();
        case.v = case.v.slice(s![.., .., ..n, ..]).to_owned();
        case.config.mask = Mask::ChunkedCausal { chunk, alignment: TopLeft };
        let (whole, _) = case.forward();
        case.config.mask = Mask::Causal(TopLeft);
        let (q, k, v) = (case.q.clone(), case.k.clone(), case.v.clone());
        for start in (0..n).step_by(chunk) {
            let rows = s![.., .., start..n.min(start + chunk), ..];
            case.q = q.slice(rows).to_owned();
            case.k = k.slice(rows).to_owned();
            case.v = v.slice(rows).to_owned();
            close(&whole.slice(rows).to_owned(), &case.forward().0, F64)?;
        }
    }

    /// No score passes the cap, and a cap far above the scores changes next to nothing.
    #[test]
    fn a_softcap_bends_large_scores_only(mut case in non_empty_cases(), cap in 0.1_f64..5.0) {
        case.config.softcap = Some(cap);
        let (_, lse) = case.forward();
        let most = cap + (case.k.dim().2 as f64).ln() + 1e-12;
        prop_assert!(lse.iter().all(|&lse| lse == f64::NEG_INFINITY || lse <= most));
        case.config.softcap = None;
        let (want, _) = case.forward();
        // tanh x = x - x^3 / 3: of scores below 200 a cap of 1e9 takes 3e-12.
        case.config.softcap = Some(1e9);
        close(&case.forward().0, &want, Tolerance::new(1e-10, 1e-10))?;
    }
}
