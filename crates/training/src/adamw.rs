//! AdamW: Adam with weight decay that does not pass through the moments.

use llm_numerics::{Float, simd, threads};
use ndarray::{ArrayRef, Dimension, Zip};

use crate::TrainingError;

/// Elements that are worth a task of their own.
const TASK: usize = 64 << 10;

/// Which way the objective goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Descends: the gradient is of a loss.
    Minimize,
    /// Ascends: torch's `maximize=True`.
    Maximize,
}

/// Settings of AdamW; the learning rate is an argument of each step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamWConfig {
    /// Decay rate of the mean of the gradients, in `[0, 1)`.
    pub beta1: f64,
    /// Decay rate of the mean of their squares, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Share of a parameter that is taken off per step, in units of the learning rate.
    pub weight_decay: f64,
    /// Which way the objective goes.
    pub direction: Direction,
}

impl AdamWConfig {
    /// The defaults of `torch.optim.AdamW`: betas 0.9 and 0.999, eps 1e-8, weight decay 0.01, minimize.
    ///
    /// (optax has weight decay 1e-4, the Hugging Face `Trainer` 0.)
    #[must_use]
    pub const fn new() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            direction: Direction::Minimize,
        }
    }

    /// Sets [`beta1`](Self::beta1) and [`beta2`](Self::beta2).
    #[must_use]
    pub const fn with_betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.beta1 = beta1;
        self.beta2 = beta2;
        self
    }

    /// Sets [`eps`](Self::eps).
    #[must_use]
    pub const fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the [`weight_decay`](Self::weight_decay).
    #[must_use]
    pub const fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the [`direction`](Self::direction).
    #[must_use]
    pub const fn with_direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    fn check(&self) -> Result<(), TrainingError> {
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(TrainingError::Beta { name, value });
            }
        }
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(TrainingError::Eps(self.eps));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(TrainingError::WeightDecay(self.weight_decay));
        }
        Ok(())
    }
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// One step of AdamW on one parameter array, in place.
///
/// ```text
/// p <- p (1 - lr weight_decay)
/// m <- m + (1 - beta1) (g - m)
/// v <- beta2 v + (1 - beta2) g^2
/// p <- p - lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
/// ```
///
/// # Shapes
///
/// - `param`, `grad`, `m`, `v`: any, the same; any strides. `m` and `v` start as zeros.
/// - `step`: counted from 1
///
/// # Errors
///
/// - [`TrainingError::StateShape`] if an array does not have the shape of `param`.
/// - [`TrainingError::Step`] if `step` is 0.
/// - [`TrainingError::LearningRate`], [`TrainingError::Beta`], [`TrainingError::Eps`],
///   [`TrainingError::WeightDecay`] if a number is outside its range.
///
/// Nothing is written if an error is returned.
///
/// # Precision
///
/// The factors are computed in `f64` and rounded to `F`, the rest is in `F`. Elements
/// do not mix: the same bits for any number of threads and any strides. NaN in the
/// gradient makes that element NaN. With `eps == 0` an element that never had a
/// gradient becomes NaN, as in torch.
///
/// # Example
///
/// ```
/// use llm_training::adamw::{self, AdamWConfig};
/// use ndarray::array;
///
/// let (mut param, grad) = (array![1.0, 1.0], array![0.3, -20.0]);
/// let (mut m, mut v) = (array![0.0, 0.0], array![0.0, 0.0]);
/// let config = AdamWConfig::new().with_weight_decay(0.0);
/// adamw::step(&mut param, &grad, &mut m, &mut v, 1, 0.1, &config)?;
/// // The first step has the length of the learning rate whatever the gradient.
/// assert!((param[0] - 0.9_f64).abs() < 1e-8 && (param[1] - 1.1_f64).abs() < 1e-8);
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
///
/// Source: Loshchilov and Hutter, arXiv:1711.05101v3, Algorithm 2, in the form of `torch.optim.AdamW`.
pub fn step<F: Float, D: Dimension>(
    param: &mut ArrayRef<F, D>,
    grad: &ArrayRef<F, D>,
    m: &mut ArrayRef<F, D>,
    v: &mut ArrayRef<F, D>,
    step: u64,
    lr: f64,
    config: &AdamWConfig,
) -> Result<(), TrainingError> {
    let factors = Factors::new(step, lr, config)?;
    same_shape("grad", param, grad)?;
    same_shape("m", param, m)?;
    same_shape("v", param, v)?;
    let slices = (
        param.as_slice_mut(),
        grad.as_slice(),
        m.as_slice_mut(),
        v.as_slice_mut(),
    );
    if let (Some(param), Some(grad), Some(m), Some(v)) = slices {
        let tasks: Vec<_> = param
            .chunks_mut(TASK)
            .zip(grad.chunks(TASK))
            .zip(m.chunks_mut(TASK).zip(v.chunks_mut(TASK)))
            .collect();
        threads::for_each(tasks, |((param, grad), (m, v))| {
            simd::vectorize(
                #[inline(always)]
                || {
                    let state = m.iter_mut().zip(v);
                    for ((p, &g), (m, v)) in param.iter_mut().zip(grad).zip(state) {
                        let second = factors.moments(g, m, v);
                        factors.update(p, *m, second);
                    }
                },
            );
        });
        return Ok(());
    }
    Zip::from(param)
        .and(grad)
        .and(m)
        .and(v)
        .for_each(|p, &g, m, v| {
            let second = factors.moments(g, m, v);
            factors.update(p, *m, second);
        });
    Ok(())
}

