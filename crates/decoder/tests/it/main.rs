//! Tests of `llm-decoder`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod gradients;
mod properties;
mod vectors;

use llm_decoder::{Decoder, DecoderConfig};
use llm_numerics::philox::Philox4x32;

/// A small model with weights large enough that its logits differ.
fn small(seed: u64) -> Decoder<f32> {
    let config = DecoderConfig::glm(23, 16, 2, 4)
        .with_kv_heads(2)
        .with_d_ff(20)
        .with_context(48);
    Decoder::random(config, 0.4, &Philox4x32::new(seed)).unwrap()
}
