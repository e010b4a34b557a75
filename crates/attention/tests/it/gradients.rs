//! Analytic gradients against finite differences of the reference.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, reference};
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use ndarray::Array4;

use crate::cases::{Case, Sizes};

#[test]
fn gradients_equal_finite_differences() {
    let sizes = Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 4,
        kv_seq: 6,
        head_dim: 3,
        value_dim: 5,
    };
    let fewer_keys = Sizes { kv_seq: 3, ..sizes };
    let decode = Sizes { seq: 1, ..sizes };
    let alignments = [CausalAlignment::TopLeft, CausalAlignment::BottomRight];
    let masks = alignments.into_iter().flat_map(|alignment| {
        [
            Mask::Full,
            Mask::Causal(alignment),
            Mask::Window {
                left: Some(1),
                right: Some(1),
                alignment,
            },
            Mask::ChunkedCausal {
                chunk: 2,
                alignment,
            },
            Mask::PrefixLm {
                prefix: 2,
                alignment,
            },
        ]
    });
    for sizes in [sizes, fewer_keys, decode] {
        for mask in masks.clone() {
            let config = AttentionConfig::new(mask).with_tile(2, 2);
            for config in [config, config.with_scale(-1.3).with_softcap(0.9)] {
                check(&Case::new(sizes, config, 11));
            }
        }
    }
}

fn check(case: &Case) {
    let loss = |q: &Array4<f64>, k: &Array4<f64>, v: &Array4<f64>| {
        let (out, _) = reference::attention::forward(q, k, v, &case.config).unwrap();
        (out * &case.dout).sum()
    };
    let (q, k, v) = (&case.q, &case.k, &case.v);
    let settings = GradientCheck::new();
    for got in [
        case.backward(),
        reference::attention::backward(&case.dout, q, k, v, &case.config).unwrap(),
    ] {
        assert_gradient(|q| loss(q, k, v), q, &got.dq, &settings);
        assert_gradient(|k| loss(q, k, v), k, &got.dk, &settings);
        assert_gradient(|v| loss(q, k, v), v, &got.dv, &settings);
    }
}
