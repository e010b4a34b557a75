//! AdamW as in the paper, from the whole history of gradients.

use crate::adamw::{AdamWConfig, Direction};

/// One parameter and its moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWState {
    /// The parameter.
    pub param: f64,
    /// The mean of the gradients, without bias correction.
    pub m: f64,
    /// The mean of their squares, without bias correction.
    pub v: f64,
    /// The largest `v` so far.
    pub max_v: f64,
}

/// One number after all `gradients`, each used for one step at learning rate `lr`.
///
/// The moments are written out as sums over the history instead of running averages:
///
/// ```text
/// m_t = (1 - beta1) sum_s beta1^(t - s) g_s
/// v_t = (1 - beta2) sum_s beta2^(t - s) g_s^2
/// p_t = p_(t-1) - lr weight_decay p_(t-1)
///               - lr (m_t / (1 - beta1^t)) / (sqrt(v_t / (1 - beta2^t)) + eps)
/// ```
///
/// With `amsgrad`, the largest `v` so far takes the place of `v_t` in the last line.
/// Source: arXiv:1711.05101v3, Algorithm 2 (with the schedule multiplier as `lr`).
#[must_use]
pub fn run(
    param: f64,
    gradients: &[f64],
    lr: f64,
    amsgrad: bool,
    config: &AdamWConfig,
) -> AdamWState {
    let sign = match config.direction {
        Direction::Minimize => 1.0,
        Direction::Maximize => -1.0,
    };
    let mut state = AdamWState {
        param,
        m: 0.0,
        v: 0.0,
        max_v: 0.0,
    };
    for t in 1..=gradients.len() {
        state.m = 0.0;
        state.v = 0.0;
        for s in 1..=t {
            let g = sign * gradients[s - 1];
            let age = (t - s) as i32;
            state.m += (1.0 - config.beta1) * config.beta1.powi(age) * g;
            state.v += (1.0 - config.beta2) * config.beta2.powi(age) * g * g;
        }
        state.max_v = state.max_v.max(state.v);
        let v = if amsgrad { state.max_v } else { state.v };
        let m_hat = state.m / (1.0 - config.beta1.powi(t as i32));
        let v_hat = v / (1.0 - config.beta2.powi(t as i32));
        state.param -= lr * config.weight_decay * state.param;
        state.param -= lr * m_hat / (v_hat.sqrt() + config.eps);
    }
    state
}
