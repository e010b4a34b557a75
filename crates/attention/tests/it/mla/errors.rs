//! What latent attention refuses: one test for each rule.

use llm_attention::ndarray::{Array2, Array3, Array4};
use llm_attention::{AttentionConfig, AttentionError, Mask, mla, reference};

use super::{error, ones};

/// 2 heads, 3 queries, 4 keys; 5 unrotated, 2 rotated, 3 value features; latents of 6.
fn arrays() -> (Array4<f64>, Array4<f64>, Array4<f64>, Array2<f64>) {
    let (q, c, r) = (ones([1, 2, 3, 7]), ones([1, 1, 4, 6]), ones([1, 1, 4, 2]));
    (q, c, r, Array2::ones((16, 6)))
}

#[test]
fn latents_have_one_head_and_the_batch_of_the_queries() {
    let (q, c, r, w) = arrays();
    for (name, got, expected) in [
        ("kv_latent", [1, 2, 4, 6], [1, 1, 4, 6]),
        ("kv_latent", [2, 1, 4, 6], [1, 1, 4, 6]),
        ("k_rope", [1, 2, 4, 2], [1, 1, 4, 2]),
        ("k_rope", [1, 1, 5, 2], [1, 1, 4, 2]),
        ("k_rope", [3, 1, 4, 2], [1, 1, 4, 2]),
    ] {
        let want = AttentionError::Shape {
            name,
            expected,
            got,
        };
        let found = if name == "k_rope" {
            error(&q, &c, &ones(got), &w)
        } else {
            error(&q, &ones(got), &r, &w)
        };
        assert_eq!(found, want);
    }
}

#[test]
fn rotated_keys_are_no_longer_than_queries() {
    let (q, c, _, w) = arrays();
    let want = AttentionError::RotaryDim {
        rotary_dim: 8,
        head_dim: 7,
    };
    assert_eq!(error(&q, &c, &ones([1, 1, 4, 8]), &w), want);
    assert_eq!(
        want.to_string(),
        "rotary_dim must be at most 7, the features of a query, got 8"
    );
}

#[test]
fn unrotated_features_are_no_more_than_queries_have() {
    let (q, _, _, w) = arrays();
    let want = AttentionError::NopeDim {
        nope_dim: 8,
        head_dim: 7,
    };
    assert_eq!(mla::absorb_queries(&q, &w, 8).unwrap_err(), want);
    assert_eq!(
        want.to_string(),
        "nope_dim must be at most 7, the features of a query, got 8"
    );
}

#[test]
fn rows_must_be_shared_out_evenly() {
    let (q, c, r, _) = arrays();
    let w = Array2::ones((15, 6));
    let want = AttentionError::HeadRows {
        rows: 15,
        n_heads: 2,
    };
    assert_eq!(error(&q, &c, &r, &w), want);
    assert_eq!(mla::absorb_queries(&q, &w, 5).unwrap_err(), want);
    assert_eq!(
        mla::project_values(&ones([1, 2, 3, 6]), &w, 5).unwrap_err(),
        want
    );
    // No heads, but rows.
    let want = AttentionError::HeadRows {
        rows: 15,
        n_heads: 0,
    };
    assert_eq!(error(&ones([1, 0, 3, 7]), &c, &r, &w), want);
}

#[test]
fn a_head_has_rows_for_its_keys() {
    let (q, c, r, _) = arrays();
    let w = Array2::ones((8, 6));
    let want = AttentionError::NopeRows {
        rows: 4,
        nope_dim: 5,
    };
    assert_eq!(error(&q, &c, &r, &w), want);
    assert_eq!(mla::absorb_queries(&q, &w, 5).unwrap_err(), want);
    assert_eq!(
        mla::project_values(&ones([1, 2, 3, 6]), &w, 5).unwrap_err(),
        want
    );
    assert_eq!(
        want.to_string(),
        "kv_b_proj must have at least nope_dim = 5 rows for each head, got 4"
    );
}

