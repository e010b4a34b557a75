//! Gradient clipping over all parameters together.

use llm_numerics::{Float, simd, threads};
use ndarray::{ArrayViewD, ArrayViewMutD};

use crate::TrainingError;

/// Elements that are summed in one piece.
const BLOCK: usize = 64 << 10;
/// Terms that are computed before they are summed.
const TERMS: usize = 256;
/// What torch adds to the norm before it divides by it.
const EPS: f64 = 1e-6;

/// Which norm of all gradients together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum NormType {
    /// Root of the sum of squares.
    L2,
    /// Largest absolute value: torch's `norm_type=inf`.
    Inf,
    /// `(sum |g|^p)^(1/p)`, `p > 0`.
    P(f64),
}

/// What [`clip_norm`] does if the norm is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NonFinite {
    /// Returns an error and leaves the gradients alone: torch's `error_if_nonfinite=True`.
    Error,
    /// Leaves the gradients alone and returns the norm, for a caller who then leaves out the step.
    Keep,
    /// Multiplies by the factor all the same, 0 or NaN: torch's default, `error_if_nonfinite=False`.
    Propagate,
}

/// The norm of all gradients as if they were one long vector.
///
/// ```text
/// L2: sqrt(sum g^2),   Inf: max |g|,   P(p): (sum |g|^p)^(1/p)
/// ```
///
/// # Shapes
///
/// - `grads`: any number of arrays of any shape and strides; 0 for none
///
/// # Errors
///
/// [`TrainingError::NormExponent`] if `p` is not finite and positive.
///
/// # Precision
///
/// Sums in `f64`, relative to the largest element where powers would overflow or
/// vanish; cut by the shapes, so the same bits for any number of threads. NaN if any
/// element is NaN.
///
/// # Example
///
/// ```
/// use llm_training::clip::{self, NormType};
/// use ndarray::array;
///
/// let (a, b) = (array![[3.0_f32]].into_dyn(), array![0.0, -4.0].into_dyn());
/// assert_eq!(clip::global_norm(&[a.view(), b.view()], NormType::L2)?, 5.0);
/// assert_eq!(clip::global_norm(&[a.view(), b.view()], NormType::Inf)?, 4.0);
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
///
/// Source: `torch.nn.utils.get_total_norm`.
pub fn global_norm<F: Float>(
    grads: &[ArrayViewD<'_, F>],
    norm_type: NormType,
) -> Result<f64, TrainingError> {
    let p = match norm_type {
        NormType::Inf => return Ok(largest(grads)),
        NormType::L2 => 2.0,
        NormType::P(p) if p > 0.0 && p.is_finite() => p,
        NormType::P(p) => return Err(TrainingError::NormExponent(p)),
    };
    let total = power_sum(grads, p, 1.0);
    if (1e-200..=f64::MAX).contains(&total) {
        return Ok(total.powf(1.0 / p));
    }
    let largest = largest(grads);
    if largest == 0.0 || !largest.is_finite() {
        return Ok(largest);
    }
    Ok(largest * power_sum(grads, p, largest).powf(1.0 / p))
}

/// Scales all gradients so that their norm is at most `max_norm`; returns the norm before.
///
/// ```text
/// g <- g min(1, max_norm / (norm + 1e-6))
/// ```
///
/// # Shapes
///
/// - `grads`: any number of arrays of any shape and strides
///
/// # Errors
///
/// - [`TrainingError::MaxNorm`] if `max_norm` is negative or NaN.
/// - [`TrainingError::NormExponent`] if `p` is not finite and positive.
/// - [`TrainingError::NonFiniteNorm`] if the norm is not finite and `non_finite` is
///   [`NonFinite::Error`].
///
/// # Precision
///
/// The norm as in [`global_norm`], the factor in `f64` rounded to `F`.
///
/// # Example
///
/// ```
/// use llm_training::clip::{self, NonFinite, NormType};
/// use ndarray::array;
///
/// let mut grad = array![3.0, 4.0].into_dyn();
/// let norm = clip::clip_norm(&mut [grad.view_mut()], 1.0, NormType::L2, NonFinite::Error)?;
/// assert_eq!(norm, 5.0);
/// assert!((grad[0] - 0.6_f64).abs() < 1e-6);
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
///
/// Source: Pascanu et al., arXiv:1211.5063v2, Algorithm 1; `torch.nn.utils.clip_grad_norm_`.
pub fn clip_norm<F: Float>(
    grads: &mut [ArrayViewMutD<'_, F>],
    max_norm: f64,
    norm_type: NormType,
    non_finite: NonFinite,
) -> Result<f64, TrainingError> {
    if !(max_norm >= 0.0) {
        return Err(TrainingError::MaxNorm(max_norm));
    }
    let views: Vec<_> = grads.iter().map(|grad| grad.view()).collect();
    let norm = global_norm(&views, norm_type)?;
    if !norm.is_finite() {
        match non_finite {
            NonFinite::Error => return Err(TrainingError::NonFiniteNorm(norm)),
            NonFinite::Keep => return Ok(norm),
            NonFinite::Propagate => {}
        }
    }
    let factor = max_norm / (norm + EPS);
    if factor < 1.0 || factor.is_nan() {
        let factor = F::from_f64(factor);
        for_each(grads, |g| *g *= factor);
    }
    Ok(norm)
}

/// Limits each element to `[-clip_value, clip_value]`; NaN stays NaN.
///
/// # Shapes
///
/// - `grads`: any number of arrays of any shape and strides
///
/// # Errors
///
/// [`TrainingError::ClipValue`] if `clip_value` is negative or NaN.
///
/// # Precision
///
/// `clip_value` is rounded to `F`.
///
/// # Example
///
/// ```
/// use llm_training::clip;
/// use ndarray::array;
///
/// let mut grad = array![3.0, -0.5].into_dyn();
/// clip::clip_value(&mut [grad.view_mut()], 1.0)?;
/// assert_eq!(grad, array![1.0, -0.5].into_dyn());
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
///
/// Source: `torch.nn.utils.clip_grad_value_`.
pub fn clip_value<F: Float>(
    grads: &mut [ArrayViewMutD<'_, F>],
    clip_value: f64,
) -> Result<(), TrainingError> {
    if !(clip_value >= 0.0) {
        return Err(TrainingError::ClipValue(clip_value));
    }
    let limit = F::from_f64(clip_value);
    for_each(grads, |g| {
        if *g > limit {
            *g = limit;
        } else if *g < -limit {
            *g = -limit;
        }
    });
    Ok(())
}

/// The largest absolute value, NaN if there is any.
fn largest<F: Float>(grads: &[ArrayViewD<'_, F>]) -> f64 {
    let larger = |a: f64, b: f64| if a >= b || a.is_nan() { a } else { b };
    let blocks = map_blocks(grads, |block| {
        block
            .iter()
            .fold(0.0, |max, g| larger(max, g.abs().as_f64()))
    });
    blocks.into_iter().fold(0.0, larger)
}

/// `sum (|g| / unit)^p`.
fn power_sum<F: Float>(grads: &[ArrayViewD<'_, F>], p: f64, unit: f64) -> f64 {
    let sums = map_blocks(grads, |block| {
        simd::vectorize(
            #[inline(always)]
            || {
                if p == 2.0 {
                    block_sum(block, |g| (g / unit) * (g / unit))
                } else if p == 1.0 {
                    block_sum(block, |g| (g / unit).abs())
                } else {
                    block_sum(block, |g| (g / unit).abs().powf(p))
                }
            },
        )
    });
    sums.into_iter().sum()
}

#[inline(always)]
fn block_sum<F: Float>(block: &[F], term: impl Fn(f64) -> f64) -> f64 {
    let mut terms = [0.0; TERMS];
    let mut total = 0.0;
    for chunk in block.chunks(TERMS) {
        for (to, g) in terms.iter_mut().zip(chunk) {
            *to = term(g.as_f64());
        }
        total += simd::sum(&terms[..chunk.len()]);
    }
    total
}

/// The result for each [`BLOCK`] of each array, in order; the strides change nothing.
fn map_blocks<F: Float>(
    grads: &[ArrayViewD<'_, F>],
    work: impl Fn(&[F]) -> f64 + Sync + Send,
) -> Vec<f64> {
    let mut tasks = Vec::new();
    for grad in grads {
        match grad.as_slice() {
            Some(slice) => tasks.extend(slice.chunks(BLOCK).map(Block::Slice)),
            None => tasks.push(Block::Strided(grad)),
        }
    }
    let results = threads::map(tasks, |task| match task {
        Block::Slice(slice) => vec![work(slice)],
        Block::Strided(grad) => {
            let mut results = Vec::new();
            let mut buffer = Vec::with_capacity(BLOCK.min(grad.len()));
            for &g in grad {
                buffer.push(g);
                if buffer.len() == BLOCK {
                    results.push(work(&buffer));
                    buffer.clear();
                }
            }
            results.push(work(&buffer));
            results
        }
    });
    results.concat()
}

/// A piece of work of [`map_blocks`].
enum Block<'a, F> {
    Slice(&'a [F]),
    Strided(&'a ArrayViewD<'a, F>),
}

/// Calls `work` with each element.
fn for_each<F: Float>(grads: &mut [ArrayViewMutD<'_, F>], work: impl Fn(&mut F) + Sync + Send) {
    let mut tasks = Vec::new();
    for grad in grads {
        if grad.as_slice_memory_order().is_none() {
            grad.iter_mut().for_each(&work);
        } else if let Some(slice) = grad.as_slice_memory_order_mut() {
            tasks.extend(slice.chunks_mut(BLOCK));
        }
    }
    threads::for_each(tasks, |slice| {
        simd::vectorize(
            #[inline(always)]
            || slice.iter_mut().for_each(&work),
        );
    });
}
