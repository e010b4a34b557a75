//! The chains as compositions.

use super::{temperature, top_k, top_p};
use crate::sampler::{Dialect, SamplingConfig, SamplingMode};
use crate::top_k::Ties;
use crate::top_p::SumFrom;

/// The logits that a token is drawn from.
#[must_use]
pub fn apply(logits: &[f64], config: &SamplingConfig) -> Vec<f64> {
    let SamplingMode::Sample {
        dialect,
        temperature,
        top_k,
        top_p,
    } = config.mode()
    else {
        return logits.to_vec();
    };
    let k = top_k.unwrap_or(logits.len());
    let p = top_p.unwrap_or(1.0);
    match dialect {
        Dialect::HuggingFace | Dialect::Vllm | Dialect::OpenAi => {
            let x = temperature::apply(logits, temperature);
            let x = top_k::apply(&x, k, Ties::Kept, 1);
            top_p::apply(&x, p, SumFrom::Smallest, 1)
        }
        Dialect::LlamaCpp => {
            let x = top_k::apply(logits, k, Ties::Exact, 1);
            let x = top_p::apply(&x, p, SumFrom::Largest, 1);
            temperature::apply(&x, temperature)
        }
    }
}
