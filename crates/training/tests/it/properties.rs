//! Laws, over the whole documented domain.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_training::adamw::{self, AdamWConfig, Direction};
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use llm_training::reference;
use llm_training::schedule::Schedule;
use ndarray::{Array, Array1, Array2, ArrayD, Axis, Dimension, ShapeBuilder};
use proptest::prelude::*;

fn vector(n: usize, limit: f64) -> impl Strategy<Value = Array1<f64>> {
    prop::collection::vec(-limit..limit, n).prop_map(Array1::from_vec)
}

/// Logits, labels of which some are ignored, and class weights.
#[derive(Clone, Debug)]
struct Batch {
    logits: Array2<f64>,
    labels: Array1<i64>,
    weights: Option<Array1<f64>>,
    config: CrossEntropyConfig,
}

fn batch() -> impl Strategy<Value = Batch> {
    let config = (
        0..3_usize,
        1..50_usize,
        prop_oneof![Just(0.0), 0.0..=1.0, Just(1.0)],
    )
        .prop_map(|(reduction, count, smoothing)| {
            let reduction =
                [Reduction::Mean, Reduction::Sum, Reduction::MeanOver(count)][reduction];
            CrossEntropyConfig::new(reduction)
                .with_ignore_index(-7)
                .with_label_smoothing(smoothing)
        });
    // Rows longer than one block of terms too.
    let shape = (0..6_usize, prop_oneof![1..12_usize, 250..600_usize]);
    (shape, config).prop_flat_map(|((tokens, vocab), config)| {
        let labels = prop_oneof![3 => 0..vocab as i64, 1 => Just(-7)];
        let labels = prop::collection::vec(labels, tokens).prop_map(Array1::from_vec);
        let weights = prop::collection::vec(0.0..3.0, vocab).prop_map(Array1::from_vec);
        (
            vector(tokens * vocab, 30.0),
            labels,
            prop::option::of(weights),
        )
            .prop_map(move |(logits, labels, weights)| Batch {
                logits: logits.into_shape_with_order((tokens, vocab)).unwrap(),
                labels,
                weights,
                config,
            })
    })
}

impl Batch {
    fn loss_and_grad(&self) -> (f64, Array2<f64>) {
        let weights = self.weights.as_deref();
        cross_entropy::loss_and_grad(&self.logits, &self.labels, weights, &self.config).unwrap()
    }
}

fn narrow<D: Dimension>(x: &Array<f64, D>) -> Array<f32, D> {
    x.mapv(|x| x as f32)
}

