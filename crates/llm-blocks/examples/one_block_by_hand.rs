//! One transformer block, computed by hand from the parts, on the weights of the embedded model.
//!
//! ```text
//! cargo run --release -p llm-blocks --example one_block_by_hand
//! ```

use std::error::Error;

use llm_blocks::attention::{AttentionConfig, CausalAlignment, Mask, flash};
use llm_blocks::chat_format::Message;
use llm_blocks::decoder::{Decoder, DecoderConfig, LayerParams, TokenBatch};
use llm_blocks::ffn::glu::GluPacking;
use llm_blocks::ffn::{rms_norm, swiglu, swiglu::SwigluWeights};
use llm_blocks::kvcache::ContiguousCache;
use llm_blocks::ndarray::{Array1, Array2, ArrayRef2, Axis};
use llm_blocks::numerics::gemm;
use llm_blocks::posenc::rope::{self, RopeTable};
use llm_blocks::tiny_model::TinyModel;

fn main() -> Result<(), Box<dyn Error>> {
    let model = first_block_only(TinyModel::chat_model()?.decoder())?;
    let (config, weights) = (model.config(), model.params());
    let ids = TinyModel::chat_prompt(&[Message::user("3+4=?")])?;
    println!("ids                 {ids:?}");

    let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
    let x = weights.embedding.select(Axis(0), &rows); // [seq, d_model]
    println!("embedding           {:?}", x.dim());

    let y = block(config, &weights.layers[0], &x)?; // [seq, d_model]

    let normed = rms_norm::forward(&y, &weights.final_norm, config.norm_eps)?;
    let logits = gemm::matmul(&normed, &weights.head().t())?; // [seq, vocab]
    println!("logits              {:?}", logits.dim());

    let expected = model.forward(&TokenBatch::new(&[&ids])?)?;
    let worst = difference(&logits, &expected);
    println!("largest difference from llm_decoder's forward: {worst:e}");
    assert!(worst <= 1e-4, "got {worst}");
    Ok(())
}

/// The same model without the blocks after the first, so that its logits show what one block does.
fn first_block_only(model: &Decoder<f32>) -> Result<Decoder<f32>, Box<dyn Error>> {
    let (mut config, mut params) = model.clone().into_parts();
    config.n_layers = 1;
    params.layers.truncate(1);
    Ok(Decoder::new(config, params)?)
}

/// Attention and feed-forward part, each added to the residual stream.
fn block(
    config: &DecoderConfig,
    layer: &LayerParams<f32>,
    x: &Array2<f32>,
) -> Result<Array2<f32>, Box<dyn Error>> {
    let seq = x.nrows();
    let (n_heads, n_kv_heads, head_dim) = (config.n_heads, config.n_kv_heads, config.head_dim);

    // One product makes queries, keys and values of all heads.
    let normed = rms_norm::forward(x, &layer.attention_norm, config.norm_eps)?;
    let mut qkv = gemm::matmul(&normed, &layer.qkv.t())?;
    layer.qkv_bias.iter().for_each(|bias| qkv += bias);
    let heads = qkv.to_shape((1, seq, n_heads + 2 * n_kv_heads, head_dim))?;
    let heads = heads.permuted_axes([0, 2, 1, 3]); // [1, heads, seq, head_dim]
    let (q, kv) = heads.view().split_at(Axis(1), n_heads);
    let (k, v) = kv.split_at(Axis(1), n_kv_heads);

    // RoPE.
    let positions = Array1::from_iter(0..seq);
    let table = RopeTable::from_config(&config.rope(), &positions)?;
    let q = rope::apply(&q, &table, config.pairing())?;
    let k = rope::apply(&k, &table, config.pairing())?;
    println!("queries             {:?}", q.dim());
    println!("keys, values        {:?}", k.dim());

    // The cache, and attention over it.
    let mut cache = ContiguousCache::new(1, n_kv_heads, seq, head_dim, head_dim)?;
    cache.append_all(&k, &v)?;
    println!("cache               {} bytes", cache.bytes());
    let causal = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let attended = flash::forward(&q, &cache.padded_keys(), &cache.padded_values(), &causal)?;
    let attended = attended.permuted_axes([0, 2, 1, 3]); // [1, seq, n_heads, head_dim]
    let attended = attended.to_shape((seq, n_heads * head_dim))?;
    println!("attended            {:?}", attended.dim());
    let x = x + &gemm::matmul(&attended, &layer.output.t())?;

    // SwiGLU.
    let normed = rms_norm::forward(&x, &layer.mlp_norm, config.norm_eps)?;
    let mlp = SwigluWeights::new(layer.gate_up.view(), layer.down.view(), GluPacking::GateUp)?;
    println!(
        "SwiGLU              {} -> {} -> {}",
        mlp.d_model(),
        mlp.d_ff(),
        mlp.d_model()
    );
    Ok(&x + &swiglu::forward(&normed, &mlp)?)
}

fn difference(a: &ArrayRef2<f32>, b: &ArrayRef2<f32>) -> f32 {
    assert_eq!(a.dim(), b.dim());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
