//! Learning rates that change with the step.

use core::f64::consts::PI;

/// A schedule of the learning rate: linear warm-up, then a decay.
///
/// The names, the formulas and the edge cases are those of `get_scheduler` in
/// transformers 5.23 (`optimization.py`).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// The base rate at every step.
    Constant,
    /// Linear warm-up, then the base rate.
    ConstantWithWarmup {
        /// Steps from 0 to the base rate.
        n_warmup_steps: u64,
    },
    /// Linear warm-up, then linear decay to 0, where it stays.
    Linear {
        /// Steps from 0 to the base rate.
        n_warmup_steps: u64,
        /// Step at which the rate reaches 0.
        n_training_steps: u64,
    },
    /// Linear warm-up, then a cosine.
    Cosine {
        /// Steps from 0 to the base rate.
        n_warmup_steps: u64,
        /// Step at which `n_cycles` waves are done.
        n_training_steps: u64,
        /// Waves of the cosine; 0.5 falls from the base rate to 0. Beyond
        /// `n_training_steps` the wave goes on, and the rate rises again.
        n_cycles: f64,
    },
    /// Linear warm-up, then a cosine that falls to a share of the base rate.
    CosineWithMinLr {
        /// Steps from 0 to the base rate.
        n_warmup_steps: u64,
        /// Step at which `n_cycles` waves are done.
        n_training_steps: u64,
        /// Waves of the cosine, as in [`Cosine`](Self::Cosine).
        n_cycles: f64,
        /// The lowest rate as a share of the base rate.
        #[doc(alias = "min_lr_ratio")]
        min_lr_rate: f64,
    },
}

impl Schedule {
    /// The learning rate of a step.
    ///
    /// With `w = n_warmup_steps`, `n = n_training_steps`:
    ///
    /// ```text
    /// step < w:  base_lr step / max(1, w)
    /// Linear:    base_lr max(0, (n - step) / max(1, n - w))
    /// Cosine:    base_lr max(0, (1 + cos(2 pi n_cycles (step - w) / max(1, n - w))) / 2)
    /// CosineWithMinLr:  the cosine c becomes c (1 - min_lr_rate) + min_lr_rate
    /// ```
    ///
    /// `step` counts from 0: the first optimizer step of transformers runs at step 0,
    /// so with a warm-up it has learning rate 0.
    ///
    /// # Precision
    ///
    /// `f64`. Non-finite settings give NaN.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_training::schedule::Schedule;
    ///
    /// let schedule = Schedule::Linear { n_warmup_steps: 10, n_training_steps: 110 };
    /// assert_eq!(schedule.learning_rate(1e-3, 5), 0.5e-3);
    /// assert_eq!(schedule.learning_rate(1e-3, 10), 1e-3);
    /// assert_eq!(schedule.learning_rate(1e-3, 60), 0.5e-3);
    /// assert_eq!(schedule.learning_rate(1e-3, 500), 0.0);
    /// ```
    #[must_use]
    pub fn learning_rate(&self, base_lr: f64, step: u64) -> f64 {
        base_lr * self.factor(step)
    }

    /// The share of the base rate at a step.
    #[must_use]
    pub fn factor(&self, step: u64) -> f64 {
        let n_warmup_steps = self.n_warmup_steps();
        if step < n_warmup_steps {
            return step as f64 / n_warmup_steps as f64;
        }
        match *self {
            Self::Constant | Self::ConstantWithWarmup { .. } => 1.0,
            Self::Linear {
                n_training_steps, ..
            } => {
                let left = n_training_steps.saturating_sub(step) as f64;
                left / decay_steps(n_warmup_steps, n_training_steps)
            }
            Self::Cosine {
                n_training_steps,
                n_cycles,
                ..
            } => {
                let past = (step - n_warmup_steps) as f64;
                cosine(
                    past / decay_steps(n_warmup_steps, n_training_steps),
                    n_cycles,
                )
            }
            Self::CosineWithMinLr {
                n_training_steps,
                n_cycles,
                min_lr_rate,
                ..
            } => {
                let past = (step - n_warmup_steps) as f64;
                let wave = cosine(
                    past / decay_steps(n_warmup_steps, n_training_steps),
                    n_cycles,
                );
                floor_zero(wave * (1.0 - min_lr_rate) + min_lr_rate)
            }
        }
    }

    fn n_warmup_steps(&self) -> u64 {
        match *self {
            Self::Constant => 0,
            Self::ConstantWithWarmup { n_warmup_steps }
            | Self::Linear { n_warmup_steps, .. }
            | Self::Cosine { n_warmup_steps, .. }
            | Self::CosineWithMinLr { n_warmup_steps, .. } => n_warmup_steps,
        }
    }
}

/// Steps after the warm-up, at least 1.
fn decay_steps(n_warmup_steps: u64, n_training_steps: u64) -> f64 {
    n_training_steps.saturating_sub(n_warmup_steps).max(1) as f64
}

fn cosine(progress: f64, n_cycles: f64) -> f64 {
    floor_zero(0.5 * (1.0 + (PI * n_cycles * 2.0 * progress).cos()))
}

/// `max(0, x)` that keeps NaN.
fn floor_zero(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}
