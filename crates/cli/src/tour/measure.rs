//! The numbers of the tour, each from the crate that it is about.

use std::time::Instant;

use llm_blocks::attention::{AttentionConfig, CausalAlignment, Mask, flash};
use llm_blocks::chat_format::Message;
use llm_blocks::decoder::{Decoder, DecoderError, Session};
use llm_blocks::ffn::glu::GluPacking;
use llm_blocks::ffn::rms_norm;
use llm_blocks::kvcache::calculator;
use llm_blocks::ndarray::{Array1, Array2, Array4, ArrayRef2, Axis, array, s};
use llm_blocks::numerics::philox::Philox4x32;
use llm_blocks::numerics::{gemm, softmax};
use llm_blocks::posenc::rope::{self, RopePairing, RopeTable};
use llm_blocks::sampling::{Dialect, SamplingConfig, greedy, sampler};
use llm_blocks::tiny_model::tokenizer::ControlTokens;
use llm_blocks::tiny_model::{TinyModel, Tokenizer};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Tokens that the speed of decoding is measured on.
const DECODE_STEPS: usize = 64;

/// A rotation plane at one position.
pub(super) struct Plane {
    pub(super) angle: f64,
    /// Where (1, 0) comes to lie.
    pub(super) turned: [f32; 2],
}

/// A token that attention looks at.
pub(super) struct Look {
    pub(super) token: String,
    pub(super) position: usize,
    pub(super) weight: f32,
}

/// A token that may come next.
pub(super) struct Candidate {
    pub(super) token: String,
    pub(super) probability: f32,
}

/// Everything that the tour shows.
pub(super) struct Measured {
    pub(super) ids: Vec<u32>,
    pub(super) tokens: Vec<String>,
    pub(super) position: usize,
    pub(super) planes: Vec<Plane>,
    pub(super) head: usize,
    pub(super) looks_at: Vec<Look>,
    pub(super) cache_bytes_per_token: u64,
    pub(super) cache_bytes_total: u64,
    pub(super) open_gates: usize,
    pub(super) likeliest: Vec<Candidate>,
    pub(super) greedy: String,
    pub(super) drawn: String,
    pub(super) seed: u64,
    pub(super) prefill_ms: f64,
    pub(super) decode_tokens_per_second: f64,
}

