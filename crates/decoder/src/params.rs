//! The weights of a model; gradients and optimizer moments have the same form.

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;
use ndarray::{Array, Array1, Array2, ArrayViewD, ArrayViewMutD, Dimension};

use crate::DecoderConfig;

/// The weights of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerParams<F> {
    /// Scale of the norm before attention, `[d_model]`.
    pub attention_norm: Array1<F>,
    /// Query, key and value rows on top of each other,
    /// `[(n_heads + 2 n_kv_heads) head_dim, d_model]`.
    pub qkv: Array2<F>,
    /// `[(n_heads + 2 n_kv_heads) head_dim]`
    pub qkv_bias: Option<Array1<F>>,
    /// Output product of attention, `[d_model, n_heads head_dim]`.
    pub output: Array2<F>,
    /// `[d_model]`
    pub output_bias: Option<Array1<F>>,
    /// Scale of the norm before the feed-forward part, `[d_model]`.
    pub mlp_norm: Array1<F>,
    /// Gate rows, then up rows, `[2 d_ff, d_model]`.
    pub gate_up: Array2<F>,
    /// `[2 d_ff]`
    pub gate_up_bias: Option<Array1<F>>,
    /// `[d_model, d_ff]`
    pub down: Array2<F>,
    /// `[d_model]`
    pub down_bias: Option<Array1<F>>,
}

/// The weights of a model, or anything of the same form: gradients, moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<F> {
    /// `[vocab, d_model]`
    pub embedding: Array2<F>,
    /// The blocks, first to last.
    pub layers: Vec<LayerParams<F>>,
    /// Scale of the norm before the head, `[d_model]`.
    pub final_norm: Array1<F>,
    /// `[vocab, d_model]`, or `None` if the head is the embedding table.
    pub head: Option<Array2<F>>,
}

impl<F: Float> LayerParams<F> {
    fn zeros(config: &DecoderConfig) -> Self {
        let d_model = config.d_model;
        let heads = config.n_heads * config.head_dim;
        let bias = |has: bool, n: usize| has.then(|| Array1::zeros(n));
        Self {
            attention_norm: Array1::zeros(d_model),
            qkv: Array2::zeros((config.qkv_rows(), d_model)),
            qkv_bias: bias(config.qkv_bias, config.qkv_rows()),
            output: Array2::zeros((d_model, heads)),
            output_bias: bias(config.output_bias, d_model),
            mlp_norm: Array1::zeros(d_model),
            gate_up: Array2::zeros((2 * config.d_ff, d_model)),
            gate_up_bias: bias(config.mlp_bias, 2 * config.d_ff),
            down: Array2::zeros((d_model, config.d_ff)),
            down_bias: bias(config.mlp_bias, d_model),
        }
    }
}

impl<F: Float> Params<F> {
    /// All zeros: the start of a gradient sum or of an optimizer's moments.
    ///
    /// # Panics
    ///
    /// If a tensor of these sizes cannot exist; a configuration that passes
    /// [`DecoderConfig::check`] always can.
    #[must_use]
    pub fn zeros(config: &DecoderConfig) -> Self {
        let table = (config.vocab, config.d_model);
        Self {
            embedding: Array2::zeros(table),
            layers: (0..config.n_layers)
                .map(|_| LayerParams::zeros(config))
                .collect(),
            final_norm: Array1::zeros(config.d_model),
            head: (!config.tied_head).then(|| Array2::zeros(table)),
        }
    }

    /// Random weights to train from, as GPT-2 draws them: normal with standard
    /// deviation `std`, the two products that write to the residual stream divided by
    /// `sqrt(2 n_layers)`, norm scales 1, biases 0.
    ///
    /// Tensor `i` of [`tensors`](Self::tensors) takes its numbers from stream `i` of
    /// the generator.
    #[must_use]
    pub fn random(config: &DecoderConfig, std: f64, random: &Philox4x32) -> Self {
        let mut params = Self::zeros(config);
        let residual = std / (2.0 * config.n_layers as f64).sqrt();
        for (stream, (name, mut tensor)) in params.tensors_mut().into_iter().enumerate() {
            if tensor.ndim() == 1 {
                let value = if name.ends_with("norm") { 1.0 } else { 0.0 };
                tensor.fill(F::from_f64(value));
                continue;
            }
            let std = if name.ends_with("output") || name.ends_with("down") {
                residual
            } else {
                std
            };
            for (index, x) in tensor.iter_mut().enumerate() {
                *x = F::from_f64(std * random.normal_f64(stream as u64, index as u64));
            }
        }
        params
    }