fn adamw_config() -> impl Strategy<Value = AdamWConfig> {
    (0.0..0.99, 0.0..0.9999, 1e-10..1e-2, 0.0..1.0, any::<bool>()).prop_map(
        |(beta1, beta2, eps, weight_decay, maximize)| {
            let direction = if maximize {
                Direction::Maximize
            } else {
                Direction::Minimize
            };
            AdamWConfig::new()
                .with_betas(beta1, beta2)
                .with_eps(eps)
                .with_weight_decay(weight_decay)
                .with_direction(direction)
        },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    (0..5_usize, 0..30_u64, 0..60_u64, 0.0..3.0, 0.0..1.0).prop_map(
        |(kind, n_warmup_steps, n_training_steps, n_cycles, min_lr_rate)| match kind {
            0 => Schedule::Constant,
            1 => Schedule::ConstantWithWarmup { n_warmup_steps },
            2 => Schedule::Linear {
                n_warmup_steps,
                n_training_steps,
            },
            3 => Schedule::Cosine {
                n_warmup_steps,
                n_training_steps,
                n_cycles,
            },
            _ => Schedule::CosineWithMinLr {
                n_warmup_steps,
                n_training_steps,
                n_cycles,
                min_lr_rate,
            },
        },
    )
}

fn norm_type() -> impl Strategy<Value = NormType> {
    prop_oneof![
        Just(NormType::L2),
        Just(NormType::Inf),
        (0.5..6.0).prop_map(NormType::P)
    ]
}

/// Arrays of several shapes, zero lengths included.
fn grads() -> impl Strategy<Value = Vec<ArrayD<f64>>> {
    let one = (0..5_usize, 0..7_usize, -8..8_i32).prop_flat_map(|(rows, columns, power)| {
        vector(rows * columns, 10_f64.powi(power))
            .prop_map(move |x| x.into_shape_with_order((rows, columns)).unwrap().into_dyn())
    });
    prop::collection::vec(one, 0..5)
}

fn norm(grads: &[ArrayD<f64>], norm_type: NormType) -> f64 {
    let views: Vec<_> = grads.iter().map(|grad| grad.view()).collect();
    clip::global_norm(&views, norm_type).unwrap()
}

proptest! {
    #[test]
    fn cross_entropy_matches_the_reference(batch in batch()) {
        let Batch { logits, labels, weights, config } = &batch;
        let weights = weights.as_deref();
        let want = reference::cross_entropy::loss(logits, labels, weights, config).unwrap();
        let dwant = reference::cross_entropy::gradient(logits, labels, weights, config).unwrap();
        let (loss, grad) = batch.loss_and_grad();
        prop_assert!((loss - want).abs() <= 1e-12 + 1e-11 * want.abs(), "{loss} {want}");
        // Mean divides by the weights of the labels, which may be small.
        let scale = dwant.iter().fold(1.0, |max: f64, g| max.max(g.abs()));
        assert_close(&grad, &dwant, Tolerance::new(1e-12 * scale, 1e-11));
        let alone = cross_entropy::loss(logits, labels, weights, config).unwrap();
        prop_assert!((alone - loss).abs() <= 1e-12 + 1e-12 * loss.abs());
    }

    #[test]
    fn cross_entropy_in_f32_is_as_precise_as_f32(batch in batch()) {
        let (logits, weights) = (narrow(&batch.logits), batch.weights.as_ref().map(narrow));
        let wide = weights.as_ref().map(|w| w.mapv(f64::from));
        let (labels, config) = (&batch.labels, &batch.config);
        let x = logits.mapv(f64::from);
        let want = reference::cross_entropy::loss(&x, labels, wide.as_deref(), config).unwrap();
        let dwant =
            reference::cross_entropy::gradient(&x, labels, wide.as_deref(), config).unwrap();
        let (loss, grad) =
            cross_entropy::loss_and_grad(&logits, labels, weights.as_deref(), config).unwrap();
        // Each row's sum of exponentials has a relative error of some 1e-7.
        let rows = labels.len() as f64 * 3.0;
        prop_assert!((loss - want).abs() <= 1e-6 * rows + 2e-6 * want.abs(), "{loss} {want}");
        // Gradients cancel: relative to the largest.
        let scale = dwant.iter().fold(1.0, |max: f64, g| max.max(g.abs()));
        assert_close(&grad, &dwant, Tolerance::new(2e-6 * scale, 0.0));
    }

    #[test]
    fn rows_of_the_gradient_sum_to_zero(batch in batch()) {
        let (_, grad) = batch.loss_and_grad();
        let scale = grad.iter().fold(1.0, |max: f64, g| max.max(g.abs()));
        for row in grad.rows() {
            prop_assert!(row.sum().abs() < 1e-12 * scale, "{}", row.sum());
        }
    }

    #[test]
    fn a_shift_of_the_logits_changes_nothing(batch in batch(), shift in -50.0..50.0) {
        let (loss, grad) = batch.loss_and_grad();
        let shifted = Batch { logits: &batch.logits + shift, ..batch };
        let (loss_shifted, grad_shifted) = shifted.loss_and_grad();
        prop_assert!((loss - loss_shifted).abs() <= 1e-10 * (1.0 + loss.abs()));
        let scale = grad.iter().fold(1.0, |max: f64, g| max.max(g.abs()));
        assert_close(&grad_shifted, &grad, Tolerance::new(1e-11 * scale, 1e-11));
    }

    #[test]
    fn ignored_rows_have_no_gradient_and_no_say(batch in batch()) {
        let (loss, grad) = batch.loss_and_grad();
        let mut other = batch.clone();
        for (mut row, label) in other.logits.rows_mut().into_iter().zip(&batch.labels) {
            if *label == -7 {
                row.fill(f64::NAN);
            }
        }
        let (other_loss, other_grad) = other.loss_and_grad();
        prop_assert_eq!(loss, other_loss);
        prop_assert_eq!(&grad, &other_grad);
        for (row, label) in grad.rows().into_iter().zip(&batch.labels) {
            prop_assert!(*label != -7 || row.iter().all(|g| *g == 0.0));
        }
    }

    #[test]
    fn the_loss_is_the_reduced_sum_of_the_losses(batch in batch()) {
        let Batch { logits, labels, weights, config } = &batch;
        let losses =
            cross_entropy::losses(logits, labels, weights.as_deref(), config).unwrap();
        let sum = config.with_reduction(Reduction::Sum);
        let loss = cross_entropy::loss(logits, labels, weights.as_deref(), &sum).unwrap();
        prop_assert_eq!(loss, losses.iter().sum::<f64>());
        prop_assert!(losses.iter().all(|l| *l >= -1e-12));
        let over = config.with_reduction(Reduction::MeanOver(4));
        let over = cross_entropy::loss(logits, labels, weights.as_deref(), &over).unwrap();
        prop_assert_eq!(over, loss / 4.0);
    }

    #[test]
    fn in_place_and_other_strides_change_no_bit(batch in batch()) {
        let logits = narrow(&batch.logits);
        let weights = batch.weights.as_ref().map(narrow);
        let (labels, weights) = (&batch.labels, weights.as_deref());
        let (loss, grad) =
            cross_entropy::loss_and_grad(&logits, labels, weights, &batch.config).unwrap();
        let mut other = Array2::zeros(logits.dim().f());
        other.invert_axis(Axis(1));
        other.assign(&logits);
        let (loss_other, grad_other) =
            cross_entropy::loss_and_grad(&other, labels, weights, &batch.config).unwrap();
        prop_assert_eq!((loss, &grad), (loss_other, &grad_other));
        for mut x in [logits, other] {
            let inplace =
                cross_entropy::loss_and_grad_inplace(&mut x, labels, weights, &batch.config);
            prop_assert_eq!(loss, inplace.unwrap());
            prop_assert_eq!(&grad, &x);
        }
    }

    #[test]
    fn adamw_matches_the_reference(
        config in adamw_config(),
        param in -3.0..3.0,
        grads in prop::collection::vec(-2.0..2.0, 0..8),
        lr in 0.0..0.3,
    ) {
        for amsgrad in [false, true] {
            let want = reference::adamw::run(param, &grads, lr, amsgrad, &config);
            let mut p = Array1::from_elem(1, param);
            let (mut m, mut v) = (Array1::zeros(1), Array1::zeros(1));
            let mut max_v = Array1::zeros(1);
            for (t, g) in grads.iter().enumerate() {
                let (g, step) = (Array1::from_elem(1, *g), t as u64 + 1);
                if amsgrad {
                    let (m, v, max_v) = (&mut m, &mut v, &mut max_v);
                    adamw::step_amsgrad(&mut p, &g, m, v, max_v, step, lr, &config).unwrap();
                } else {
                    adamw::step(&mut p, &g, &mut m, &mut v, step, lr, &config).unwrap();
                }
            }
            let tolerance = Tolerance::new(1e-11, 1e-11);
            assert_close(&p, &Array1::from_elem(1, want.param), tolerance);
            assert_close(&m, &Array1::from_elem(1, want.m), tolerance);
            assert_close(&v, &Array1::from_elem(1, want.v), tolerance);
            if amsgrad {
                assert_close(&max_v, &Array1::from_elem(1, want.max_v), tolerance);
            }
        }
    }

    #[test]
    fn adamw_without_gradient_only_decays(
        config in adamw_config(), param in vector(9, 5.0), lr in 0.0..0.5, step in 1..u64::MAX,
    ) {
        let zeros = Array1::zeros(9);
        let (mut p, mut m, mut v) = (param.clone(), zeros.clone(), zeros.clone());
        adamw::step(&mut p, &zeros, &mut m, &mut v, step, lr, &config).unwrap();
        prop_assert_eq!(p, param * (1.0 - lr * config.weight_decay));
        prop_assert_eq!((&m, &v), (&zeros, &zeros));
    }

    #[test]
    fn maximizing_is_minimizing_the_negative(
        config in adamw_config(), param in vector(9, 5.0), grad in vector(9, 5.0), lr in 0.0..0.5,
    ) {
        let run = |grad: &Array1<f64>, direction| {
            let (mut p, mut m, mut v) = (param.clone(), Array1::zeros(9), Array1::zeros(9));
            let config = config.with_direction(direction);
            adamw::step(&mut p, grad, &mut m, &mut v, 1, lr, &config).unwrap();
            p
        };
        prop_assert_eq!(run(&grad, Direction::Maximize), run(&-&grad, Direction::Minimize));
    }

    #[test]
    fn adamw_does_not_mix_elements_nor_mind_strides(
        config in adamw_config(), x in vector(20, 3.0), grad in vector(20, 3.0), step in 1..9_u64,
    ) {
        let x = narrow(&x).into_shape_with_order((4, 5)).unwrap();
        let grad = narrow(&grad).into_shape_with_order((4, 5)).unwrap();
        let start = [x.clone(), &x * 0.1, x.mapv(|x| x * x), x.mapv(f32::abs)];
        let [mut p, mut m, mut v, mut max_v] = start.clone();
        adamw::step(&mut p, &grad, &mut m, &mut v, step, 0.1, &config).unwrap();
        let [mut pt, mut mt, mut vt, _] = start.clone().map(|x| x.reversed_axes());
        let (gt, s) = (grad.t(), step);
        adamw::step(&mut pt, &gt, &mut mt, &mut vt, s, 0.1, &config).unwrap();
        prop_assert_eq!((&p, &m, &v), (&pt.reversed_axes(), &mt.reversed_axes(), &vt.reversed_axes()));

        let [mut p, mut m, mut v, _] = start.clone();
        adamw::step_amsgrad(&mut p, &grad, &mut m, &mut v, &mut max_v, s, 0.1, &config).unwrap();
        let [mut pt, mut mt, mut vt, mut xt] = start.map(|x| x.reversed_axes());
        adamw::step_amsgrad(&mut pt, &gt, &mut mt, &mut vt, &mut xt, s, 0.1, &config).unwrap();
        prop_assert_eq!((&p, &max_v), (&pt.reversed_axes(), &xt.reversed_axes()));
    }

    #[test]
    fn schedules_match_the_reference(schedule in schedule(), step in 0..100_u64) {
        let want = reference::schedule::factor(&schedule, step as f64);
        prop_assert!((schedule.factor(step) - want).abs() < 1e-12);
        prop_assert_eq!(schedule.learning_rate(3e-4, step), 3e-4 * schedule.factor(step));
    }

    #[test]
    fn warm_up_rises_and_meets_the_decay(schedule in schedule(), n in 1..30_u64) {
        let schedule = match schedule {
            Schedule::Constant => Schedule::ConstantWithWarmup { n_warmup_steps: n },
            Schedule::Linear { .. } => {
                Schedule::Linear { n_warmup_steps: n, n_training_steps: 3 * n }
            }
            Schedule::Cosine { n_cycles, .. } => {
                Schedule::Cosine { n_warmup_steps: n, n_training_steps: 3 * n, n_cycles }
            }
            other => other,
        };
        let n = match schedule {
            Schedule::CosineWithMinLr { n_warmup_steps, .. }
            | Schedule::ConstantWithWarmup { n_warmup_steps } => n_warmup_steps,
            _ => n,
        };
        for step in 1..n {
            prop_assert!(schedule.factor(step) > schedule.factor(step - 1));
        }
        prop_assert_eq!(schedule.factor(n), 1.0); // the warm-up would reach 1 there as well
    }

    #[test]
    fn decays_fall_and_stay_in_range(warmup in 0..20_u64, decay in 1..60_u64, low in 0.0..1.0) {
        let (n_warmup_steps, n_training_steps) = (warmup, warmup + decay);
        let schedules = [
            (Schedule::Linear { n_warmup_steps, n_training_steps }, 0.0),
            (Schedule::Cosine { n_warmup_steps, n_training_steps, n_cycles: 0.5 }, 0.0),
            (
                Schedule::CosineWithMinLr {
                    n_warmup_steps, n_training_steps, n_cycles: 0.5, min_lr_rate: low,
                },
                low,
            ),
        ];
        for (schedule, low) in schedules {
            for step in n_warmup_steps..n_training_steps {
                let (now, next) = (schedule.factor(step), schedule.factor(step + 1));
                prop_assert!(now >= next && (low - 1e-12..=1.0).contains(&next));
                // Continuous: no step is steeper than a cosine's.
                prop_assert!(now - next <= 1.6 / decay as f64);
            }
            prop_assert!((schedule.factor(n_training_steps) - low).abs() < 1e-12);
        }
    }

    #[test]
    fn norms_match_the_reference(grads in grads(), norm_type in norm_type()) {
        let flat: Vec<f64> = grads.iter().flatten().copied().collect();
        let want = reference::clip::norm(&flat, norm_type);
        let got = norm(&grads, norm_type);
        prop_assert!((got - want).abs() <= 1e-12 * want, "{got} {want}");
    }

    #[test]
    fn clipping_never_raises_the_norm_nor_turns_the_gradient(
        grads in grads(), norm_type in norm_type(), max_norm in 0.0..1e9,
    ) {
        let before = norm(&grads, norm_type);
        let mut clipped = grads.clone();
        let mut views: Vec<_> = clipped.iter_mut().map(|grad| grad.view_mut()).collect();
        let returned = clip::clip_norm(&mut views, max_norm, norm_type, NonFinite::Error).unwrap();
        prop_assert_eq!(returned, before);
        let after = norm(&clipped, norm_type);
        prop_assert!(after <= max_norm * (1.0 + 1e-12) && after <= before * (1.0 + 1e-12));
        if before + 1e-6 <= max_norm {
            prop_assert_eq!(&clipped, &grads);
        }
        let flat: Vec<f64> = grads.iter().flatten().copied().collect();
        let want = Array1::from_vec(reference::clip::clip_norm(&flat, max_norm, norm_type));
        let got = Array1::from_iter(clipped.iter().flatten().copied());
        assert_close(&got, &want, Tolerance::new(0.0, 1e-12));
    }

    #[test]
    fn clipping_values_matches_the_reference(grads in grads(), limit in 0.0..10.0) {
        let flat: Vec<f64> = grads.iter().flatten().copied().collect();
        let mut clipped = grads;
        let mut views: Vec<_> = clipped.iter_mut().map(|grad| grad.view_mut()).collect();
        clip::clip_value(&mut views, limit).unwrap();
        let got: Vec<f64> = clipped.iter().flatten().copied().collect();
        prop_assert_eq!(got, reference::clip::clip_value(&flat, limit));
    }
}

/// Sizes that are cut into several tasks, in any strides.
#[test]
fn tasks_and_strides_change_no_bit_of_a_norm() {
    let grad = Array2::from_shape_fn((400, 351), |(i, j)| ((i * 37 + j * 11) % 199) as f32 - 99.0);
    let mut other = Array2::zeros(grad.dim().f());
    other.assign(&grad);
    let (mut grad, mut other) = (grad.into_dyn(), other.into_dyn());
    for norm_type in [
        NormType::L2,
        NormType::Inf,
        NormType::P(1.0),
        NormType::P(2.5),
    ] {
        let norm = clip::global_norm(&[grad.view()], norm_type).unwrap();
        assert_eq!(norm, clip::global_norm(&[other.view()], norm_type).unwrap());
        let want = {
            let flat: Vec<f64> = grad.iter().map(|g| f64::from(*g)).collect();
            reference::clip::norm(&flat, norm_type)
        };
        assert!((norm - want).abs() < 1e-9 * want);
    }
    for grad in [&mut grad, &mut other] {
        clip::clip_norm(&mut [grad.view_mut()], 1.0, NormType::L2, NonFinite::Error).unwrap();
    }
    assert_eq!(grad, other);
    let sliced = grad.view_mut();
    let mut sliced = sliced.into_dimensionality::<ndarray::Ix2>().unwrap();
    let mut sliced = sliced.slice_mut(ndarray::s![.., ..;2]).into_dyn();
    clip::clip_value(&mut [sliced.view_mut()], 0.0).unwrap();
    assert!(sliced.iter().all(|g| *g == 0.0));
}

/// Parameters that are cut into several tasks: each element as if alone.
#[test]
fn tasks_change_no_bit_of_a_step() {
    let wave = |phase: f32| Array1::from_shape_fn(150_001, |i| (i as f32 * 0.37 + phase).sin());
    let (start, grad, config) = (wave(0.0), wave(1.0), AdamWConfig::new());
    let (mut p, mut m, mut v) = (start.clone(), wave(2.0), wave(3.0).mapv(f32::abs));
    let (m0, v0) = (m.clone(), v.clone());
    adamw::step(&mut p, &grad, &mut m, &mut v, 3, 0.01, &config).unwrap();
    for i in (0..150_001).step_by(7919).chain([65_535, 65_536, 150_000]) {
        let one = |x: &Array1<f32>| Array1::from_elem(1, x[i]);
        let (mut p1, mut m1, mut v1) = (one(&start), one(&m0), one(&v0));
        adamw::step(&mut p1, &one(&grad), &mut m1, &mut v1, 3, 0.01, &config).unwrap();
        assert_eq!((p1[0], m1[0], v1[0]), (p[i], m[i], v[i]));
    }
}
