//! The backward pass: gradients of every weight.

use llm_attention::flash;
use llm_ffn::glu::GluPacking;
use llm_ffn::{rms_norm, swiglu};
use llm_numerics::{Float, gemm};
use llm_posenc::rope;
use ndarray::{Array1, Array2, ArrayRef2, Axis, s};

use crate::forward::{Activations, LayerActivations, causal, heads, heads_mut, split_heads};
use crate::model::check_params;
use crate::{Decoder, DecoderError, LayerParams, Params};

impl<F: Float> Decoder<F> {
    /// Adds the gradients of all weights to `grads`.
    ///
    /// `grads` is a sum, so that a batch can be cut into parts; start it with
    /// [`Params::zeros`].
    ///
    /// # Shapes
    ///
    /// - `dlogits`: `[tokens, vocab]`, gradient with respect to the logits that
    ///   [`forward_saved`](Self::forward_saved) returned together with `activations`
    ///
    /// # Errors
    ///
    /// `grads` stays as it was.
    ///
    /// - [`DecoderError::Shape`] if `dlogits` or `activations` does not fit the model.
    /// - [`DecoderError::Shape`], [`DecoderError::TensorShape`] or
    ///   [`DecoderError::MissingTensor`] if `grads` does not.
    pub fn backward(
        &self,
        activations: &Activations<F>,
        dlogits: &ArrayRef2<F>,
        grads: &mut Params<F>,
    ) -> Result<(), DecoderError> {
        let expected = [activations.batch.n_tokens(), self.config.vocab];
        if dlogits.shape() != expected {
            return Err(DecoderError::Shape {
                what: "dlogits",
                expected: expected.to_vec(),
                got: dlogits.shape().to_vec(),
            });
        }
        if activations.layers.len() != self.config.n_layers {
            return Err(DecoderError::Shape {
                what: "the layers of activations",
                expected: vec![self.config.n_layers],
                got: vec![activations.layers.len()],
            });
        }
        check_params(&self.config, grads)?;

        // logits = normed headᵀ
        let dnormed = gemm::matmul(dlogits, self.params.head())?;
        let dhead = grads.head.as_mut().unwrap_or(&mut grads.embedding);
        accumulate_product(dlogits, &activations.normed_final, dhead)?;
        let (mut dx, dweight) = rms_norm::backward(
            &dnormed,
            &activations.x_final,
            &self.params.final_norm,
            &activations.rstd_final,
        )?;
        grads.final_norm += &dweight;

        let blocks = self.params.layers.iter().zip(&activations.layers);
        for ((layer, saved), grads) in blocks.zip(&mut grads.layers).rev() {
            self.mlp_backward(layer, saved, &mut dx, grads)?;
            self.attention_backward(layer, saved, activations, &mut dx, grads)?;
        }

        for (&id, dx) in activations.batch.ids().iter().zip(dx.rows()) {
            let mut row = grads.embedding.row_mut(id as usize);
            row += &dx;
        }
        Ok(())
    }

    /// `y = x + down(swiglu(gate_up(norm(x))))`; `dx` holds dy and becomes dx.
    fn mlp_backward(
        &self,
        layer: &LayerParams<F>,
        saved: &LayerActivations<F>,
        dx: &mut Array2<F>,
        grads: &mut LayerParams<F>,
    ) -> Result<(), DecoderError> {
        let dactivated = linear_backward(
            dx,
            &saved.activated,
            &layer.down,
            &mut grads.down,
            grads.down_bias.as_mut(),
        )?;
        let dgate_up = swiglu::backward(&dactivated, &saved.gate_up, GluPacking::GateUp)?;
        let dnormed = linear_backward(
            &dgate_up,
            &saved.normed_mlp,
            &layer.gate_up,
            &mut grads.gate_up,
            grads.gate_up_bias.as_mut(),
        )?;
        let (dresidual, dweight) =
            rms_norm::backward(&dnormed, &saved.x_mlp, &layer.mlp_norm, &saved.rstd_mlp)?;
        *dx += &dresidual;
        grads.mlp_norm += &dweight;
        Ok(())
    }

    /// `y = x + output(attention(rotate(qkv(norm(x)))))`; `dx` holds dy and becomes dx.
    fn attention_backward(
        &self,
        layer: &LayerParams<F>,
        saved: &LayerActivations<F>,
        activations: &Activations<F>,
        dx: &mut Array2<F>,
        grads: &mut LayerParams<F>,
    ) -> Result<(), DecoderError> {
        let config = &self.config;
        let head_dim = config.head_dim;
        let (n_heads, n_kv_heads) = (config.n_heads, config.n_kv_heads);
        let dattended = linear_backward(
            dx,
            &saved.attended,
            &layer.output,
            &mut grads.output,
            grads.output_bias.as_mut(),
        )?;
        let mut dqkv = Array2::zeros(saved.qkv.dim());
        for range in activations.batch.ranges() {
            let (q, k, v) = split_heads(config, &saved.qkv, range.clone());
            let dqkv = heads_mut(&mut dqkv, head_dim, range.clone());
            let (mut dq, dkv) = dqkv.split_at(Axis(1), n_heads);
            let (mut dk, mut dv) = dkv.split_at(Axis(1), n_kv_heads);
            flash::backward_into(
                &heads(&dattended, head_dim, range.clone()),
                &q,
                &k,
                &v,
                &heads(&saved.attended, head_dim, range.clone()),
                &saved.lse.slice(s![.., .., range]),
                &causal(),
                &mut dq,
                &mut dk,
                &mut dv,
            )?;
        }
        {
            let n_tokens = dqkv.nrows();
            let mut heads = heads_mut(&mut dqkv, head_dim, 0..n_tokens);
            let mut rotated = heads.slice_mut(s![.., ..n_heads + n_kv_heads, .., ..]);
            rope::backward_inplace(&mut rotated, &activations.rope, config.pairing())?;
        }
        let dnormed = linear_backward(
            &dqkv,
            &saved.normed_attention,
            &layer.qkv,
            &mut grads.qkv,
            grads.qkv_bias.as_mut(),
        )?;
        let (dresidual, dweight) = rms_norm::backward(
            &dnormed,
            &saved.x_attention,
            &layer.attention_norm,
            &saved.rstd_attention,
        )?;
        *dx += &dresidual;
        grads.attention_norm += &dweight;
        Ok(())
    }
}

/// Backward of `y = x Wᵀ + b`: adds to the gradients of `W` and `b`, returns dx.
fn linear_backward<F: Float>(
    dy: &Array2<F>,
    x: &Array2<F>,
    weight: &Array2<F>,
    dweight: &mut Array2<F>,
    dbias: Option<&mut Array1<F>>,
) -> Result<Array2<F>, DecoderError> {
    accumulate_product(dy, x, dweight)?;
    if let Some(dbias) = dbias {
        *dbias += &dy.sum_axis(Axis(0));
    }
    Ok(gemm::matmul(dy, weight)?)
}

/// `out += aᵀ b`, the gradient of a weight matrix.
fn accumulate_product<F: Float>(
    a: &ArrayRef2<F>,
    b: &Array2<F>,
    out: &mut Array2<F>,
) -> Result<(), DecoderError> {
    Ok(gemm::general_matmul(F::one(), &a.t(), b, F::one(), out)?)
}
