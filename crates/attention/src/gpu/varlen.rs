//! Packed sequences on the GPU: one behind the other, without padding; forward and backward.

use llm_gpu::{GpuTensor, Recorder};

use super::plan::{FlashParams, Plan, Sizes, TILE, check_length, params};
use super::score_mods::GpuScoreMods;
use super::{GpuGradients, Variant, axes, word};
use crate::varlen::ranges;
use crate::{AttentionConfig, AttentionError};

pub mod score_mods;

/// Records attention within each of several packed sequences: [`varlen::forward_with_lse`](crate::varlen::forward_with_lse).
///
/// The formula is that of [`flash::forward`](super::flash::forward) for each sequence alone. The lists stay on the host, where
/// they are checked; one small tensor of starts and tiles goes to the device.
///
/// # Shapes
///
/// - `q`: `[total, n_heads, head_dim]`
/// - `k`: `[kv_total, n_kv_heads, head_dim]`
/// - `v`: `[kv_total, n_kv_heads, value_dim]`
/// - `cu_seqlens`, `cu_kv_seqlens`: one number more than there are sequences; the first is 0, none is below the one before
///   it, the last is `total` or `kv_total`
/// - returns: `[total, n_heads, value_dim]` and `[n_heads, total]`
///
/// # Errors
///
/// - [`AttentionError::Rank`] and [`AttentionError::PackedShape`] if the tensors do not fit each other.
/// - [`AttentionError::CuSeqlens`] if a list does not do what is said above, [`AttentionError::CuSeqlensLength`] if one has more
///   sequences than the other.
/// - [`AttentionError::TooLong`] if a sequence is longer than [`MAX_LENGTH`](super::MAX_LENGTH).
/// - Those of [`flash::forward`](super::flash::forward) for heads, the config and the device.
///
/// # Precision
///
/// As [`flash::forward`](super::flash::forward).
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask, gpu};
/// use ndarray::Array3;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // Sequences of 2 and of 3 tokens.
/// let q = gpu.upload(&Array3::<f32>::ones((5, 4, 8)))?; // [total, n_heads, head_dim]
/// let k = gpu.upload(&Array3::<f32>::ones((5, 2, 8)))?; // [kv_total, n_kv_heads, head_dim]
/// let v = gpu.upload(&Array3::from_shape_fn((5, 2, 1), |(token, ..)| token as f32))?;
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let mut recorder = gpu.recorder();
/// let starts = [0, 2, 5];
/// let (out, _) = gpu::varlen::forward(&mut recorder, &q, &k, &v, &starts, &starts, &config)?;
/// recorder.submit()?;
/// let out = out.download_blocking()?;
/// assert!((out[[2, 0, 0]] - 2.0).abs() < 1e-5); // the second sequence begins anew
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the form is that of FlashAttention's `flash_attn_varlen_func` (2.8).
pub fn forward(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let variant = Variant::Auto;
    forward_with(
        recorder,
        q,
        k,
        v,
        cu_seqlens,
        cu_kv_seqlens,
        config,
        variant,
    )
}

/// [`forward`] by a kernel of the caller's choice.
///
/// # Shapes
///
/// As [`forward`].
///
/// # Errors
///
/// Those of [`forward`], and those that [`flash::forward_with`](super::flash::forward_with) has for the variant.
///
/// # Precision
///
/// That of the [`Variant`], for sequences of one token too.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, gpu};
/// use ndarray::Array3;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array3::<f32>::ones((5, 2, 4)))?; // [total, n_heads, head_dim]
/// let (config, starts) = (AttentionConfig::new(Mask::Full), [0, 2, 5]);
/// let mut r = gpu.recorder();
/// let variant = gpu::Variant::Base;
/// let (out, _) = gpu::varlen::forward_with(&mut r, &x, &x, &x, &starts, &starts, &config, variant)?;
/// r.submit()?;
/// assert!(out.download_blocking()?.iter().all(|x| (x - 1.0).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, three tensors, two lists, a config and a variant"
)]
pub fn forward_with(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
    variant: Variant,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let mods = GpuScoreMods::new();
    score_mods::forward_with(
        recorder,
        q,
        k,
        v,
        cu_seqlens,
        cu_kv_seqlens,
        &mods,
        config,
        variant,
    )
}

