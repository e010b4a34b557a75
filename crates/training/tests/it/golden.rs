//! Known answers, by hand.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_training::adamw::{self, AdamWConfig};
use llm_training::causal_lm::{self, CausalLmConfig};
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use llm_training::schedule::Schedule;
use ndarray::{Array2, Array3, array};

const CLOSE: Tolerance = Tolerance::new(1e-15, 1e-14);

#[test]
fn cross_entropy_of_known_probabilities() {
    // Logits are logarithms of (1, 2, 5), so the probabilities are 1/8, 2/8, 5/8.
    let logits = array![[1_f64.ln(), 2_f64.ln(), 5_f64.ln()]];
    let config = CrossEntropyConfig::torch();
    let (loss, dlogits) = cross_entropy::loss_and_grad(&logits, &array![1], None, &config).unwrap();
    assert_close(&array![loss], &array![4_f64.ln()], CLOSE);
    assert_close(&dlogits, &array![[0.125, -0.75, 0.625]], CLOSE);

    // Smoothing 0.3: the target is (0.1, 0.8, 0.1).
    let smoothed = config.with_label_smoothing(0.3);
    let (loss, dlogits) =
        cross_entropy::loss_and_grad(&logits, &array![1], None, &smoothed).unwrap();
    let want = 0.1 * 8_f64.ln() + 0.8 * 4_f64.ln() + 0.1 * 1.6_f64.ln();
    assert_close(&array![loss], &array![want], CLOSE);
    assert_close(&dlogits, &array![[0.025, -0.55, 0.525]], CLOSE);
}

#[test]
fn class_weights_weigh_the_mean() {
    // Uniform logits: each loss is w ln 2; the mean divides by the weights of the labels.
    let logits = Array2::<f64>::zeros((3, 2));
    let (labels, weights) = (array![0, 1, -100], array![1.0, 3.0]);
    let config = CrossEntropyConfig::torch();
    let loss = cross_entropy::loss(&logits, &labels, Some(&weights), &config).unwrap();
    assert_close(&array![loss], &array![2_f64.ln()], CLOSE);
    let losses = cross_entropy::losses(&logits, &labels, Some(&weights), &config).unwrap();
    assert_close(&losses, &array![2_f64.ln(), 3.0 * 2_f64.ln(), 0.0], CLOSE);
    // Token 1 has 3/4 of the weight.
    let (_, grad) =
        cross_entropy::loss_and_grad(&logits, &labels, Some(&weights), &config).unwrap();
    assert_close(
        &grad,
        &array![[-0.125, 0.125], [0.375, -0.375], [0.0, 0.0]],
        CLOSE,
    );
}

#[test]
fn nothing_kept_gives_zero_where_torch_gives_nan() {
    let logits = array![[1.0_f32, f32::NAN], [3.0, 4.0]];
    let config = CrossEntropyConfig::torch();
    let (loss, grad) =
        cross_entropy::loss_and_grad(&logits, &array![-100, -100], None, &config).unwrap();
    assert_eq!(loss, 0.0);
    assert_eq!(grad, Array2::<f32>::zeros((2, 2)));
    let weights = array![0.0, 1.0]; // the label that is kept weighs nothing
    let (loss, grad) =
        cross_entropy::loss_and_grad(&array![[1.0, 2.0]], &array![0], Some(&weights), &config)
            .unwrap();
    assert_eq!((loss, grad), (0.0, Array2::zeros((1, 2))));
    let empty = Array2::<f32>::zeros((0, 5));
    assert_eq!(
        cross_entropy::loss(&empty, &array![], None, &config).unwrap(),
        0.0
    );
}

#[test]
fn masked_and_extreme_logits() {
    let config = CrossEntropyConfig::new(Reduction::Sum);
    let inf = f32::INFINITY;
    // A masked entry beside the target has probability 0.
    let logits = array![[0.0, -inf, 0.0]];
    let (loss, grad) = cross_entropy::loss_and_grad(&logits, &array![0], None, &config).unwrap();
    assert_eq!(loss, 2_f64.ln());
    assert_eq!(grad, array![[-0.5, 0.0, 0.5]]);
    // A masked target is infinitely surprising.
    let loss = cross_entropy::loss(&logits, &array![1], None, &config).unwrap();
    assert_eq!(loss, f64::INFINITY);
    // Far apart: no overflow.
    let logits = array![[-3e38_f32, 3e38]];
    let (loss, grad) = cross_entropy::loss_and_grad(&logits, &array![0], None, &config).unwrap();
    assert!((loss - 6e38).abs() < 1e32);
    assert_eq!(grad, array![[-1.0, 1.0]]);
    // What has no answer is NaN.
    for row in [[f32::NAN, 0.0], [inf, 0.0], [-inf, -inf]] {
        let logits = Array2::from_shape_vec((1, 2), row.to_vec()).unwrap();
        let (loss, grad) =
            cross_entropy::loss_and_grad(&logits, &array![1], None, &config).unwrap();
        assert!(
            loss.is_nan() && grad.iter().all(|g| g.is_nan()),
            "{row:?}: {loss} {grad}"
        );
    }
}

