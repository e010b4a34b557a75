//! What prefill and decode cost, and which of a machine's limits they meet.

use super::checked;
use crate::KvCacheError;

/// The sizes of a decoder that count for its work.
///
/// # Example
///
/// ```
/// use llm_kvcache::calculator::ModelSizes;
///
/// let gpt2 = ModelSizes {
///     n_layers: 12,
///     d_model: 768,
///     n_heads: 12,
///     n_kv_heads: 12,
///     head_dim: 64,
///     d_ff: 3072,
///     ffn_matrices: 2,
///     vocab: 50257,
/// };
/// assert_eq!(gpt2.matrix_weights()?, 123_532_032); // the 124 million, less positions, norms and biases
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSizes {
    /// Layers.
    pub n_layers: usize,
    /// Residual width.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub d_ff: usize,
    /// Matrices of the feed-forward block: 3 with a gate, 2 without.
    pub ffn_matrices: usize,
    /// Token ids.
    pub vocab: usize,
}

impl ModelSizes {
    /// LLaMA-2 7B.
    ///
    /// Source: Touvron et al., arXiv:2307.09288v2, and the configuration of its checkpoint.
    #[must_use]
    pub fn llama_2_7b() -> Self {
        Self {
            n_layers: 32,
            d_model: 4096,
            n_heads: 32,
            n_kv_heads: 32,
            head_dim: 128,
            d_ff: 11008,
            ffn_matrices: 3,
            vocab: 32000,
        }
    }

    /// Llama 3 8B.
    ///
    /// Source: the configuration of its checkpoint.
    #[must_use]
    pub fn llama_3_8b() -> Self {
        Self {
            n_kv_heads: 8,
            d_ff: 14336,
            vocab: 128_256,
            ..Self::llama_2_7b()
        }
    }

    /// Weights of the matrices that every token is multiplied with: projections, feed-forward, output head.
    ///
    /// ```text
    /// n_layers (2 d_model head_dim (n_heads + n_kv_heads) + ffn_matrices d_model d_ff) + d_model vocab
    /// ```
    ///
    /// # Errors
    ///
    /// [`KvCacheError::ByteCount`] if the count is 2^64 or more.
    pub fn matrix_weights(&self) -> Result<u64, KvCacheError> {
        let [layers, width, heads, kv, dim, ff, matrices, vocab] = self.all();
        let attention = mul(&[2, width, dim, heads + kv]);
        let layer = add(&[attention, mul(&[matrices, width, ff])]);
        let layers = layer.and_then(|n| n.checked_mul(layers));
        checked(add(&[layers, mul(&[width, vocab])]), self.factors())
    }

    /// Keys and values of a token in all layers, as numbers.
    fn cached(&self) -> Option<u128> {
        let [layers, _, _, kv, dim, ..] = self.all();
        mul(&[2, layers, kv, dim])
    }

    fn all(&self) -> [u128; 8] {
        [
            self.n_layers,
            self.d_model,
            self.n_heads,
            self.n_kv_heads,
            self.head_dim,
            self.d_ff,
            self.ffn_matrices,
            self.vocab,
        ]
        .map(|n| n as u128)
    }

    fn factors(&self) -> [u64; 5] {
        [
            self.n_layers as u64,
            self.d_model as u64,
            self.d_ff as u64,
            self.vocab as u64,
            self.head_dim as u64,
        ]
    }
}

/// The work of one pass over new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Multiplications and additions.
    pub flops: u64,
    /// Bytes of weights that are read, once for all sequences.
    pub weight_bytes: u64,
    /// Bytes of cached keys and values that are read.
    pub cache_read_bytes: u64,
    /// Bytes of keys and values that are written.
    pub cache_write_bytes: u64,
}

impl Work {
    /// All bytes that must move between slow memory and the cores.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.weight_bytes
            .saturating_add(self.cache_read_bytes)
            .saturating_add(self.cache_write_bytes)
    }

    /// Operations for each byte moved.
    ///
    /// A machine that does `F` operations and moves `B` bytes a second is kept busy by its memory if this is below `F / B`, and
    /// by its arithmetic if it is above.
    #[must_use]
    pub fn intensity(&self) -> f64 {
        self.flops as f64 / self.bytes() as f64
    }
}

