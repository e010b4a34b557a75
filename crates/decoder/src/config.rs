//! The sizes and settings of a model, and `config.json`.

use llm_posenc::rope::{MAX_ROTARY_DIM, RopeConfig, RopePairing};
use serde_json::{Map, Value, json};

use crate::DecoderError;

/// Which published architecture a model follows; it decides the tensor names of a
/// checkpoint, the pairing of RoPE and where biases may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// ChatGLM2/3 and GLM-4 as transformers' `GlmForCausalLM`: interleaved RoPE on the
    /// first half of each head, biases on query, key and value only, one fused
    /// gate-and-up matrix.
    Glm,
    /// Llama as transformers' `LlamaForCausalLM`: half-split RoPE on whole heads,
    /// separate gate and up matrices, optional biases everywhere.
    Llama,
}

/// Sizes and settings of a decoder-only model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DecoderConfig {
    /// The architecture.
    pub family: Family,
    /// Number of tokens in the vocabulary.
    #[doc(alias = "vocab_size")]
    pub vocab: usize,
    /// Width of the residual stream.
    #[doc(alias = "hidden_size")]
    pub d_model: usize,
    /// Number of blocks.
    #[doc(alias = "num_hidden_layers")]
    pub n_layers: usize,
    /// Number of query heads.
    #[doc(alias = "num_attention_heads")]
    pub n_heads: usize,
    /// Number of key and value heads; a divisor of `n_heads`.
    #[doc(alias = "num_key_value_heads")]
    pub n_kv_heads: usize,
    /// Features of one head.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    #[doc(alias = "intermediate_size")]
    pub d_ff: usize,
    /// Features of each head that RoPE rotates.
    pub rotary_dim: usize,
    /// Base of RoPE's wavelengths.
    #[doc(alias = "rope_theta")]
    pub rope_base: f64,
    /// Added to the mean square in RMSNorm.
    #[doc(alias = "rms_norm_eps")]
    pub norm_eps: f64,
    /// Whether query, key and value have a bias.
    pub qkv_bias: bool,
    /// Whether the output product of attention has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward products have biases.
    pub mlp_bias: bool,
    /// Whether the output head is the embedding table.
    #[doc(alias = "tie_word_embeddings")]
    pub tied_head: bool,
    /// Longest sequence, in tokens.
    #[doc(alias = "max_position_embeddings")]
    pub context: usize,
}

impl DecoderConfig {
    /// A model shaped like ChatGLM3: grouped queries, biases on query, key and value,
    /// RoPE on half of each head, a head of its own; `base` 10 000, `eps` 1e-5.
    #[must_use]
    pub fn glm(vocab: usize, d_model: usize, n_layers: usize, n_heads: usize) -> Self {
        let head_dim = d_model.checked_div(n_heads).unwrap_or(0);
        Self {
            family: Family::Glm,
            vocab,
            d_model,
            n_layers,
            n_heads,
            n_kv_heads: n_heads,
            head_dim,
            d_ff: 3 * d_model,
            rotary_dim: head_dim / 2,
            rope_base: 10_000.0,
            norm_eps: 1e-5,
            qkv_bias: true,
            output_bias: false,
            mlp_bias: false,
            tied_head: false,
            context: 2048,
        }
    }

    /// Sets [`n_kv_heads`](Self::n_kv_heads).
    #[must_use]
    pub const fn with_kv_heads(mut self, n_kv_heads: usize) -> Self {
        self.n_kv_heads = n_kv_heads;
        self
    }

    /// Sets [`d_ff`](Self::d_ff).
    #[must_use]
    pub const fn with_d_ff(mut self, d_ff: usize) -> Self {
        self.d_ff = d_ff;
        self
    }

