//! One test for each error variant.

use llm_training::TrainingError;
use llm_training::adamw::{self, AdamWConfig};
use llm_training::causal_lm::{self, CausalLmConfig};
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use ndarray::{Array1, Array2, Array3, array};

fn cross_entropy_error(
    labels: &[i64],
    weights: Option<usize>,
    config: &CrossEntropyConfig,
) -> TrainingError {
    let mut logits = Array2::<f64>::zeros((2, 3));
    let labels = Array1::from_vec(labels.to_vec());
    let weights = weights.map(Array1::ones);
    let weights = weights.as_deref();
    let error = cross_entropy::loss(&logits, &labels, weights, config).unwrap_err();
    let others = [
        cross_entropy::losses(&logits, &labels, weights, config).err(),
        cross_entropy::backward(&array![1.0, 1.0], &logits, &labels, weights, config).err(),
        cross_entropy::loss_and_grad(&logits, &labels, weights, config).err(),
        cross_entropy::loss_and_grad_inplace(&mut logits, &labels, weights, config).err(),
    ];
    assert!(
        others.iter().all(|other| other.as_ref() == Some(&error)),
        "{others:?}"
    );
    assert_eq!(logits, Array2::<f64>::zeros((2, 3)));
    error
}

#[test]
fn labels_of_another_shape_are_refused() {
    let error = cross_entropy_error(&[0, 1, 2], None, &CrossEntropyConfig::torch());
    let (expected, got) = (vec![2], vec![3]);
    assert_eq!(error, TrainingError::LabelsShape { expected, got });

    let logits = Array3::<f64>::zeros((2, 3, 4));
    let labels = array![[0, 1, 2]];
    let error = causal_lm::loss(&logits, &labels, &CausalLmConfig::hugging_face()).unwrap_err();
    let (expected, got) = (vec![2, 3], vec![1, 3]);
    assert_eq!(error, TrainingError::LabelsShape { expected, got });
}

#[test]
fn labels_out_of_range_are_refused() {
    for label in [3, -1, i64::MIN, i64::MAX] {
        let error = cross_entropy_error(&[0, label], None, &CrossEntropyConfig::torch());
        assert_eq!(
            error,
            TrainingError::LabelRange {
                row: 1,
                label,
                vocab: 3
            }
        );
    }
    // -100 is a label like others unless it is the ignored one.
    let config = CrossEntropyConfig::new(Reduction::Mean);
    let error = cross_entropy_error(&[-100, 0], None, &config);
    assert_eq!(
        error,
        TrainingError::LabelRange {
            row: 0,
            label: -100,
            vocab: 3
        }
    );

    // The first label of a sequence is not used, the row is that of the logits.
    let logits = Array3::<f64>::zeros((2, 3, 4));
    let labels = array![[99, 0, 1], [99, 0, 4]];
    let error = causal_lm::loss(&logits, &labels, &CausalLmConfig::hugging_face()).unwrap_err();
    assert_eq!(
        error,
        TrainingError::LabelRange {
            row: 4,
            label: 4,
            vocab: 4
        }
    );
}

#[test]
fn class_weights_of_another_length_are_refused() {
    let error = cross_entropy_error(&[0, 1], Some(4), &CrossEntropyConfig::torch());
    assert_eq!(
        error,
        TrainingError::WeightsLen {
            expected: 3,
            got: 4
        }
    );
}

#[test]
fn dout_of_another_length_is_refused() {
    let (dout, logits) = (array![1.0], Array2::<f64>::zeros((2, 3)));
    let config = CrossEntropyConfig::torch();
    let error = cross_entropy::backward(&dout, &logits, &array![0, 1], None, &config).unwrap_err();
    assert_eq!(
        error,
        TrainingError::DoutLen {
            expected: 2,
            got: 1
        }
    );
}

#[test]
fn label_smoothing_that_is_no_fraction_is_refused() {
    for smoothing in [-0.1, 1.5] {
        let config = CrossEntropyConfig::torch().with_label_smoothing(smoothing);
        let error = cross_entropy_error(&[0, 1], None, &config);
        assert_eq!(error, TrainingError::LabelSmoothing(smoothing));
    }
    let config = CrossEntropyConfig::torch().with_label_smoothing(f64::NAN);
    let error = cross_entropy::loss(&array![[0.0]], &array![0], None, &config).unwrap_err();
    assert!(matches!(error, TrainingError::LabelSmoothing(x) if x.is_nan()));
}

#[test]
fn a_mean_over_no_items_is_refused() {
    let config = CrossEntropyConfig::torch().with_reduction(Reduction::MeanOver(0));
    assert_eq!(
        cross_entropy_error(&[0, 1], None, &config),
        TrainingError::ItemCount
    );
    let config = CausalLmConfig::hugging_face().with_num_items_in_batch(0);
    let logits = Array3::<f64>::zeros((1, 2, 3));
    let error = causal_lm::loss_and_grad(&logits, &array![[0, 1]], &config).unwrap_err();
    assert_eq!(error, TrainingError::ItemCount);
}