/// Operations and bytes of a pass over `seq` new tokens of each of `batch` sequences that have `past` tokens already.
///
/// ```text
/// flops = 2 batch (seq (layer_weights) + d_model vocab)                 products with weights; the head for the last token
///       + 4 batch n_layers n_heads head_dim Σ_{t=1..seq} (past + t)     scores, and sums of values, below the diagonal
/// bytes = weights weight_bytes  +  batch (past + seq) cached  +  batch seq cached
/// ```
///
/// `cached` are the bytes of a token's keys and values in all layers. The first reads of the cache are those of attention,
/// once for each pass, as tiled attention has them; the last are the writes. Softmax, norms and activations are left out,
/// and activations are taken to stay in fast memory.
///
/// [`prefill`](prefill_work) has `past = 0`, a decode step `seq = 1`. Without a cache a step is a
/// prefill of all tokens again.
///
/// # Errors
///
/// [`KvCacheError::ByteCount`] if a count is 2^64 or more.
///
/// # Example
///
/// ```
/// use llm_kvcache::calculator::{ModelSizes, decode_work, prefill_work};
///
/// let model = ModelSizes::llama_2_7b();
/// let prefill = prefill_work(&model, 1, 512, 2)?; // 16-bit weights and cache
/// let decode = decode_work(&model, 1, 512, 2)?;
/// // A GPU of 312 TFLOP/s and 2.0 TB/s has 156 operations for each byte.
/// assert!(prefill.intensity() > 400.0);
/// assert!(decode.intensity() < 1.1);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Pope et al., arXiv:2211.05102v1, section 2; the roofline is Williams et al. 2009.
pub fn pass_work(
    model: &ModelSizes,
    batch: usize,
    past: usize,
    seq: usize,
    element_bytes: usize,
) -> Result<Work, KvCacheError> {
    let weights = u128::from(model.matrix_weights()?);
    let [layers, width, heads, _, dim, _, _, vocab] = model.all();
    let [batch, past, seq, size] = [batch, past, seq, element_bytes].map(|n| n as u128);
    let count = |n: Option<u128>| checked(n, model.factors());
    let head = width * vocab; // part of the weights, so it fits
    // ANCHOR: flops
    // seq past + seq (seq + 1) / 2
    let pairs = add(&[mul(&[seq, past]), mul(&[seq, seq + 1]).map(|n| n / 2)]);
    let heads_of_all = mul(&[4, batch, layers, heads, dim]);
    let of_token = mul(&[2, batch, seq, weights - head]);
    let of_head = mul(&[2, batch, head])
        .filter(|_| seq > 0)
        .or((seq == 0).then_some(0));
    let attention = pairs.zip(heads_of_all).and_then(|(a, b)| a.checked_mul(b));
    // ANCHOR_END: flops
    let cached = model.cached();
    let cache = |tokens: Option<u128>| {
        let bytes = cached.zip(tokens).and_then(|(a, b)| a.checked_mul(b));
        bytes.and_then(|n| n.checked_mul(size))
    };
    Ok(Work {
        flops: count(add(&[of_token, of_head, attention]))?,
        weight_bytes: count(mul(&[weights, size]))?,
        cache_read_bytes: count(cache(mul(&[batch, past + seq])))?,
        cache_write_bytes: count(cache(mul(&[batch, seq])))?,
    })
}

/// [`pass_work`] of a whole prompt, on an empty cache.
///
/// # Errors
///
/// As [`pass_work`].
pub fn prefill_work(
    model: &ModelSizes,
    batch: usize,
    seq: usize,
    element_bytes: usize,
) -> Result<Work, KvCacheError> {
    pass_work(model, batch, 0, seq, element_bytes)
}

/// [`pass_work`] of one token for each sequence, behind `past` cached ones.
///
/// # Errors
///
/// As [`pass_work`].
pub fn decode_work(
    model: &ModelSizes,
    batch: usize,
    past: usize,
    element_bytes: usize,
) -> Result<Work, KvCacheError> {
    pass_work(model, batch, past, 1, element_bytes)
}

fn mul(factors: &[u128]) -> Option<u128> {
    factors.iter().try_fold(1_u128, |n, &x| n.checked_mul(x))
}

/// A sum of what could be counted.
fn add<T: Copy + Into<Option<u128>>>(parts: &[T]) -> Option<u128> {
    parts
        .iter()
        .try_fold(0_u128, |n, &x| n.checked_add(x.into()?))
}
