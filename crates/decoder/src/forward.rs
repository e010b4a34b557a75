//! The forward pass over whole sequences.

use core::ops::Range;

use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash};
use llm_ffn::glu::GluPacking;
use llm_ffn::{rms_norm, swiglu};
use llm_numerics::{Float, gemm};
use llm_posenc::rope::{self, RopeTable};
use ndarray::{Array1, Array2, Array3, ArrayView4, ArrayViewMut4, Axis, s};

use crate::batch::check_ids;
use crate::{Decoder, DecoderConfig, DecoderError, LayerParams, TokenBatch};

/// What one block remembers for its backward pass.
#[derive(Clone, Debug)]
pub(crate) struct LayerActivations<F> {
    pub(crate) x_attention: Array2<F>, // [tokens, d_model], what enters the block
    pub(crate) rstd_attention: Array1<F>, // [tokens]
    pub(crate) normed_attention: Array2<F>, // [tokens, d_model]
    pub(crate) qkv: Array2<F>,         // [tokens, qkv_rows], rotated
    pub(crate) attended: Array2<F>,    // [tokens, n_heads * head_dim]
    pub(crate) lse: Array3<F>,         // [1, n_heads, tokens]
    pub(crate) x_mlp: Array2<F>,       // [tokens, d_model], after attention
    pub(crate) rstd_mlp: Array1<F>,    // [tokens]
    pub(crate) normed_mlp: Array2<F>,  // [tokens, d_model]
    pub(crate) gate_up: Array2<F>,     // [tokens, 2 d_ff]
    pub(crate) activated: Array2<F>,   // [tokens, d_ff]
}

/// What a forward pass remembers for [`Decoder::backward`].
#[derive(Clone, Debug)]
pub struct Activations<F> {
    pub(crate) batch: TokenBatch,
    pub(crate) rope: RopeTable,
    pub(crate) layers: Vec<LayerActivations<F>>,
    pub(crate) x_final: Array2<F>,      // [tokens, d_model]
    pub(crate) rstd_final: Array1<F>,   // [tokens]
    pub(crate) normed_final: Array2<F>, // [tokens, d_model]
}

impl<F: Float> Decoder<F> {
    /// The logits of the next token after every token of every sequence.
    ///
    /// ```text
    /// x = embedding[ids]
    /// for each block:
    ///     q, k, v = W_qkv norm(x) + b_qkv            q, k rotated by RoPE
    ///     x = x + W_o attention(q, k, v) + b_o       causal, grouped queries
    ///     x = x + W_down (silu(W_gate norm(x)) * W_up norm(x))
    /// logits = head norm(x)
    /// ```
    ///
    /// # Shapes
    ///
    /// - returns: `[tokens, vocab]`, sequence after sequence
    ///
    /// # Errors
    ///
    /// - [`DecoderError::TokenId`] if an id is outside the vocabulary.
    /// - [`DecoderError::ContextFull`] if a sequence is longer than the context.
    pub fn forward(&self, batch: &TokenBatch) -> Result<Array2<F>, DecoderError> {
        self.run(batch, &mut |_| {}).map(|(logits, _)| logits)
    }

    /// As [`forward`](Self::forward), and remembers what the backward pass needs.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_saved(
        &self,
        batch: &TokenBatch,
    ) -> Result<(Array2<F>, Activations<F>), DecoderError> {
        let mut layers = Vec::with_capacity(self.config.n_layers);
        let (logits, (rope, x_final, rstd_final, normed_final)) =
            self.run(batch, &mut |layer| layers.push(layer))?;
        let activations = Activations {
            batch: batch.clone(),
            rope,
            layers,
            x_final,
            rstd_final,
            normed_final,
        };
        Ok((logits, activations))
    }

    #[expect(clippy::type_complexity, reason = "private, taken apart at once")]
    fn run(
        &self,
        batch: &TokenBatch,
        save: &mut dyn FnMut(LayerActivations<F>),
    ) -> Result<(Array2<F>, (RopeTable, Array2<F>, Array1<F>, Array2<F>)), DecoderError> {
        let config = &self.config;
        batch.check(config.vocab, config.context)?;
        let rope = RopeTable::from_config(&config.rope(), &batch.positions())?;
        let attention = causal();
        let mut x = self.embed(batch.ids())?;
        for layer in &self.params.layers {
            let (y, saved) = block(config, layer, x, &rope, |qkv, attended, lse| {
                for range in batch.ranges() {
                    let (q, k, v) = split_heads(config, qkv, range.clone());
                    flash::forward_into(
                        &q,
                        &k,
                        &v,
                        &attention,
                        &mut heads_mut(attended, config.head_dim, range.clone()),
                        Some(&mut lse.slice_mut(s![.., .., range])),
                    )?;
                }
                Ok(())
            })?;
            save(saved);
            x = y;
        }
        let (normed, rstd) = self.final_norm(&x)?;
        let logits = gemm::matmul(&normed, &self.params.head().t())?;
        Ok((logits, (rope, x, rstd, normed)))
    }

    /// The rows of the embedding table: `[tokens, d_model]`.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Array2<F>, DecoderError> {
        check_ids(ids, self.config.vocab)?;
        let ids: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        Ok(self.params.embedding.select(Axis(0), &ids))
    }

    pub(crate) fn final_norm(&self, x: &Array2<F>) -> Result<(Array2<F>, Array1<F>), DecoderError> {
        Ok(rms_norm::forward_with_rstd(
            x,
            &self.params.final_norm,
            self.config.norm_eps,
        )?)
    }
}

