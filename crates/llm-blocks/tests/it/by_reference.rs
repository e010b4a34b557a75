//! The textbook modules alone, without a cache, give what the decoder gives.

use llm_blocks::attention::{AttentionConfig, CausalAlignment, Mask};
use llm_blocks::decoder::{Decoder, LayerParams, TokenBatch};
use llm_blocks::ffn::glu::GluPacking;
use llm_blocks::ndarray::{Array1, Array2, Array4};
use llm_blocks::numerics::testing::{Tolerance, assert_close};
use llm_blocks::{attention, ffn, numerics, posenc};
use proptest::prelude::*;

use crate::configs::model_and_ids;

/// `x Wᵀ + b`.
fn linear(x: &Array2<f64>, weight: &Array2<f64>, bias: Option<&Array1<f64>>) -> Array2<f64> {
    let y = numerics::reference::gemm::matmul(x, &weight.t()).unwrap();
    bias.map_or(y.clone(), |bias| y + bias)
}

fn norm(x: &Array2<f64>, weight: &Array1<f64>, eps: f64) -> Array2<f64> {
    ffn::reference::rms_norm::forward(x, weight, eps).unwrap()
}

/// `n_heads` heads from feature `start` on: `[1, heads, seq, head_dim]`.
fn heads(qkv: &Array2<f64>, start: usize, n_heads: usize, head_dim: usize) -> Array4<f64> {
    Array4::from_shape_fn((1, n_heads, qkv.nrows(), head_dim), |(_, h, t, i)| {
        qkv[[t, start + h * head_dim + i]]
    })
}

fn block(model: &Decoder<f64>, layer: &LayerParams<f64>, x: &Array2<f64>) -> Array2<f64> {
    let config = model.config();
    let (n_heads, n_kv_heads, head_dim) = (config.n_heads, config.n_kv_heads, config.head_dim);
    let normed = norm(x, &layer.attention_norm, config.norm_eps);
    let qkv = linear(&normed, &layer.qkv, layer.qkv_bias.as_ref());
    let q = heads(&qkv, 0, n_heads, head_dim);
    let k = heads(&qkv, n_heads * head_dim, n_kv_heads, head_dim);
    let v = heads(
        &qkv,
        (n_heads + n_kv_heads) * head_dim,
        n_kv_heads,
        head_dim,
    );

    let positions = Array1::from_iter(0..x.nrows());
    let inv_freq = posenc::reference::rope::inv_freq(&config.rope());
    let angles = posenc::reference::rope::angles(&positions, &inv_freq);
    // The decoder's cosines and sines are in f32, so these are rounded too; all else is in f64.
    let [cos, sin] = [f64::cos, f64::sin].map(|f| angles.mapv(|angle| f64::from(f(angle) as f32)));
    let rotate = |x: &Array4<f64>| {
        posenc::reference::rope::apply_cos_sin(x, &cos, &sin, config.pairing()).unwrap()
    };
    let causal = AttentionConfig::new(Mask::Causal(CausalAlignment::TopLeft));
    let (out, _) =
        attention::reference::attention::forward(&rotate(&q), &rotate(&k), &v, &causal).unwrap();
    let attended = Array2::from_shape_fn((x.nrows(), n_heads * head_dim), |(t, i)| {
        out[[0, i / head_dim, t, i % head_dim]]
    });
    let x = x + linear(&attended, &layer.output, layer.output_bias.as_ref());

    let normed = norm(&x, &layer.mlp_norm, config.norm_eps);
    let hidden = linear(&normed, &layer.gate_up, layer.gate_up_bias.as_ref());
    let inner = ffn::reference::swiglu::apply(&hidden, GluPacking::GateUp).unwrap();
    &x + &linear(&inner, &layer.down, layer.down_bias.as_ref())
}

proptest! {
    #[test]
    fn textbook_blocks_are_the_decoder((model, ids) in model_and_ids()) {
        let weights = model.params();
        let mut x = Array2::from_shape_fn((ids.len(), model.config().d_model), |(t, i)| {
            weights.embedding[[ids[t] as usize, i]]
        });
        for layer in &weights.layers {
            x = block(&model, layer, &x);
        }
        let normed = norm(&x, &weights.final_norm, model.config().norm_eps);
        let got = linear(&normed, weights.head(), None);
        let expected = model.forward(&TokenBatch::new(&[&ids]).unwrap()).unwrap();
        // Sums in another order, and norms that make up to 300 times as much of the difference.
        assert_close(&expected, &got, Tolerance::new(1e-9, 1e-9));
    }
}
