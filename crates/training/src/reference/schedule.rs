//! Learning rates, each schedule as a function of real time.

use crate::schedule::Schedule;

/// The share of the base rate at `step`, as in transformers' `optimization.py` (5.23).
#[must_use]
pub fn factor(schedule: &Schedule, step: f64) -> f64 {
    let (warmup, total) = match *schedule {
        Schedule::Constant => return 1.0,
        Schedule::ConstantWithWarmup { n_warmup_steps } => (n_warmup_steps, n_warmup_steps),
        Schedule::Linear {
            n_warmup_steps,
            n_training_steps,
        }
        | Schedule::Cosine {
            n_warmup_steps,
            n_training_steps,
            ..
        }
        | Schedule::CosineWithMinLr {
            n_warmup_steps,
            n_training_steps,
            ..
        } => (n_warmup_steps, n_training_steps),
    };
    let (warmup, total) = (warmup as f64, total as f64);
    if step < warmup {
        return step / warmup.max(1.0);
    }
    let span = (total - warmup).max(1.0);
    let wave = |cycles: f64| {
        let angle = core::f64::consts::TAU * cycles * (step - warmup) / span;
        ((1.0 + angle.cos()) / 2.0).max(0.0)
    };
    match *schedule {
        Schedule::Constant | Schedule::ConstantWithWarmup { .. } => 1.0,
        Schedule::Linear { .. } => ((total - step) / span).max(0.0),
        Schedule::Cosine { n_cycles, .. } => wave(n_cycles),
        Schedule::CosineWithMinLr {
            n_cycles,
            min_lr_rate,
            ..
        } => (min_lr_rate + (1.0 - min_lr_rate) * wave(n_cycles)).max(0.0),
    }
}