/// One step of the `AMSGrad` variant: divides by the largest second moment so far.
///
/// ```text
/// max_v <- max(max_v, v)
/// p     <- p - lr / (1 - beta1^step) m / (sqrt(max_v) / sqrt(1 - beta2^step) + eps)
/// ```
///
/// with the rest as in [`step`].
///
/// # Shapes
///
/// - `max_v`: as `param`, starts as zeros; the others as in [`step`]
///
/// # Errors
///
/// As [`step`].
///
/// # Precision
///
/// As [`step`].
///
/// Source: Reddi et al., arXiv:1904.09237v1, Algorithm 2, in the form of `torch.optim.AdamW(amsgrad=True)`.
#[allow(
    clippy::too_many_arguments,
    reason = "three states of the optimizer, borrowed apart"
)]
pub fn step_amsgrad<F: Float, D: Dimension>(
    param: &mut ArrayRef<F, D>,
    grad: &ArrayRef<F, D>,
    m: &mut ArrayRef<F, D>,
    v: &mut ArrayRef<F, D>,
    max_v: &mut ArrayRef<F, D>,
    step: u64,
    lr: f64,
    config: &AdamWConfig,
) -> Result<(), TrainingError> {
    let factors = Factors::new(step, lr, config)?;
    same_shape("grad", param, grad)?;
    same_shape("m", param, m)?;
    same_shape("v", param, v)?;
    same_shape("max_v", param, max_v)?;
    let slices = (
        param.as_slice_mut(),
        grad.as_slice(),
        m.as_slice_mut(),
        v.as_slice_mut(),
        max_v.as_slice_mut(),
    );
    if let (Some(param), Some(grad), Some(m), Some(v), Some(max_v)) = slices {
        let state = m.chunks_mut(TASK).zip(v.chunks_mut(TASK));
        let tasks: Vec<_> = param
            .chunks_mut(TASK)
            .zip(grad.chunks(TASK))
            .zip(state.zip(max_v.chunks_mut(TASK)))
            .collect();
        threads::for_each(tasks, |((param, grad), ((m, v), max_v))| {
            simd::vectorize(
                #[inline(always)]
                || {
                    let state = m.iter_mut().zip(v).zip(max_v);
                    for ((p, &g), ((m, v), max_v)) in param.iter_mut().zip(grad).zip(state) {
                        let second = factors.moments(g, m, v);
                        *max_v = larger(*max_v, second);
                        factors.update(p, *m, *max_v);
                    }
                },
            );
        });
        return Ok(());
    }
    let zip = Zip::from(param).and(grad).and(m).and(v).and(max_v);
    zip.for_each(|p, &g, m, v, max_v| {
        let second = factors.moments(g, m, v);
        *max_v = larger(*max_v, second);
        factors.update(p, *m, *max_v);
    });
    Ok(())
}

/// The larger one; NaN if either is.
#[inline(always)]
fn larger<F: Float>(a: F, b: F) -> F {
    if a >= b || a.is_nan() { a } else { b }
}

fn same_shape<F, D: Dimension>(
    name: &'static str,
    param: &ArrayRef<F, D>,
    array: &ArrayRef<F, D>,
) -> Result<(), TrainingError> {
    if array.shape() != param.shape() {
        return Err(TrainingError::StateShape {
            name,
            expected: param.shape().to_vec(),
            got: array.shape().to_vec(),
        });
    }
    Ok(())
}

/// The numbers that are the same for all elements of a step.
#[derive(Clone, Copy, Debug)]
struct Factors<F> {
    sign: F,
    keep: F, // 1 - lr * weight_decay
    one_less_beta1: F,
    beta2: F,
    one_less_beta2: F,
    step_size: F,       // lr / (1 - beta1^step)
    root_correction: F, // 1 / sqrt(1 - beta2^step)
    eps: F,
}

impl<F: Float> Factors<F> {
    fn new(step: u64, lr: f64, config: &AdamWConfig) -> Result<Self, TrainingError> {
        config.check()?;
        if step == 0 {
            return Err(TrainingError::Step);
        }
        if !(lr >= 0.0 && lr.is_finite()) {
            return Err(TrainingError::LearningRate(lr));
        }
        let correction1 = 1.0 - config.beta1.powf(step as f64);
        let correction2 = 1.0 - config.beta2.powf(step as f64);
        Ok(Self {
            sign: F::from_f64(match config.direction {
                Direction::Minimize => 1.0,
                Direction::Maximize => -1.0,
            }),
            keep: F::from_f64(1.0 - lr * config.weight_decay),
            one_less_beta1: F::from_f64(1.0 - config.beta1),
            beta2: F::from_f64(config.beta2),
            one_less_beta2: F::from_f64(1.0 - config.beta2),
            step_size: F::from_f64(lr / correction1),
            root_correction: F::from_f64(1.0 / correction2.sqrt()),
            eps: F::from_f64(config.eps),
        })
    }

    /// Moves the moments; returns the second.
    #[inline(always)]
    fn moments(&self, grad: F, m: &mut F, v: &mut F) -> F {
        let g = self.sign * grad;
        *m += self.one_less_beta1 * (g - *m);
        *v = self.beta2 * *v + self.one_less_beta2 * g * g;
        *v
    }

    /// Moves the parameter.
    #[inline(always)]
    fn update(&self, p: &mut F, m: F, second: F) {
        let denominator = second.sqrt() * self.root_correction + self.eps;
        *p = *p * self.keep - self.step_size * (m / denominator);
    }
}
