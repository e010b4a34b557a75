//! Cross-attention: queries of one sequence, keys and values of another, `Mask::Full`.

use llm_attention::ndarray::{Array4, Axis, s};
use llm_attention::{Mask, flash};
use llm_numerics::testing::Tolerance;
use proptest::prelude::*;

use crate::cases::{Case, close, non_empty_cases};

/// As in `properties.rs`; gradients sum twenty terms.
const F64: Tolerance = Tolerance::new(1e-10, 1e-10);

/// Any lengths and widths on either side; every query sees every key.
fn cases() -> impl Strategy<Value = Case> {
    non_empty_cases().prop_map(|mut case| {
        case.config.mask = Mask::Full;
        case
    })
}

proptest! {
    /// The other sequence is a set: in another order its keys and values give the same, and the
    /// gradients come back in that order.
    #[test]
    fn keys_have_no_order(case in cases(), shift in 0_usize..20) {
        let kv_seq = case.k.dim().2;
        let order: Vec<usize> = (0..kv_seq).rev().map(|j| (j + shift) % kv_seq).collect();
        let sort = |x: &Array4<f64>| x.select(Axis(2), &order);
        let mut turned = case.clone();
        (turned.k, turned.v) = (sort(&case.k), sort(&case.v));
        let ((want, want_lse), (out, lse)) = (case.forward(), turned.forward());
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let (want, got) = (case.backward(), turned.backward());
        close(&got.dq, &want.dq, F64)?;
        close(&got.dk, &sort(&want.dk), F64)?;
        close(&got.dv, &sort(&want.dv), F64)?;
    }

    /// Queries do not see each other: each alone gives its row, and the gradients of keys and values
    /// are the sums of what each query alone sends back.
    #[test]
    fn queries_are_on_their_own(case in cases()) {
        let (out, lse) = case.forward();
        let want = case.backward();
        let (mut dk, mut dv) = (Array4::zeros(case.k.dim()), Array4::zeros(case.v.dim()));
        for i in 0..case.q.dim().2 {
            let row = s![.., .., i..=i, ..];
            let one = Case {
                q: case.q.slice(row).to_owned(),
                dout: case.dout.slice(row).to_owned(),
                ..case.clone()
            };
            let (one_out, one_lse) = one.forward();
            close(&one_out, &out.slice(row).to_owned(), F64)?;
            close(&one_lse, &lse.slice(s![.., .., i..=i]).to_owned(), F64)?;
            let got = one.backward();
            close(&got.dq, &want.dq.slice(row).to_owned(), F64)?;
            dk += &got.dk;
            dv += &got.dv;
        }
        close(&dk, &want.dk, F64)?;
        close(&dv, &want.dv, F64)?;
    }

    /// The width of the values is their own: more features change nothing in those that were there.
    #[test]
    fn values_have_a_width_of_their_own(case in cases(), more in 1_usize..4) {
        let (want, want_lse) = case.forward();
        let (batch, heads, kv_seq, width) = case.v.dim();
        let extra = Array4::from_elem((batch, heads, kv_seq, more), 0.5);
        let v = ndarray::concatenate![Axis(3), case.v, extra];
        let (out, lse) = flash::forward_with_lse(&case.q, &case.k, &v, &case.config).unwrap();
        close(&out.slice(s![.., .., .., ..width]).to_owned(), &want, F64)?;
        close(&lse, &want_lse, F64)?;
        prop_assert!(out.slice(s![.., .., .., width..]).iter().all(|x| (x - 0.5).abs() < 1e-12));
    }
}
