//! The loss and the gradient of one row of logits.

use llm_numerics::{Float, simd};
use ndarray::ArrayRef1;

use super::{CrossEntropyConfig, Reduction};
use crate::TrainingError;

/// Terms that are summed in `F` before they are added in `f64`.
const BLOCK: usize = 256;

/// What is the same for all rows.
#[derive(Debug)]
pub(crate) struct RowRule<F> {
    vocab: usize,
    weights: Option<Vec<F>>,
    weights_sum: f64,
    smoothing: f64,
}

impl<F: Float> RowRule<F> {
    /// Checks what does not depend on the rows.
    pub(crate) fn new(
        vocab: usize,
        weights: Option<&ArrayRef1<F>>,
        config: &CrossEntropyConfig,
    ) -> Result<Self, TrainingError> {
        if let Some(weights) = weights
            && weights.len() != vocab
        {
            return Err(TrainingError::WeightsLen {
                expected: vocab,
                got: weights.len(),
            });
        }
        if !(0.0..=1.0).contains(&config.label_smoothing) {
            return Err(TrainingError::LabelSmoothing(config.label_smoothing));
        }
        if config.reduction == Reduction::MeanOver(0) {
            return Err(TrainingError::ItemCount);
        }
        let weights = weights.map(|w| w.iter().copied().collect::<Vec<_>>());
        let weights_sum = weights
            .as_ref()
            .map_or(vocab as f64, |w| w.iter().map(|w| w.as_f64()).sum());
        Ok(Self {
            vocab,
            weights,
            weights_sum,
            smoothing: config.label_smoothing,
        })
    }

    pub(crate) fn vocab(&self) -> usize {
        self.vocab
    }

    /// The factor that the reduction puts before the sum of the losses; 0 if nothing is kept.
    pub(crate) fn scale(
        &self,
        targets: &[Option<usize>],
        config: &CrossEntropyConfig,
    ) -> Result<f64, TrainingError> {
        match config.reduction {
            Reduction::Sum => Ok(1.0),
            Reduction::MeanOver(0) => Err(TrainingError::ItemCount),
            Reduction::MeanOver(count) => Ok(1.0 / count as f64),
            Reduction::Mean => {
                let kept: f64 = targets.iter().flatten().map(|&y| self.weight(y)).sum();
                Ok(if kept == 0.0 { 0.0 } else { 1.0 / kept })
            }
        }
    }

    fn weight(&self, class: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[class].as_f64())
    }

    /// The loss of a row with target `y`.
    pub(crate) fn loss(&self, row: &[F], y: usize) -> f64 {
        let (max, total) = simd::vectorize(
            #[inline(always)]
            || {
                let max = simd::max(row);
                let mut total = 0.0;
                let mut terms = [F::zero(); BLOCK];
                for chunk in row.chunks(BLOCK) {
                    for (term, &x) in terms.iter_mut().zip(chunk) {
                        *term = (x - max).fast_exp();
                    }
                    total += simd::sum(&terms[..chunk.len()]).as_f64();
                }
                (max, total)
            },
        );
        self.combine(max, total, y, row[y], self.shifted_sum(row, max))
    }

    /// The loss of a row with target `y`; the row becomes its gradient times `scale`.
    pub(crate) fn loss_and_grad_inplace(&self, row: &mut [F], y: usize, scale: f64) -> f64 {
        let x_y = row[y];
        simd::vectorize(
            #[inline(always)]
            || {
                let max = simd::max(row);
                let shifted = self.shifted_sum(row, max);
                let mut total = 0.0;
                for chunk in row.chunks_mut(BLOCK) {
                    for x in chunk.iter_mut() {
                        *x = (*x - max).fast_exp();
                    }
                    total += simd::sum(chunk).as_f64();
                }
                // dx_c = (hard + spread sum w) p_c - spread w_c - hard [c = y]
                let hard = scale * (1.0 - self.smoothing) * self.weight(y);
                let spread = scale * self.smoothing / self.vocab as f64;
                let factor = hard + spread * self.weights_sum;
                let p_factor = F::from_f64(factor / total);
                let target = row[y].as_f64() * (factor / total) - hard - spread * self.weight(y);
                match &self.weights {
                    _ if spread == 0.0 => row.iter_mut().for_each(|x| *x *= p_factor),
                    None => {
                        let spread = F::from_f64(spread);
                        row.iter_mut().for_each(|x| *x = *x * p_factor - spread);
                    }
                    Some(weights) => {
                        let spread = F::from_f64(spread);
                        for (x, &w) in row.iter_mut().zip(weights) {
                            *x = *x * p_factor - spread * w;
                        }
                    }
                }
                row[y] = F::from_f64(target);
                self.combine(max, total, y, x_y, shifted)
            },
        )
    }

    /// `sum_c w_c (x_c - max)`, 0 where there is no smoothing to use it.
    #[inline(always)]
    fn shifted_sum(&self, row: &[F], max: F) -> f64 {
        if self.smoothing == 0.0 {
            return 0.0;
        }
        let mut total = 0.0;
        let mut terms = [F::zero(); BLOCK];
        for (i, chunk) in row.chunks(BLOCK).enumerate() {
            for (term, &x) in terms.iter_mut().zip(chunk) {
                *term = x - max;
            }
            if let Some(weights) = &self.weights {
                for (term, &w) in terms.iter_mut().zip(&weights[i * BLOCK..]) {
                    *term *= w;
                }
            }
            total += simd::sum(&terms[..chunk.len()]).as_f64();
        }
        total
    }

    /// The loss from `max`, `total = sum e^(x - max)`, the target's logit and the shifted sum.
    #[inline(always)]
    fn combine(&self, max: F, total: f64, y: usize, x_y: F, shifted: f64) -> f64 {
        let log_total = total.ln();
        let hard = log_total - (x_y.as_f64() - max.as_f64());
        let mut loss = (1.0 - self.smoothing) * self.weight(y) * hard;
        if self.smoothing > 0.0 {
            let spread = self.weights_sum * log_total - shifted;
            loss += self.smoothing / self.vocab as f64 * spread;
        }
        loss
    }
}
