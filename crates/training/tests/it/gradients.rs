//! Analytic gradients against finite differences of the reference.

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_training::causal_lm::{self, CausalLmConfig};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use llm_training::reference;
use ndarray::{Array1, Array2, Array3, array};

const CHECK: GradientCheck = GradientCheck::new().with_richardson();

/// Numbers in `[-3, 3]`.
fn logits(tokens: usize, vocab: usize) -> Array2<f64> {
    Array2::from_shape_fn((tokens, vocab), |(t, c)| {
        3.0 * ((t * vocab + c) as f64 * 1.7).sin()
    })
}

#[test]
fn cross_entropy_gradient_with_every_setting() {
    let (logits, labels) = (logits(5, 4), array![2, -100, 0, 3, 3]);
    let weights = array![0.5, 2.0, 1.5, 0.25];
    let reductions = [Reduction::Mean, Reduction::Sum, Reduction::MeanOver(9)];
    for reduction in reductions {
        for smoothing in [0.0, 0.2, 1.0] {
            for weights in [None, Some(&*weights)] {
                let config = CrossEntropyConfig::torch()
                    .with_reduction(reduction)
                    .with_label_smoothing(smoothing);
                let (_, dlogits) =
                    cross_entropy::loss_and_grad(&logits, &labels, weights, &config).unwrap();
                let loss = |x: &Array2<f64>| {
                    reference::cross_entropy::loss(x, &labels, weights, &config).unwrap()
                };
                assert_gradient(loss, &logits, &dlogits, &CHECK);
                let textbook =
                    reference::cross_entropy::gradient(&logits, &labels, weights, &config);
                assert_gradient(loss, &logits, &textbook.unwrap(), &CHECK);
            }
        }
    }
}

#[test]
fn gradient_of_single_losses_takes_an_upstream_gradient() {
    let (logits, labels) = (logits(3, 5), array![4, 0, 2]);
    let dout = Array1::from_vec(vec![0.3, -2.0, 1.1]);
    let config = CrossEntropyConfig::torch().with_label_smoothing(0.1);
    let dlogits = cross_entropy::backward(&dout, &logits, &labels, None, &config).unwrap();
    let loss = |x: &Array2<f64>| {
        (reference::cross_entropy::losses(x, &labels, None, &config).unwrap() * &dout).sum()
    };
    assert_gradient(loss, &logits, &dlogits, &CHECK);
}

#[test]
fn causal_lm_gradient() {
    let logits = logits(6, 4).into_shape_with_order((2, 3, 4)).unwrap();
    let labels = array![[0, 3, -100], [1, 1, 2]];
    let config = CausalLmConfig::hugging_face();
    let (_, dlogits) = causal_lm::loss_and_grad(&logits, &labels, &config).unwrap();
    // The shift by hand.
    let shifted = array![3, -100, -100, 1, 2, -100];
    let loss = |x: &Array3<f64>| {
        let flat = x.to_shape((6, 4)).unwrap();
        reference::cross_entropy::loss(&flat, &shifted, None, &CrossEntropyConfig::torch()).unwrap()
    };
    assert_gradient(loss, &logits, &dlogits, &CHECK);
}
