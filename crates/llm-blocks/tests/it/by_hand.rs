//! Blocks put together by hand, over a cache that is filled in chunks, are the decoder.

use llm_blocks::attention::{AttentionConfig, CausalAlignment, Mask, flash};
use llm_blocks::decoder::{Decoder, DecoderConfig, LayerParams, TokenBatch};
use llm_blocks::ffn::glu::GluPacking;
use llm_blocks::ffn::{rms_norm, swiglu, swiglu::SwigluWeights};
use llm_blocks::kvcache::ContiguousCache;
use llm_blocks::ndarray::{Array1, Array2, Axis, concatenate};
use llm_blocks::numerics::gemm;
use llm_blocks::numerics::testing::{Tolerance, assert_close};
use llm_blocks::posenc::rope::{self, RopeTable};
use proptest::prelude::*;

use crate::configs::model_and_ids;

/// One block on new tokens, which follow those in the cache.
fn block(
    config: &DecoderConfig,
    layer: &LayerParams<f64>,
    x: Array2<f64>,
    table: &RopeTable,
    cache: &mut ContiguousCache<f64>,
) -> Array2<f64> {
    let seq = x.nrows();
    let (n_heads, n_kv_heads, head_dim) = (config.n_heads, config.n_kv_heads, config.head_dim);
    let normed = rms_norm::forward(&x, &layer.attention_norm, config.norm_eps).unwrap();
    let mut qkv = gemm::matmul(&normed, &layer.qkv.t()).unwrap();
    layer.qkv_bias.iter().for_each(|bias| qkv += bias);
    let heads = qkv
        .to_shape((1, seq, n_heads + 2 * n_kv_heads, head_dim))
        .unwrap();
    let heads = heads.permuted_axes([0, 2, 1, 3]);
    let (q, kv) = heads.view().split_at(Axis(1), n_heads);
    let (k, v) = kv.split_at(Axis(1), n_kv_heads);
    let q = rope::apply(&q, table, config.pairing()).unwrap();
    let k = rope::apply(&k, table, config.pairing()).unwrap();
    cache.append_all(&k, &v).unwrap();
    let causal = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let attended =
        flash::forward(&q, &cache.padded_keys(), &cache.padded_values(), &causal).unwrap();
    let attended = attended.permuted_axes([0, 2, 1, 3]);
    let attended = attended.to_shape((seq, n_heads * head_dim)).unwrap();
    let mut x = x + gemm::matmul(&attended, &layer.output.t()).unwrap();
    layer.output_bias.iter().for_each(|bias| x += bias);

    let normed = rms_norm::forward(&x, &layer.mlp_norm, config.norm_eps).unwrap();
    let (gate_up, down) = (layer.gate_up.view(), layer.down.view());
    let mut mlp = SwigluWeights::new(gate_up, down, GluPacking::GateUp).unwrap();
    if let Some(bias) = &layer.gate_up_bias {
        mlp = mlp.with_gate_up_bias(bias.view()).unwrap();
    }
    if let Some(bias) = &layer.down_bias {
        mlp = mlp.with_down_bias(bias.view()).unwrap();
    }
    x + swiglu::forward(&normed, &mlp).unwrap()
}

/// The logits after every token, with the tokens taken `chunk` at a time.
fn logits(model: &Decoder<f64>, ids: &[u32], chunk: usize) -> Array2<f64> {
    let (config, weights) = (model.config(), model.params());
    let (n_kv_heads, head_dim) = (config.n_kv_heads, config.head_dim);
    let mut caches: Vec<_> = (0..config.n_layers)
        .map(|_| ContiguousCache::new(1, n_kv_heads, ids.len(), head_dim, head_dim).unwrap())
        .collect();
    let mut parts = Vec::new();
    for ids in ids.chunks(chunk) {
        let held = caches[0].max_len();
        let positions = Array1::from_iter(held..held + ids.len());
        let table = RopeTable::from_config(&config.rope(), &positions).unwrap();
        let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        let mut x = weights.embedding.select(Axis(0), &rows);
        for (layer, cache) in weights.layers.iter().zip(&mut caches) {
            x = block(config, layer, x, &table, cache);
        }
        let normed = rms_norm::forward(&x, &weights.final_norm, config.norm_eps).unwrap();
        parts.push(gemm::matmul(&normed, &weights.head().t()).unwrap());
    }
    let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
    concatenate(Axis(0), &parts).unwrap()
}

proptest! {
    #[test]
    fn blocks_by_hand_are_the_decoder(
        (model, ids) in model_and_ids(),
        chunk in 1_usize..=12,
    ) {
        let expected = model.forward(&TokenBatch::new(&[&ids]).unwrap()).unwrap();
        let got = logits(&model, &ids, chunk);
        assert_close(&got, &expected, Tolerance::new(1e-9, 1e-9));
    }
}