/// Any error of a crate: the tour's input is fixed, so none is expected.
fn unexpected(error: impl core::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

/// Runs the prompt through the blocks.
pub(super) fn measure(
    model: &TinyModel,
    messages: &[Message],
    seed: u64,
) -> Result<Measured, Failure> {
    let decoder = model.decoder();
    let config = decoder.config();
    let ids = TinyModel::chat_prompt(messages)?;
    let position = ids.len() - 1;
    let head = 0;

    let (weights, open_gates) = first_block(decoder, &ids, head)?;
    let looks_at = largest(&weights, 4)
        .into_iter()
        .map(|position| {
            Ok(Look {
                token: token(ids[position])?,
                position,
                weight: weights[position],
            })
        })
        .collect::<Result<_, Failure>>()?;

    let bytes = size_of::<f32>();
    let cache_bytes_per_token =
        calculator::bytes_per_token(config.n_layers, config.n_kv_heads, config.head_dim, bytes)
            .map_err(unexpected)?;
    let cache_bytes_total =
        calculator::total_bytes(cache_bytes_per_token, 1, config.context).map_err(unexpected)?;

    let (prefill_ms, decode_tokens_per_second) = speed(decoder, &ids)?;
    let Next {
        likeliest,
        greedy,
        drawn,
    } = next(decoder, &ids, seed)?;

    Ok(Measured {
        tokens: ids.iter().map(|&id| token(id)).collect::<Result<_, _>>()?,
        ids,
        position,
        planes: planes(decoder, position)?,
        head,
        looks_at,
        cache_bytes_per_token,
        cache_bytes_total,
        open_gates,
        likeliest,
        greedy,
        drawn,
        seed,
        prefill_ms,
        decode_tokens_per_second,
    })
}

/// The text of a token, control tokens by name.
fn token(id: u32) -> Result<String, Failure> {
    Ok(Tokenizer::embedded().decode(&[id], ControlTokens::Name)?)
}

/// What RoPE does to (1, 0) in each plane at a position.
fn planes(decoder: &Decoder<f32>, position: usize) -> Result<Vec<Plane>, Failure> {
    let config = decoder.config().rope();
    let inv_freq = rope::inv_freq(&config).map_err(unexpected)?;
    let table = RopeTable::new(&inv_freq, &array![position], 1.0).map_err(unexpected)?;
    // (1, 0) in every plane, the planes side by side.
    let x = Array4::from_shape_fn((1, 1, 1, config.rotary_dim), |(.., i)| {
        f32::from(i % 2 == 0)
    });
    let y = rope::apply(&x, &table, RopePairing::Interleaved).map_err(unexpected)?;
    Ok(inv_freq
        .iter()
        .enumerate()
        .map(|(i, inv_freq)| Plane {
            angle: position as f64 * inv_freq,
            turned: [y[[0, 0, 0, 2 * i]], y[[0, 0, 0, 2 * i + 1]]],
        })
        .collect())
}

/// In the first block, for the last token: the attention weights of a head, and how many gates are open.
fn first_block(
    decoder: &Decoder<f32>,
    ids: &[u32],
    head: usize,
) -> Result<(Array1<f32>, usize), Failure> {
    let (config, weights) = (decoder.config(), decoder.params());
    let (n_heads, n_kv_heads, head_dim) = (config.n_heads, config.n_kv_heads, config.head_dim);
    let seq = ids.len();
    let layer = weights
        .layers
        .first()
        .ok_or_else(|| unexpected("the model has no block"))?;
    let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
    let x = weights.embedding.select(Axis(0), &rows); // [seq, d_model]

    let normed =
        rms_norm::forward(&x, &layer.attention_norm, config.norm_eps).map_err(unexpected)?;
    let mut qkv = product(&normed, &layer.qkv)?;
    layer.qkv_bias.iter().for_each(|bias| qkv += bias);
    let heads = qkv
        .to_shape((1, seq, n_heads + 2 * n_kv_heads, head_dim))
        .map_err(unexpected)?;
    let heads = heads.permuted_axes([0, 2, 1, 3]); // [1, heads, seq, head_dim]
    let (q, kv) = heads.view().split_at(Axis(1), n_heads);
    let (k, v) = kv.split_at(Axis(1), n_kv_heads);
    let positions = Array1::from_iter(0..seq);
    let table = RopeTable::from_config(&config.rope(), &positions).map_err(unexpected)?;
    let q = rope::apply(&q, &table, config.pairing()).map_err(unexpected)?;
    let k = rope::apply(&k, &table, config.pairing()).map_err(unexpected)?;
    let causal = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));

    // Values that are the rows of a unit matrix make attention return its weights.
    let unit = Array4::from_shape_fn((1, n_kv_heads, seq, seq), |(.., i, j)| f32::from(i == j));
    let all = flash::forward(&q, &k, &unit, &causal).map_err(unexpected)?;
    let row = all.slice(s![0, head, -1, ..]).to_owned();

    let attended = flash::forward(&q, &k, &v, &causal).map_err(unexpected)?;
    let attended = attended.permuted_axes([0, 2, 1, 3]); // [1, seq, n_heads, head_dim]
    let attended = attended
        .to_shape((seq, n_heads * head_dim))
        .map_err(unexpected)?;
    let x = x + product(&attended, &layer.output)?;
    let normed = rms_norm::forward(&x, &layer.mlp_norm, config.norm_eps).map_err(unexpected)?;
    let gate_up = product(&normed, &layer.gate_up)?; // [seq, 2 * d_ff]
    let (gate, _) = GluPacking::GateUp
        .split(gate_up.view(), Axis(1))
        .map_err(unexpected)?;
    let open = gate.slice(s![-1, ..]).iter().filter(|&&g| g > 0.0).count();
    Ok((row, open))
}