    /// Sets [`context`](Self::context).
    #[must_use]
    pub const fn with_context(mut self, context: usize) -> Self {
        self.context = context;
        self
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    ///
    /// [`DecoderError::Config`] names the first field that does not.
    pub fn check(&self) -> Result<(), DecoderError> {
        let refuse = |field, rule, got: String| Err(DecoderError::Config { field, rule, got });
        for (field, size) in [
            ("vocab", self.vocab),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("d_ff", self.d_ff),
            ("context", self.context),
        ] {
            // The bound keeps every product of three sizes within 64 bits.
            if size == 0 || size > 1 << 20 {
                return refuse(field, "be in 1..=1048576", size.to_string());
            }
        }
        if self.n_layers > 4096 {
            return refuse("n_layers", "be in 1..=4096", self.n_layers.to_string());
        }
        // Each tensor must be able to exist.
        let widest = self.qkv_size().max(self.vocab.max(2 * self.d_ff) as u128);
        if widest * self.d_model as u128 > 1 << 56 {
            let got = format!("{widest} rows of {}", self.d_model);
            return refuse("head_dim", "leave tensors of at most 2^56 weights", got);
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let got = format!("{} for {} heads", self.n_kv_heads, self.n_heads);
            return refuse("n_kv_heads", "divide n_heads", got);
        }
        if !self.rotary_dim.is_multiple_of(2)
            || self.rotary_dim == 0
            || self.rotary_dim > self.head_dim.min(MAX_ROTARY_DIM)
        {
            let got = format!("{} for head_dim {}", self.rotary_dim, self.head_dim);
            return refuse(
                "rotary_dim",
                "be even, in 2..=head_dim and at most 65536",
                got,
            );
        }
        // What the family's `config.json` cannot say, no checkpoint can hold.
        let (output_bias, rule) = match self.family {
            Family::Glm => (false, "be false for Glm"),
            Family::Llama => (self.qkv_bias, "be the same as qkv_bias for Llama"),
        };
        if self.output_bias != output_bias {
            return refuse("output_bias", rule, self.output_bias.to_string());
        }
        if self.mlp_bias && self.family == Family::Glm {
            return refuse("mlp_bias", "be false for Glm", "true".to_owned());
        }
        if !(self.rope_base > 1.0 && self.rope_base.is_finite()) {
            return refuse("rope_base", "be finite and > 1", self.rope_base.to_string());
        }
        if !(self.norm_eps >= 0.0 && self.norm_eps.is_finite()) {
            return refuse("norm_eps", "be finite and >= 0", self.norm_eps.to_string());
        }
        Ok(())
    }

    /// Query heads that share a key and value head; 0 if there is none.
    #[must_use]
    pub const fn queries_per_kv(&self) -> usize {
        match self.n_heads.checked_div(self.n_kv_heads) {
            Some(queries) => queries,
            None => 0,
        }
    }

    /// Rows of the fused query, key and value matrix.
    #[must_use]
    pub const fn qkv_rows(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    /// [`qkv_rows`](Self::qkv_rows) where that may overflow.
    const fn qkv_size(&self) -> u128 {
        (self.n_heads as u128 + 2 * self.n_kv_heads as u128) * self.head_dim as u128
    }

    /// Which features of a head form a rotation plane.
    #[must_use]
    pub const fn pairing(&self) -> RopePairing {
        match self.family {
            Family::Glm => RopePairing::Interleaved,
            Family::Llama => RopePairing::HalfSplit,
        }
    }

    /// The settings of RoPE.
    #[must_use]
    pub fn rope(&self) -> RopeConfig {
        RopeConfig::new(self.rotary_dim, self.pairing()).with_base(self.rope_base)
    }

    /// The share of a head that is rotated, so that `head_dim * share` rounded down, as
    /// transformers has it, gives `rotary_dim`.
    fn partial_rotary_factor(&self) -> f64 {
        let head_dim = self.head_dim as f64;
        let share = self.rotary_dim as f64 / head_dim;
        if (head_dim * share) as usize == self.rotary_dim {
            share
        } else {
            (self.rotary_dim as f64 + 0.25) / head_dim // rounded down, it is the same
        }
    }

    /// Number of weights. The sizes must pass [`check`](Self::check), or it may overflow.
    #[must_use]
    pub const fn n_params(&self) -> usize {
        let d = self.d_model;
        let qkv = self.qkv_rows();
        let attention = qkv * d + d * self.n_heads * self.head_dim;
        let attention_bias =
            (if self.qkv_bias { qkv } else { 0 }) + (if self.output_bias { d } else { 0 });
        let mlp = 3 * self.d_ff * d;
        let mlp_bias = if self.mlp_bias { 2 * self.d_ff + d } else { 0 };
        let layer = attention + attention_bias + mlp + mlp_bias + 2 * d;
        let tables = self.vocab * d * (if self.tied_head { 1 } else { 2 });
        tables + self.n_layers * layer + d
    }

    /// Reads a Hugging Face `config.json` (transformers 4 and 5 spellings).
    ///
    /// # Errors
    ///
    /// - [`DecoderError::ConfigJson`] if it is not JSON, or a key is missing or has the wrong type.
    /// - [`DecoderError::Unsupported`] for another architecture, activation or RoPE type.
    /// - [`DecoderError::Config`] if the sizes do not fit together.
    pub fn from_json(text: &str) -> Result<Self, DecoderError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| DecoderError::ConfigJson(error.to_string()))?;
        let Value::Object(keys) = value else {
            return Err(DecoderError::ConfigJson("must be a JSON object".to_owned()));
        };
        let keys = Keys(&keys);
        let family = match keys.string("model_type")?.as_deref() {
            Some("glm") => Family::Glm,
            Some("llama") => Family::Llama,
            other => {
                return Err(DecoderError::Unsupported {
                    key: "model_type",
                    value: other.unwrap_or("nothing").to_owned(),
                    supported: "glm, llama",
                });
            }
        };
        let activation = keys.string("hidden_act")?;
        if activation.as_deref().is_some_and(|name| name != "silu") {
            return Err(DecoderError::Unsupported {
                key: "hidden_act",
                value: activation.unwrap_or_default(),
                supported: "silu",
            });
        }
        keys.refuse_other_parts()?;
        let d_model = keys.required("hidden_size")?;
        let n_heads = keys.required("num_attention_heads")?;
        let head_dim = match keys.size("head_dim")? {
            Some(head_dim) => head_dim,
            None if family == Family::Glm => 128,
            None => d_model.checked_div(n_heads).unwrap_or(0),
        };
        let rope = keys.rope()?;
        // What GlmConfig and LlamaConfig of transformers 5.23 take when the file is silent.
        let (default_bias, default_rotary, default_kv_heads, default_context) = match family {
            Family::Glm => (true, 0.5, 2, 131_072),
            Family::Llama => (false, 1.0, n_heads, 2048),
        };
        let bias = keys.flag("attention_bias")?.unwrap_or(default_bias);
        let partial = rope.partial_rotary_factor.unwrap_or(default_rotary);
        if !(partial > 0.0 && partial <= 1.0) {
            return Err(DecoderError::ConfigJson(format!(
                "partial_rotary_factor must be in (0, 1], got {partial}"
            )));
        }
        let config = Self {
            family,
            vocab: keys.required("vocab_size")?,
            d_model,
            n_layers: keys.required("num_hidden_layers")?,
            n_heads,
            n_kv_heads: keys
                .size("num_key_value_heads")?
                .unwrap_or(default_kv_heads),
            head_dim,
            d_ff: keys.required("intermediate_size")?,
            rotary_dim: (head_dim as f64 * partial) as usize,
            rope_base: rope.base.unwrap_or(10_000.0),
            norm_eps: keys.number("rms_norm_eps")?.unwrap_or(match family {
                Family::Glm => 1.562_5e-7,
                Family::Llama => 1e-6,
            }),
            qkv_bias: bias,
            output_bias: bias && family == Family::Llama,
            mlp_bias: family == Family::Llama && keys.flag("mlp_bias")?.unwrap_or(false),
            tied_head: keys.flag("tie_word_embeddings")?.unwrap_or(false),
            context: keys
                .size("max_position_embeddings")?
                .unwrap_or(default_context),
        };
        config.check()?;
        Ok(config)
    }