    /// Every tensor with its name, in a fixed order.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, ArrayViewD<'_, F>)> {
        let mut all = vec![("embedding".to_owned(), self.embedding.view().into_dyn())];
        for (i, layer) in self.layers.iter().enumerate() {
            for (name, view) in [
                ("attention_norm", view(Some(&layer.attention_norm))),
                ("qkv", view(Some(&layer.qkv))),
                ("qkv_bias", view(layer.qkv_bias.as_ref())),
                ("output", view(Some(&layer.output))),
                ("output_bias", view(layer.output_bias.as_ref())),
                ("mlp_norm", view(Some(&layer.mlp_norm))),
                ("gate_up", view(Some(&layer.gate_up))),
                ("gate_up_bias", view(layer.gate_up_bias.as_ref())),
                ("down", view(Some(&layer.down))),
                ("down_bias", view(layer.down_bias.as_ref())),
            ] {
                all.extend(view.map(|view| (format!("layers.{i}.{name}"), view)));
            }
        }
        all.push(("final_norm".to_owned(), self.final_norm.view().into_dyn()));
        all.extend(view(self.head.as_ref()).map(|view| ("head".to_owned(), view)));
        all
    }

    /// As [`tensors`](Self::tensors), to write to.
    #[must_use]
    pub fn tensors_mut(&mut self) -> Vec<(String, ArrayViewMutD<'_, F>)> {
        let mut all = vec![("embedding".to_owned(), self.embedding.view_mut().into_dyn())];
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let LayerParams {
                attention_norm,
                qkv,
                qkv_bias,
                output,
                output_bias,
                mlp_norm,
                gate_up,
                gate_up_bias,
                down,
                down_bias,
            } = layer;
            for (name, view) in [
                ("attention_norm", view_mut(Some(attention_norm))),
                ("qkv", view_mut(Some(qkv))),
                ("qkv_bias", view_mut(qkv_bias.as_mut())),
                ("output", view_mut(Some(output))),
                ("output_bias", view_mut(output_bias.as_mut())),
                ("mlp_norm", view_mut(Some(mlp_norm))),
                ("gate_up", view_mut(Some(gate_up))),
                ("gate_up_bias", view_mut(gate_up_bias.as_mut())),
                ("down", view_mut(Some(down))),
                ("down_bias", view_mut(down_bias.as_mut())),
            ] {
                all.extend(view.map(|view| (format!("layers.{i}.{name}"), view)));
            }
        }
        all.push((
            "final_norm".to_owned(),
            self.final_norm.view_mut().into_dyn(),
        ));
        all.extend(view_mut(self.head.as_mut()).map(|view| ("head".to_owned(), view)));
        all
    }

    /// Adds `other` to this, element by element.
    ///
    /// # Panics
    ///
    /// If the two belong to different configurations.
    pub fn add_assign(&mut self, other: &Self) {
        let others = other.tensors();
        let ours = self.tensors_mut();
        assert_eq!(ours.len(), others.len(), "both must have the same tensors");
        for ((_, mut ours), (_, theirs)) in ours.into_iter().zip(others) {
            ours += &theirs;
        }
    }

    /// The table that turns hidden states into logits.
    #[must_use]
    pub fn head(&self) -> &Array2<F> {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

fn view<F, D: Dimension>(array: Option<&Array<F, D>>) -> Option<ArrayViewD<'_, F>> {
    array.map(|array| array.view().into_dyn())
}

fn view_mut<F, D: Dimension>(array: Option<&mut Array<F, D>>) -> Option<ArrayViewMutD<'_, F>> {
    array.map(|array| array.view_mut().into_dyn())
}