/// `x Wᵀ`.
fn product(x: &ArrayRef2<f32>, weight: &Array2<f32>) -> Result<Array2<f32>, Failure> {
    gemm::matmul(x, &weight.t()).map_err(unexpected)
}

/// The positions of the `n` largest elements, largest first.
fn largest(x: &Array1<f32>, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].total_cmp(&x[a]));
    order.truncate(n);
    order
}

/// What may come first in the answer.
struct Next {
    likeliest: Vec<Candidate>,
    greedy: String,
    drawn: String,
}

fn next(decoder: &Decoder<f32>, ids: &[u32], seed: u64) -> Result<Next, Failure> {
    // The line break after `<|assistant|>` is the model's too, but says nothing.
    let line_break = Tokenizer::embedded().encode("\n")?;
    let mut session = Session::new(decoder, ids.len() + line_break.len())?;
    session.extend(ids)?;
    let logits = session.extend(&line_break)?;

    let mut probabilities = logits.clone();
    softmax::softmax_inplace(&mut probabilities);
    let likeliest = largest(&probabilities, 3)
        .into_iter()
        .map(|id| {
            Ok(Candidate {
                token: token(id as u32)?,
                probability: probabilities[id],
            })
        })
        .collect::<Result<_, Failure>>()?;

    let u = Philox4x32::new(seed).uniform_f64(0, 0);
    let config = SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, Some(0.9))?;
    let row = logits.view().insert_axis(Axis(0)); // [1, vocab]
    let draws = sampler::sample(&row, &config, &[u])?;
    Ok(Next {
        likeliest,
        greedy: token(greedy::argmax(&logits)?)?,
        drawn: draws
            .first()
            .map_or(Ok(String::new()), |draw| token(draw.token))?,
    })
}

/// Milliseconds of a prefill, and tokens by the second in decoding.
fn speed(decoder: &Decoder<f32>, ids: &[u32]) -> Result<(f64, f64), Failure> {
    let steps = DECODE_STEPS.min(decoder.config().context - ids.len());
    // Once to warm up.
    Session::new(decoder, ids.len())?.extend(ids)?;
    let mut session = Session::new(decoder, ids.len() + steps)?;
    let start = Instant::now();
    let mut logits = session.extend(ids)?;
    let prefill_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    for _ in 0..steps {
        logits = session.extend(&[greedy::argmax(&logits)?])?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((prefill_ms, steps as f64 / seconds.max(1e-9)))
}

impl From<DecoderError> for Failure {
    fn from(error: DecoderError) -> Self {
        unexpected(error)
    }
}

impl Measured {
    /// The same for a program.
    pub(super) fn to_json(&self) -> Value {
        let planes = self.planes.iter();
        let looks = self.looks_at.iter();
        let likeliest = self.likeliest.iter();
        json!({
            "prompt_ids": self.ids,
            "prompt_tokens": self.tokens,
            "rope": {
                "position": self.position,
                "planes": planes
                    .map(|p| json!({ "angle": p.angle, "turned": p.turned }))
                    .collect::<Vec<_>>(),
            },
            "attention": {
                "block": 0,
                "head": self.head,
                "query": self.position,
                "looks_at": looks
                    .map(|l| json!({ "token": l.token, "position": l.position, "weight": l.weight }))
                    .collect::<Vec<_>>(),
            },
            "kvcache": {
                "bytes_per_token": self.cache_bytes_per_token,
                "bytes_for_context": self.cache_bytes_total,
            },
            "swiglu": { "block": 0, "open_gates": self.open_gates },
            "sampling": {
                "likeliest": likeliest
                    .map(|c| json!({ "token": c.token, "probability": c.probability }))
                    .collect::<Vec<_>>(),
                "greedy": self.greedy,
                "drawn": self.drawn,
                "seed": self.seed,
            },
            "prefill_ms": self.prefill_ms,
            "decode_tokens_per_second": self.decode_tokens_per_second,
        })
    }
}