    /// Writes a `config.json` that transformers 5 reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (model_type, architecture) = match self.family {
            Family::Glm => ("glm", "GlmForCausalLM"),
            Family::Llama => ("llama", "LlamaForCausalLM"),
        };
        let mut value = json!({
            "architectures": [architecture],
            "model_type": model_type,
            "vocab_size": self.vocab,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.d_ff,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "attention_bias": self.qkv_bias,
            "tie_word_embeddings": self.tied_head,
            "max_position_embeddings": self.context,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": self.rope_base,
                "partial_rotary_factor": self.partial_rotary_factor(),
            },
        });
        if self.family == Family::Llama {
            value["mlp_bias"] = self.mlp_bias.into();
        }
        format!("{value:#}\n")
    }
}

/// What `config.json` says of RoPE.
struct Rope {
    base: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

/// Typed access to the keys of a JSON object; `null` counts as absent.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, DecoderError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| DecoderError::ConfigJson(format!("{key} must be {kind}, got {value}")))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, DecoderError> {
        self.typed(key, "a whole number >= 0", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    fn required(&self, key: &str) -> Result<usize, DecoderError> {
        self.size(key)?
            .ok_or_else(|| DecoderError::ConfigJson(format!("{key} is missing")))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, DecoderError> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, DecoderError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn string(&self, key: &str) -> Result<Option<String>, DecoderError> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// Refuses a key that asks for a part which this crate does not compute.
    fn refuse_other_parts(&self) -> Result<(), DecoderError> {
        for key in [
            "sliding_window",
            "attention_chunk_size",
            "quantization_config",
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
        ] {
            if let Some(value) = self.get(key) {
                return Err(DecoderError::Unsupported {
                    key,
                    value: value.to_string(),
                    supported: "null",
                });
            }
        }
        let Some(layers) = self.get("layer_types") else {
            return Ok(());
        };
        let full = |kind: &Value| kind.as_str() == Some("full_attention");
        if layers
            .as_array()
            .is_some_and(|kinds| kinds.iter().all(full))
        {
            return Ok(());
        }
        Err(DecoderError::Unsupported {
            key: "layer_types",
            value: layers.to_string(),
            supported: "full_attention alone",
        })
    }

    /// RoPE's settings: in `rope_parameters` (transformers 5) or at the top level with
    /// `rope_scaling` (transformers 4).
    fn rope(&self) -> Result<Rope, DecoderError> {
        let mut rope = Rope {
            base: self.number("rope_theta")?,
            partial_rotary_factor: self.number("partial_rotary_factor")?,
        };
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(value) = self.get(key) else { continue };
            let Value::Object(inner) = value else {
                return Err(DecoderError::ConfigJson(format!(
                    "{key} must be an object, got {value}"
                )));
            };
            let inner = Keys(inner);
            let kind = match inner.string("rope_type")? {
                Some(kind) => Some(kind),
                None => inner.string("type")?,
            };
            if kind.as_deref().is_some_and(|kind| kind != "default") {
                return Err(DecoderError::Unsupported {
                    key: "rope_type",
                    value: kind.unwrap_or_default(),
                    supported: "default",
                });
            }
            rope.base = inner.number("rope_theta")?.or(rope.base);
            rope.partial_rotary_factor = inner
                .number("partial_rotary_factor")?
                .or(rope.partial_rotary_factor);
        }
        Ok(rope)
    }
}