#[test]
fn causal_lm_shifts_by_one() {
    // Position 0 predicts label 1, position 1 predicts label 2, position 2 nothing.
    let mut logits = Array3::<f64>::zeros((1, 3, 2));
    logits[[0, 0, 1]] = 3_f64.ln(); // probabilities 1/4, 3/4
    logits[[0, 2, 0]] = 1e9; // must not matter
    let config = CausalLmConfig::hugging_face();
    let (loss, grad) = causal_lm::loss_and_grad(&logits, &array![[7, 1, 0]], &config).unwrap();
    let want = ((4.0_f64 / 3.0).ln() + 2_f64.ln()) / 2.0;
    assert_close(&array![loss], &array![want], CLOSE);
    let want = array![[[0.125, -0.125], [-0.25, 0.25], [0.0, 0.0]]];
    assert_close(&grad, &want, CLOSE);
    let config = config.with_num_items_in_batch(8);
    let divided = causal_lm::loss(&logits, &array![[7, 1, 0]], &config).unwrap();
    assert_close(&array![divided], &array![loss / 4.0], CLOSE);
    // A sequence of one token has nothing to predict; no sequence neither.
    let one = Array3::<f64>::zeros((2, 1, 4));
    assert_eq!(
        causal_lm::loss(&one, &array![[0], [1]], &config).unwrap(),
        0.0
    );
    let none = Array3::<f64>::zeros((2, 0, 4));
    assert_eq!(
        causal_lm::loss(&none, &Array2::zeros((2, 0)), &config).unwrap(),
        0.0
    );
}

#[test]
fn adamw_step_by_hand() {
    // beta1 = beta2 = 0: m = g, v = g^2, so the step is lr sign(g), after the decay.
    let config = AdamWConfig::new()
        .with_betas(0.0, 0.0)
        .with_eps(0.0)
        .with_weight_decay(0.5);
    let (mut p, mut m, mut v) = (array![4.0], array![9.0], array![9.0]);
    adamw::step(&mut p, &array![-3.0], &mut m, &mut v, 7, 0.1, &config).unwrap();
    assert_close(&p, &array![4.0 * 0.95 + 0.1], CLOSE);
    assert_eq!((m[0], v[0]), (-3.0, 9.0));
    // Step 2 with beta1 = 1/2, beta2 = 3/4: m = (1 + 2) / 2 = 1.5, corrected 1.5 / (3/4) = 2;
    // v = 3/4 * 12 + 1/4 * 4 = 10, corrected 10 / (7/16) = 160/7.
    let config = AdamWConfig::new()
        .with_betas(0.5, 0.75)
        .with_eps(0.5)
        .with_weight_decay(0.0);
    let (mut p, mut m, mut v) = (array![1.0], array![1.0], array![12.0]);
    adamw::step(&mut p, &array![2.0], &mut m, &mut v, 2, 0.25, &config).unwrap();
    assert_close(
        &p,
        &array![1.0 - 0.25 * 2.0 / ((160.0_f64 / 7.0).sqrt() + 0.5)],
        CLOSE,
    );
    assert_eq!((m[0], v[0]), (1.5, 10.0));
    // AMSGrad remembers 40 instead of 10.
    let (mut p, mut m, mut v, mut max_v) = (array![1.0], array![1.0], array![12.0], array![40.0]);
    let state = (&mut m, &mut v, &mut max_v);
    adamw::step_amsgrad(
        &mut p,
        &array![2.0],
        state.0,
        state.1,
        state.2,
        2,
        0.25,
        &config,
    )
    .unwrap();
    assert_close(
        &p,
        &array![1.0 - 0.25 * 2.0 / ((640.0_f64 / 7.0).sqrt() + 0.5)],
        CLOSE,
    );
    assert_eq!((v[0], max_v[0]), (10.0, 40.0));
}