/// Attention of a decoder: causal, the last query sees the last key.
pub(crate) fn causal() -> AttentionConfig {
    AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight))
}

/// One block. `attend` fills `attended` and `lse` from the rotated `qkv`.
pub(crate) fn block<F: Float>(
    config: &DecoderConfig,
    layer: &LayerParams<F>,
    x: Array2<F>,
    rope: &RopeTable,
    attend: impl FnOnce(&Array2<F>, &mut Array2<F>, &mut Array3<F>) -> Result<(), DecoderError>,
) -> Result<(Array2<F>, LayerActivations<F>), DecoderError> {
    let n_tokens = x.nrows();
    let eps = config.norm_eps;

    let x_attention = x;
    let (normed_attention, rstd_attention) =
        rms_norm::forward_with_rstd(&x_attention, &layer.attention_norm, eps)?;
    let mut qkv = linear(&normed_attention, &layer.qkv, layer.qkv_bias.as_ref())?;
    let n_rotated = config.n_heads + config.n_kv_heads;
    {
        // Query and key heads lie side by side: one call rotates both.
        let mut heads = heads_mut(&mut qkv, config.head_dim, 0..n_tokens);
        let mut rotated = heads.slice_mut(s![.., ..n_rotated, .., ..]);
        rope::apply_inplace(&mut rotated, rope, config.pairing())?;
    }
    let mut attended = Array2::zeros((n_tokens, config.n_heads * config.head_dim));
    let mut lse = Array3::zeros((1, config.n_heads, n_tokens));
    attend(&qkv, &mut attended, &mut lse)?;
    let mut x_mlp = x_attention.clone();
    add_linear(
        &mut x_mlp,
        &attended,
        &layer.output,
        layer.output_bias.as_ref(),
    )?;

    let (normed_mlp, rstd_mlp) = rms_norm::forward_with_rstd(&x_mlp, &layer.mlp_norm, eps)?;
    let gate_up = linear(&normed_mlp, &layer.gate_up, layer.gate_up_bias.as_ref())?;
    let activated = swiglu::apply(&gate_up, GluPacking::GateUp)?;
    let mut y = x_mlp.clone();
    add_linear(&mut y, &activated, &layer.down, layer.down_bias.as_ref())?;

    let saved = LayerActivations {
        x_attention,
        rstd_attention,
        normed_attention,
        qkv,
        attended,
        lse,
        x_mlp,
        rstd_mlp,
        normed_mlp,
        gate_up,
        activated,
    };
    Ok((y, saved))
}

/// `x Wᵀ + b`.
fn linear<F: Float>(
    x: &Array2<F>,
    weight: &Array2<F>,
    bias: Option<&Array1<F>>,
) -> Result<Array2<F>, DecoderError> {
    let mut y = gemm::matmul(x, &weight.t())?;
    if let Some(bias) = bias {
        y += bias;
    }
    Ok(y)
}

/// `y += x Wᵀ + b`.
fn add_linear<F: Float>(
    y: &mut Array2<F>,
    x: &Array2<F>,
    weight: &Array2<F>,
    bias: Option<&Array1<F>>,
) -> Result<(), DecoderError> {
    gemm::general_matmul(F::one(), x, &weight.t(), F::one(), y)?;
    if let Some(bias) = bias {
        *y += bias;
    }
    Ok(())
}

/// The heads of some tokens: `[1, heads, seq, head_dim]`, a view of `[tokens, heads * head_dim]`.
pub(crate) fn heads<F>(x: &Array2<F>, head_dim: usize, tokens: Range<usize>) -> ArrayView4<'_, F> {
    let shape = (1, tokens.len(), x.ncols() / head_dim, head_dim);
    x.slice(s![tokens, ..])
        .into_shape_with_order(shape)
        .expect("whole rows are contiguous")
        .permuted_axes([0, 2, 1, 3])
}

/// As [`heads`], to write to.
pub(crate) fn heads_mut<F>(
    x: &mut Array2<F>,
    head_dim: usize,
    tokens: Range<usize>,
) -> ArrayViewMut4<'_, F> {
    let shape = (1, tokens.len(), x.ncols() / head_dim, head_dim);
    x.slice_mut(s![tokens, ..])
        .into_shape_with_order(shape)
        .expect("whole rows are contiguous")
        .permuted_axes([0, 2, 1, 3])
}

/// Query, key and value heads of some tokens: `[1, heads, seq, head_dim]` each.
pub(crate) fn split_heads<'a, F>(
    config: &DecoderConfig,
    qkv: &'a Array2<F>,
    tokens: Range<usize>,
) -> (ArrayView4<'a, F>, ArrayView4<'a, F>, ArrayView4<'a, F>) {
    let all = heads(qkv, config.head_dim, tokens);
    let (q, kv) = all.split_at(Axis(1), config.n_heads);
    let (k, v) = kv.split_at(Axis(1), config.n_kv_heads);
    (q, k, v)
}