#[test]
fn the_projection_takes_latents() {
    let (q, _, r, w) = arrays();
    let want = AttentionError::LatentDim {
        latent_dim: 7,
        got: 6,
    };
    assert_eq!(error(&q, &ones([1, 1, 4, 7]), &r, &w), want);
    assert_eq!(
        mla::project_values(&ones([1, 2, 3, 7]), &w, 5).unwrap_err(),
        want
    );
    assert_eq!(
        want.to_string(),
        "kv_b_proj must have latent_dim = 7 columns, got 6"
    );
}

#[test]
fn saved_arrays_must_fit() {
    let (q, c, r, w) = arrays();
    let config = AttentionConfig::new(Mask::Full);
    let (good, lse) = (ones([1, 2, 3, 3]), Array3::zeros((1, 2, 3)));
    let bad = ones([1, 2, 3, 4]);
    let shape = |name| AttentionError::Shape {
        name,
        expected: [1, 2, 3, 3],
        got: [1, 2, 3, 4],
    };
    let short = Array3::zeros((1, 2, 4));
    let want_lse = AttentionError::LseShape {
        expected: [1, 2, 3],
        got: [1, 2, 4],
    };
    let run = |dout: &Array4<f64>, out: &Array4<f64>, lse: &Array3<f64>| {
        let naive = mla::backward_naive(dout, &q, &c, &r, &w, out, lse, &config);
        let absorbed = mla::backward_absorbed(dout, &q, &c, &r, &w, out, lse, &config);
        assert_eq!(naive.clone().unwrap_err(), absorbed.unwrap_err());
        naive.unwrap_err()
    };
    assert_eq!(run(&bad, &good, &lse), shape("dout"));
    assert_eq!(run(&good, &bad, &lse), shape("out"));
    assert_eq!(run(&good, &good, &short), want_lse);
    let got = reference::mla::backward(&bad, &q, &c, &r, &w, &config);
    assert_eq!(got.unwrap_err(), shape("dout"));
}

#[test]
fn settings_are_those_of_attention() {
    let (q, c, r, w) = arrays();
    let config = AttentionConfig::new(Mask::Full);
    for (config, want) in [
        (
            config.with_scale(f64::INFINITY),
            AttentionError::Scale { got: f64::INFINITY },
        ),
        (
            config.with_softcap(0.0),
            AttentionError::Softcap { got: 0.0 },
        ),
    ] {
        assert_eq!(
            mla::forward_naive(&q, &c, &r, &w, &config).unwrap_err(),
            want
        );
        assert_eq!(
            mla::forward_absorbed(&q, &c, &r, &w, &config).unwrap_err(),
            want
        );
        assert_eq!(
            reference::mla::forward(&q, &c, &r, &w, &config).unwrap_err(),
            want
        );
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn results_must_fit_into_memory() {
    let (_, c, r, w) = arrays();
    let config = AttentionConfig::new(Mask::Full);
    let seq = 1 << 58;
    let one = ones([1, 2, 1, 7]);
    let q = one.broadcast([1, 2, seq, 7]).unwrap();
    let too_large = |shape| AttentionError::TooLarge { shape };
    let got = mla::forward_naive(&q, &c, &r, &w, &config);
    assert_eq!(got.unwrap_err(), too_large([1, 2, seq, 3]));
    let got = mla::forward_absorbed(&q, &c, &r, &w, &config);
    assert_eq!(got.unwrap_err(), too_large([1, 2, seq, 8]));
    let got = mla::absorb_queries(&q, &w, 5);
    assert_eq!(got.unwrap_err(), too_large([1, 2, seq, 8]));
    let out = ones([1, 2, 1, 6]);
    let got = mla::project_values(&out.broadcast([1, 2, seq, 6]).unwrap(), &w, 5);
    assert_eq!(got.unwrap_err(), too_large([1, 2, seq, 3]));
    // Keys and values of all heads, or a copy of the latents.
    let (c, r) = (ones([1, 1, 1, 6]), ones([1, 1, 1, 2]));
    let c = c.broadcast([1, 1, seq, 6]).unwrap();
    let r = r.broadcast([1, 1, seq, 2]).unwrap();
    let got = mla::forward_naive(&one, &c, &r, &w, &config);
    assert_eq!(got.unwrap_err(), too_large([1, 2, seq, 7]));
    let got = mla::forward_absorbed(&one, &c, &r, &w, &config);
    assert_eq!(got.unwrap_err(), too_large([1, 1, seq, 8]));
}