fn adamw_error(lens: [usize; 5], step: u64, lr: f64, config: &AdamWConfig) -> TrainingError {
    let [mut param, grad, mut m, mut v, mut max_v] = lens.map(Array1::<f64>::ones);
    let before = param.clone();
    let (p, m, v) = (&mut param, &mut m, &mut v);
    let error = adamw::step_amsgrad(p, &grad, m, v, &mut max_v, step, lr, config).unwrap_err();
    if lens[4] == lens[0] {
        assert_eq!(
            adamw::step(p, &grad, m, v, step, lr, config).unwrap_err(),
            error
        );
    }
    assert_eq!(param, before);
    error
}

#[test]
fn states_of_another_shape_are_refused() {
    for (i, name) in [(1, "grad"), (2, "m"), (3, "v"), (4, "max_v")] {
        let mut lens = [2; 5];
        lens[i] = 3;
        let error = adamw_error(lens, 1, 0.1, &AdamWConfig::new());
        let (expected, got) = (vec![2], vec![3]);
        assert_eq!(
            error,
            TrainingError::StateShape {
                name,
                expected,
                got
            }
        );
    }
}

#[test]
fn step_zero_is_refused() {
    assert_eq!(
        adamw_error([2; 5], 0, 0.1, &AdamWConfig::new()),
        TrainingError::Step
    );
}

#[test]
fn learning_rates_outside_their_range_are_refused() {
    for lr in [-0.1, f64::INFINITY] {
        let error = adamw_error([2; 5], 1, lr, &AdamWConfig::new());
        assert_eq!(error, TrainingError::LearningRate(lr));
    }
    let error = adamw_error([2; 5], 1, -1.0, &AdamWConfig::new());
    assert_eq!(error.to_string(), "lr must be finite and >= 0, got -1");
}

#[test]
fn betas_outside_their_range_are_refused() {
    for value in [-0.1, 1.0] {
        let error = adamw_error([2; 5], 1, 0.1, &AdamWConfig::new().with_betas(value, 0.9));
        assert_eq!(
            error,
            TrainingError::Beta {
                name: "beta1",
                value
            }
        );
        let error = adamw_error([2; 5], 1, 0.1, &AdamWConfig::new().with_betas(0.9, value));
        assert_eq!(
            error,
            TrainingError::Beta {
                name: "beta2",
                value
            }
        );
    }
}

#[test]
fn eps_outside_its_range_is_refused() {
    let error = adamw_error([2; 5], 1, 0.1, &AdamWConfig::new().with_eps(-1e-8));
    assert_eq!(error, TrainingError::Eps(-1e-8));
}

#[test]
fn weight_decay_outside_its_range_is_refused() {
    let config = AdamWConfig::new().with_weight_decay(f64::INFINITY);
    let error = adamw_error([2; 5], 1, 0.1, &config);
    assert_eq!(error, TrainingError::WeightDecay(f64::INFINITY));
}

#[test]
fn exponents_that_make_no_norm_are_refused() {
    let grad = array![1.0].into_dyn();
    for p in [0.0, -1.0, f64::INFINITY] {
        let error = clip::global_norm(&[grad.view()], NormType::P(p)).unwrap_err();
        assert_eq!(error, TrainingError::NormExponent(p));
    }
}

#[test]
fn a_negative_largest_norm_is_refused() {
    let mut grad = array![1.0].into_dyn();
    let error = clip::clip_norm(&mut [grad.view_mut()], -1.0, NormType::L2, NonFinite::Keep);
    assert_eq!(error.unwrap_err(), TrainingError::MaxNorm(-1.0));
}

#[test]
fn a_negative_largest_value_is_refused() {
    let mut grad = array![1.0].into_dyn();
    let error = clip::clip_value(&mut [grad.view_mut()], -1.0).unwrap_err();
    assert_eq!(error, TrainingError::ClipValue(-1.0));
}

#[test]
fn a_norm_that_is_not_finite_is_refused_where_the_caller_asks_for_it() {
    let mut grad = array![f32::INFINITY, 1.0].into_dyn();
    let before = grad.clone();
    let error = clip::clip_norm(&mut [grad.view_mut()], 1.0, NormType::L2, NonFinite::Error);
    assert_eq!(
        error.unwrap_err(),
        TrainingError::NonFiniteNorm(f64::INFINITY)
    );
    assert_eq!(grad, before);
    let norm = clip::clip_norm(&mut [grad.view_mut()], 1.0, NormType::L2, NonFinite::Keep);
    assert_eq!(norm.unwrap(), f64::INFINITY);
    assert_eq!(grad, before);
    // torch: the factor is 1 / inf = 0, and 0 * inf is NaN.
    let norm = clip::clip_norm(
        &mut [grad.view_mut()],
        1.0,
        NormType::L2,
        NonFinite::Propagate,
    );
    assert_eq!(norm.unwrap(), f64::INFINITY);
    assert!(grad[0].is_nan() && grad[1] == 0.0);
}