/// Records the gradients of [`forward`]: [`varlen::backward`](crate::varlen::backward).
///
/// Those of [`flash::backward`](super::flash::backward) for each sequence alone.
///
/// # Shapes
///
/// - `dout`, `out`: `[total, n_heads, value_dim]`; `lse`: `[n_heads, total]`, both from [`forward`] with the same tensors and
///   config
/// - the others as in [`forward`]
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::PackedShape`] and [`AttentionError::PackedLseShape`] if `dout`, `out` or `lse` does not
/// have the shape above.
///
/// # Precision
///
/// As [`flash::backward`](super::flash::backward).
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, gpu};
/// use ndarray::Array3;
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&Array3::<f32>::ones((5, 2, 4)))?; // [total, n_heads, head_dim]
/// let (config, starts) = (AttentionConfig::new(Mask::Full), [0, 2, 5]);
/// let mut recorder = gpu.recorder();
/// let (out, lse) = gpu::varlen::forward(&mut recorder, &x, &x, &x, &starts, &starts, &config)?;
/// let grads = gpu::varlen::backward(
///     &mut recorder, &x, &x, &x, &x, &out, &lse, &starts, &starts, &config,
/// )?;
/// recorder.submit()?;
/// // Equal keys: each gets its share of the weights of its own sequence, which sum to 1.
/// assert!(grads.dv.download_blocking()?.iter().all(|x| (x - 1.0).abs() < 1e-5));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, six tensors, two lists and a config is what the gradient of packed attention has"
)]
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    q: &GpuTensor<f32>,
    k: &GpuTensor<f32>,
    v: &GpuTensor<f32>,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<GpuGradients, AttentionError> {
    let mods = GpuScoreMods::new();
    let grads = score_mods::backward(
        recorder,
        dout,
        q,
        k,
        v,
        out,
        lse,
        cu_seqlens,
        cu_kv_seqlens,
        &mods,
        config,
    )?;
    Ok(grads.inputs)
}

/// The sizes of all sequences together, checked. The lists do not go to the device yet.
fn packed<'a>(
    q: &'a GpuTensor<f32>,
    k: &'a GpuTensor<f32>,
    v: &'a GpuTensor<f32>,
    [cu_seqlens, cu_kv_seqlens]: [&[usize]; 2],
    config: &AttentionConfig,
) -> Result<Plan<'a>, AttentionError> {
    let [total, n_heads, head_dim] = axes("q", q)?;
    let [kv_total, n_kv_heads, _] = axes("k", k)?;
    let [.., value_dim] = axes::<_, 3>("v", v)?;
    expect("k", k, [kv_total, n_kv_heads, head_dim])?;
    expect("v", v, [kv_total, n_kv_heads, value_dim])?;
    let queries = ranges("cu_seqlens", cu_seqlens, total)?;
    let keys = ranges("cu_kv_seqlens", cu_kv_seqlens, kv_total)?;
    let batch = queries.len();
    if batch != keys.len() {
        return Err(AttentionError::CuSeqlensLength {
            queries: batch,
            keys: keys.len(),
        });
    }
    for (queries, keys) in std::iter::zip(&queries, &keys) {
        check_length("seq", queries.len())?;
        check_length("kv_seq", keys.len())?;
    }
    let sizes = Sizes {
        batch,
        n_heads,
        n_kv_heads,
        seq: total,
        kv_seq: kv_total,
        head_dim,
        value_dim,
    };
    let params = FlashParams {
        n_sequences: word(batch),
        q_head: 1,
        q_token: word(n_heads),
        kv_head: 1,
        kv_token: word(n_kv_heads),
        lse_head: word(total),
        is_packed: 1,
        ..params(&sizes, config)?
    };
    let tiles = |ranges: &[std::ops::Range<usize>]| -> usize {
        ranges.iter().map(|range| range.len().div_ceil(TILE)).sum()
    };
    Ok(Plan {
        sizes,
        params,
        q,
        k,
        v,
        slopes: None,
        lists: None,
        tiles: [tiles(&queries), tiles(&keys)],
        tile_lists: [0; 2],
        longest: keys
            .iter()
            .map(|range| range.len().div_ceil(TILE))
            .max()
            .unwrap_or(0),
        bias: None,
    })
}

impl Plan<'_> {
    /// Uploads where sequences start, and which tiles they have: of the keys only if `both`.
    fn set_lists(
        &mut self,
        recorder: &Recorder,
        lists: [&[usize]; 2],
        both: bool,
    ) -> Result<(), AttentionError> {
        let mut words: Vec<u32> = lists.concat().into_iter().map(word).collect();
        self.params.cu_kv_seqlens = word(lists[0].len());
        let sizes = &self.sizes;
        let has_rows = [
            sizes.n_heads > 0,
            both && sizes.n_kv_heads > 0 && (sizes.head_dim > 0 || sizes.value_dim > 0),
        ];
        for side in 0..2 {
            self.tile_lists[side] = word(words.len());
            if !has_rows[side] {
                continue; // no kernel asks for them, however many there are
            }
            for (sequence, pair) in lists[side].windows(2).enumerate() {
                for first in (0..pair[1] - pair[0]).step_by(TILE) {
                    words.extend([word(sequence), word(first)]);
                }
            }
        }
        self.lists = Some(recorder.gpu().upload_slice(&[words.len()], &words)?);
        Ok(())
    }
}

fn expect(
    name: &'static str,
    tensor: &GpuTensor<f32>,
    expected: [usize; 3],
) -> Result<(), AttentionError> {
    let got = axes(name, tensor)?;
    if got == expected {
        return Ok(());
    }
    Err(AttentionError::PackedShape {
        name,
        expected,
        got,
    })
}
