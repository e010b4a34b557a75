//! Vector instructions chosen at run time.

mod at_least;
pub(crate) mod fused;
mod prefetch;
pub(crate) mod rows;
mod sixteen;
mod widen;

pub use at_least::at_least;
pub use fused::{add_weighted_fused, dots_fused};
pub use prefetch::prefetch;
pub use rows::dots;
pub use sixteen::{CHUNK, ShortChunk, Sixteen, WholeChunk, to_short, to_whole};
pub use widen::{narrow, widen_f16};

/// Runs `op` compiled for the widest vector instructions that this processor has.
///
/// A plain loop over slices inside `op` is turned into vector instructions by the
/// compiler; nothing else changes. Without the feature `fast` it just calls `op`.
///
/// # Precision
///
/// The same bits on every processor, as long as `op` has no fused multiply-add and
/// sums in a fixed order (see [`sum`] and [`dot`]).
///
/// # Example
///
/// ```
/// use llm_numerics::{Float, simd};
///
/// let mut x = vec![0.0_f32, 1.0, -1.0];
/// simd::vectorize(|| x.iter_mut().for_each(|x| *x = x.fast_exp()));
/// assert_eq!(x[0], 1.0);
/// ```
#[inline(always)]
pub fn vectorize<R>(op: impl FnOnce() -> R) -> R {
    #[cfg(feature = "fast")]
    {
        pulp::Arch::new().dispatch(op)
    }
    #[cfg(not(feature = "fast"))]
    {
        op()
    }
}

/// Accumulators of [`sum`] and [`dot`]: wide enough for two 8-lane registers.
const LANES: usize = 16;

/// Sums a slice in a fixed order: 16 running sums, then a tree over them.
///
/// Call it inside [`vectorize`].
#[inline(always)]
#[must_use]
pub fn sum<F: crate::Float>(x: &[F]) -> F {
    let mut lanes = [F::zero(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    tree(lanes)
}

/// The inner product of two slices of the same length, summed as in [`sum`].
///
/// Elements beyond the shorter slice are ignored. Call it inside [`vectorize`].
#[inline(always)]
#[must_use]
pub fn dot<F: crate::Float>(x: &[F], y: &[F]) -> F {
    let n = x.len().min(y.len());
    let (x, y) = (&x[..n], &y[..n]);
    let mut lanes = [F::zero(); LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += x * y;
    }
    tree(lanes)
}

/// The largest element, NaN ignored; `-inf` for an empty slice.
///
/// Call it inside [`vectorize`].
#[inline(always)]
#[must_use]
pub fn max<F: crate::Float>(x: &[F]) -> F {
    let larger = |a: F, b: F| if b > a { b } else { a };
    let mut lanes = [F::neg_infinity(); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    lanes.into_iter().fold(F::neg_infinity(), larger)
}

#[inline(always)]
fn tree<F: crate::Float>(mut lanes: [F; LANES]) -> F {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            let other = lanes[i + width];
            lanes[i] += other;
        }
        width /= 2;
    }
    lanes[0]
}
