//! Random small models, of both families.

use llm_blocks::decoder::{Decoder, DecoderConfig, Family};
use llm_blocks::numerics::philox::Philox4x32;
use proptest::prelude::*;

/// A model with random weights, biases and norms too, and token ids for it.
pub(crate) fn model_and_ids() -> impl Strategy<Value = (Decoder<f64>, Vec<u32>)> {
    let sizes = (
        1_usize..=3,
        1_usize..=3,
        1_usize..=3,
        1_usize..=3,
        1_usize..=9,
        1_usize..=9,
    );
    let flags = any::<[bool; 4]>();
    let ids = prop::collection::vec(0_u32..13, 1..=12);
    (sizes, flags, ids, any::<u64>()).prop_map(|(sizes, flags, ids, seed)| {
        let (n_layers, n_kv_heads, queries_per_kv, half_head, d_model, d_ff) = sizes;
        let [llama, qkv_bias, mlp_bias, tied_head] = flags;
        let n_heads = n_kv_heads * queries_per_kv;
        let mut config = DecoderConfig::glm(13, d_model, n_layers, n_heads)
            .with_kv_heads(n_kv_heads)
            .with_d_ff(d_ff)
            .with_context(ids.len());
        config.head_dim = 2 * half_head;
        config.rotary_dim = config.head_dim;
        config.qkv_bias = qkv_bias;
        config.tied_head = tied_head;
        if llama {
            config.family = Family::Llama;
            config.output_bias = qkv_bias; // Llama's `attention_bias` says both
            config.mlp_bias = mlp_bias;
        } else if half_head > 1 {
            config.rotary_dim = 2; // some features pass through
        }
        (random(config, seed), ids)
    })
}

/// `Decoder::random` leaves biases at 0 and norms at 1; here they are random too.
fn random(config: DecoderConfig, seed: u64) -> Decoder<f64> {
    let numbers = Philox4x32::new(seed);
    let mut model = Decoder::random(config, 0.7, &numbers).unwrap();
    for (stream, (_, mut tensor)) in model.params_mut().tensors_mut().into_iter().enumerate() {
        if tensor.ndim() == 1 {
            for (index, x) in tensor.iter_mut().enumerate() {
                *x += 0.3 * numbers.normal_f64(stream as u64, index as u64);
            }
        }
    }
    model
}
