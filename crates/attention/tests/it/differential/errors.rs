//! What differential attention refuses.

use llm_attention::differential::{self, lambda};
use llm_attention::ndarray::{Array1, Array3, Array4, ArrayRef4, array};
use llm_attention::{AttentionConfig, AttentionError, Mask, reference};

fn ones(shape: [usize; 4]) -> Array4<f64> {
    Array4::ones(shape)
}

/// The error of all functions, which must be the same.
fn error(
    q: [&ArrayRef4<f64>; 2],
    k: [&ArrayRef4<f64>; 2],
    v: &ArrayRef4<f64>,
    n_lambda: usize,
    config: &AttentionConfig,
) -> AttentionError {
    let lambda = Array1::zeros(n_lambda);
    let error = differential::forward(q, k, v, &lambda, config).unwrap_err();
    let got = differential::forward_with_saved(q, k, v, &lambda, config);
    assert_eq!(got.unwrap_err(), error);
    let got = reference::differential::forward(q, k, v, &lambda, config);
    assert_eq!(got.unwrap_err(), error);
    error
}

#[test]
fn pairs_must_have_one_shape() {
    let config = AttentionConfig::new(Mask::Full);
    let (q, k) = (ones([1, 4, 3, 8]), ones([1, 2, 5, 8]));
    let shape = |name, expected, got| AttentionError::Shape {
        name,
        expected,
        got,
    };
    let other = ones([1, 4, 2, 8]);
    let want = shape("q[1]", [1, 4, 3, 8], [1, 4, 2, 8]);
    assert_eq!(error([&q, &other], [&k, &k], &k, 4, &config), want);
    let other = ones([1, 1, 5, 8]);
    let want = shape("k[1]", [1, 2, 5, 8], [1, 1, 5, 8]);
    assert_eq!(error([&q, &q], [&k, &other], &k, 4, &config), want);
    let other = ones([1, 2, 6, 8]);
    let want = shape("v", [1, 2, 5, 8], [1, 2, 6, 8]);
    assert_eq!(error([&q, &q], [&k, &k], &other, 4, &config), want);
}

#[test]
fn each_head_has_a_lambda() {
    let config = AttentionConfig::new(Mask::Full);
    let (q, k) = (ones([1, 4, 3, 8]), ones([1, 2, 5, 8]));
    for got in [0, 1, 2, 5] {
        let want = AttentionError::Lambda { n_heads: 4, got };
        assert_eq!(error([&q, &q], [&k, &k], &k, got, &config), want);
    }
    assert_eq!(
        AttentionError::Lambda { n_heads: 4, got: 1 }.to_string(),
        "lambda must have one number for each of 4 heads, got 1"
    );
}

#[test]
fn settings_are_those_of_attention() {
    let config = AttentionConfig::new(Mask::Full).with_softcap(-1.0);
    let (q, k) = (ones([1, 4, 3, 8]), ones([1, 2, 5, 8]));
    let want = AttentionError::Softcap { got: -1.0 };
    assert_eq!(error([&q, &q], [&k, &k], &k, 4, &config), want);
}

#[test]
fn the_start_must_be_a_number() {
    let x = array![1.0];
    let want = AttentionError::LambdaInit { got: f64::INFINITY };
    let got = lambda::forward([&x, &x], [&x, &x], f64::INFINITY);
    assert_eq!(got.unwrap_err(), want);
    let got = reference::differential::lambda([&x, &x], [&x, &x], f64::INFINITY);
    assert_eq!(got.unwrap_err(), want);
}

#[test]
fn what_comes_back_must_fit() {
    let config = AttentionConfig::new(Mask::Full);
    let (q, k, lambda) = (ones([1, 4, 3, 8]), ones([1, 2, 5, 8]), Array1::zeros(4));
    let (q, k): ([&ArrayRef4<f64>; 2], [&ArrayRef4<f64>; 2]) = ([&q, &q], [&k, &k]);
    let v = ones([1, 2, 5, 6]);
    let (out, saved) = differential::forward_with_saved(q, k, &v, &lambda, &config).unwrap();
    let shape = |name| AttentionError::Shape {
        name,
        expected: [1, 4, 3, 6],
        got: [1, 4, 3, 7],
    };
    let bad = ones([1, 4, 3, 7]);
    let got = differential::backward(&bad, q, k, &v, &lambda, &saved, &config);
    assert_eq!(got.unwrap_err(), shape("dout"));
    let got = reference::differential::backward(&bad, q, k, &v, &lambda, &config);
    assert_eq!(got.unwrap_err(), shape("dout"));
    for (m, name) in ["saved.outs[0]", "saved.outs[1]"].into_iter().enumerate() {
        let mut saved = saved.clone();
        saved.outs[m] = bad.clone();
        let got = differential::backward(&out, q, k, &v, &lambda, &saved, &config);
        assert_eq!(got.unwrap_err(), shape(name));
    }
    for m in [0, 1] {
        let mut saved = saved.clone();
        saved.lses[m] = Array3::zeros((1, 4, 2));
        let got = differential::backward(&out, q, k, &v, &lambda, &saved, &config);
        let want = AttentionError::LseShape {
            expected: [1, 4, 3],
            got: [1, 4, 2],
        };
        assert_eq!(got.unwrap_err(), want);
    }
}
