//! Exponentials of a row, and their sum.

use llm_numerics::{Float, simd};

const LANES: usize = 8;

/// `sum_i e^(x_i - max)`: exponentials in `F`, eight running sums in `f64`.
pub(crate) fn total<F: Float>(row: &[F], max: F) -> f64 {
    simd::vectorize(
        #[inline(always)]
        || {
            let mut lanes = [0.0_f64; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += (*x - max).fast_exp().as_f64();
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                *lane += (*x - max).fast_exp().as_f64();
            }
            lanes.iter().sum()
        },
    )
}

/// A row's softmax as its maximum and the [`total`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax<F> {
    pub(crate) max: F,
    pub(crate) total: f64,
}

impl<F: Float> Softmax<F> {
    /// Of a row whose maximum is known, and finite.
    pub(crate) fn new(row: &[F], max: F) -> Self {
        Self {
            max,
            total: total(row, max),
        }
    }

    pub(crate) fn probability(&self, logit: F) -> f64 {
        (logit - self.max).fast_exp().as_f64() / self.total
    }

    pub(crate) fn log_probability(&self, logit: F) -> f64 {
        logit.as_f64() - self.max.as_f64() - self.total.ln()
    }

    /// Replaces `out` by the probabilities of a row.
    pub(crate) fn write(&self, row: &[F], out: &mut Vec<f64>) {
        out.clear();
        out.resize(row.len(), 0.0);
        simd::vectorize(
            #[inline(always)]
            || {
                for (p, x) in out.iter_mut().zip(row) {
                    *p = (*x - self.max).fast_exp().as_f64() / self.total;
                }
            },
        );
    }
}