#[test]
fn schedules_at_their_corners() {
    let cosine = Schedule::Cosine {
        n_warmup_steps: 4,
        n_training_steps: 12,
        n_cycles: 0.5,
    };
    let rates: Vec<f64> = [0, 1, 4, 8, 12].map(|step| cosine.factor(step)).to_vec();
    let want = [0.0, 0.25, 1.0, 0.5, 0.0];
    assert!(
        rates
            .iter()
            .zip(want)
            .all(|(got, want)| (got - want).abs() < 1e-15),
        "{rates:?}"
    );
    assert_eq!(cosine.factor(20), 1.0); // the wave goes on
    let floor = Schedule::CosineWithMinLr {
        n_warmup_steps: 0,
        n_training_steps: 10,
        n_cycles: 0.5,
        min_lr_rate: 0.1,
    };
    assert_eq!(floor.factor(0), 1.0);
    assert_eq!(floor.factor(5), 0.55); // half way between 1 and 0.1
    assert_eq!(floor.factor(10), 0.1);
    let linear = Schedule::Linear {
        n_warmup_steps: 5,
        n_training_steps: 5,
    };
    assert_eq!([4, 5, 6].map(|step| linear.factor(step)), [0.8, 0.0, 0.0]);
    assert_eq!(Schedule::Constant.learning_rate(0.3, u64::MAX), 0.3);
    let warmup = Schedule::ConstantWithWarmup { n_warmup_steps: 2 };
    assert_eq!(
        [0, 1, 2, 3].map(|step| warmup.factor(step)),
        [0.0, 0.5, 1.0, 1.0]
    );
}

#[test]
fn norms_by_hand() {
    let (a, b) = (array![[2.0_f32, -3.0]].into_dyn(), array![6.0].into_dyn());
    let grads = [a.view(), b.view()];
    assert_eq!(clip::global_norm(&grads, NormType::L2).unwrap(), 7.0); // 4 + 9 + 36
    assert_eq!(clip::global_norm(&grads, NormType::P(1.0)).unwrap(), 11.0);
    assert_eq!(clip::global_norm(&grads, NormType::Inf).unwrap(), 6.0);
    let cube = clip::global_norm(&grads, NormType::P(3.0)).unwrap(); // 8 + 27 + 216
    assert!((cube - 251_f64.cbrt()).abs() < 1e-13);
    assert_eq!(clip::global_norm::<f64>(&[], NormType::L2).unwrap(), 0.0);
    // Squares out of range: 5 times the unit.
    for unit in [1e300, 1e-300] {
        let grad = array![3.0 * unit, 4.0 * unit].into_dyn();
        let norm = clip::global_norm(&[grad.view()], NormType::L2).unwrap();
        assert!((norm / unit - 5.0).abs() < 1e-14);
    }
    let grad = array![1.0, f64::NAN, f64::INFINITY].into_dyn();
    for norm_type in [NormType::L2, NormType::Inf, NormType::P(1.5)] {
        assert!(
            clip::global_norm(&[grad.view()], norm_type)
                .unwrap()
                .is_nan()
        );
    }
}

#[test]
fn clipping_by_hand() {
    let (mut a, mut b) = (array![[2.0, -3.0]].into_dyn(), array![6.0].into_dyn());
    let mut grads = [a.view_mut(), b.view_mut()];
    let norm = clip::clip_norm(&mut grads, 3.5, NormType::L2, NonFinite::Error).unwrap();
    assert_eq!(norm, 7.0);
    // The factor is 3.5 / 7.000001.
    let factor = 3.5 / 7.000001;
    assert_close(&a, &array![[2.0 * factor, -3.0 * factor]], CLOSE);
    assert_close(&b, &array![6.0 * factor], CLOSE);
    let before = a.clone();
    clip::clip_norm(&mut [a.view_mut()], 1e9, NormType::L2, NonFinite::Error).unwrap();
    assert_eq!(a, before);
    let mut grad = array![f64::NAN, f64::INFINITY, -2.0, 0.5].into_dyn();
    clip::clip_value(&mut [grad.view_mut()], 1.0).unwrap();
    assert!(grad[0].is_nan());
    assert_eq!((grad[1], grad[2], grad[3]), (1.0, -1.0, 0.5));
}
