//! Attention on the GPU to keys and values that lie in pages of a pool.

use llm_gpu::half::{bf16, f16};
use llm_gpu::{
    Access, Binding, Gpu, GpuElement, GpuTensor, Kernel, Needs, Recorder, Snippet, snippet,
};
use ndarray::ArrayRef4;

use super::decode::{
    DECODE, DECODE_BYTES, DECODE_SUBGROUPS, DecodeKernels, DecodeParams, PARAMS, record_pieces,
    subgroups_kernel,
};
use super::flash::{MASK, TANH};
use super::forward::TEAMS;
use super::plan::{Plan, Sizes, expect, expect_shape};
use super::{MAX_LENGTH, Variant, axes, axes_of};
use crate::{AttentionConfig, AttentionError, memory};

const INPUTS: Snippet = Snippet {
    name: "paged_inputs",
    source: include_str!("paged_inputs.wgsl"),
};

const R: Access = Access::Read;
const W: Access = Access::Write;

const fn kernel(name: &'static str, source: &'static str, snippets: &'static [Snippet]) -> Kernel {
    Kernel {
        name,
        source,
        snippets,
        bindings: &[R, R, R, R, R, W, W],
        params_size: size_of::<DecodeParams>(),
        constants: &[],
        needs: Needs::CORE.with_workgroup_bytes(DECODE_BYTES),
    }
}

pub(super) static PAGED_DECODE: Kernel = kernel(
    "paged_decode",
    include_str!("paged_decode.wgsl"),
    &[snippet::LINEAR, PARAMS, MASK, TANH, DECODE, INPUTS],
);

pub(super) static PAGED_DECODE_F16: Kernel = kernel(
    "paged_decode_f16",
    include_str!("paged_decode_f16.wgsl"),
    &[
        snippet::LINEAR,
        snippet::F16,
        PARAMS,
        MASK,
        TANH,
        DECODE,
        INPUTS,
    ],
);

pub(super) static PAGED_DECODE_BF16: Kernel = kernel(
    "paged_decode_bf16",
    include_str!("paged_decode_bf16.wgsl"),
    &[
        snippet::LINEAR,
        snippet::BF16,
        PARAMS,
        MASK,
        TANH,
        DECODE,
        INPUTS,
    ],
);

pub(super) static PAGED_DECODE_INT8: Kernel = Kernel {
    bindings: &[R, R, R, R, R, R, W, W],
    ..kernel(
        "paged_decode_int8",
        include_str!("paged_decode_int8.wgsl"),
        &[snippet::LINEAR, PARAMS, MASK, TANH, DECODE, INPUTS],
    )
};

pub(super) static PAGED_DECODE_1_SUBGROUPS: Kernel = subgroups_kernel(
    &PAGED_DECODE,
    "paged_decode_1_subgroups",
    include_str!("paged_decode_1_subgroups.wgsl"),
    &[
        snippet::LINEAR,
        PARAMS,
        MASK,
        TANH,
        TEAMS,
        DECODE_SUBGROUPS,
        INPUTS,
    ],
);

pub(super) static PAGED_DECODE_F16_1_SUBGROUPS: Kernel = subgroups_kernel(
    &PAGED_DECODE_F16,
    "paged_decode_f16_1_subgroups",
    include_str!("paged_decode_f16_1_subgroups.wgsl"),
    &[
        snippet::LINEAR,
        snippet::F16,
        PARAMS,
        MASK,
        TANH,
        TEAMS,
        DECODE_SUBGROUPS,
        INPUTS,
    ],
);

pub(super) static PAGED_DECODE_BF16_1_SUBGROUPS: Kernel = subgroups_kernel(
    &PAGED_DECODE_BF16,
    "paged_decode_bf16_1_subgroups",
    include_str!("paged_decode_bf16_1_subgroups.wgsl"),
    &[
        snippet::LINEAR,
        snippet::BF16,
        PARAMS,
        MASK,
        TANH,
        TEAMS,
        DECODE_SUBGROUPS,
        INPUTS,
    ],
);

pub(super) static PAGED_DECODE_INT8_1_SUBGROUPS: Kernel = subgroups_kernel(
    &PAGED_DECODE_INT8,
    "paged_decode_int8_1_subgroups",
    include_str!("paged_decode_int8_1_subgroups.wgsl"),
    &[
        snippet::LINEAR,
        PARAMS,
        MASK,
        TANH,
        TEAMS,
        DECODE_SUBGROUPS,
        INPUTS,
    ],
);

/// An element type of pages on the device: `f32`, `f16` or `bf16`.
pub trait GpuPageElement: GpuElement + sealed::Sealed {}

impl GpuPageElement for f32 {}
impl GpuPageElement for f16 {}
impl GpuPageElement for bf16 {}

mod sealed {
    use super::{PAGED_DECODE, PAGED_DECODE_1_SUBGROUPS, bf16, f16};
    use super::{PAGED_DECODE_BF16, PAGED_DECODE_BF16_1_SUBGROUPS};
    use super::{PAGED_DECODE_F16, PAGED_DECODE_F16_1_SUBGROUPS};
    use llm_gpu::Kernel;

    pub trait Sealed {
        const BASE: &'static Kernel;
        const SUBGROUPS: &'static Kernel;
    }
    impl Sealed for f32 {
        const BASE: &'static Kernel = &PAGED_DECODE;
        const SUBGROUPS: &'static Kernel = &PAGED_DECODE_1_SUBGROUPS;
    }
    impl Sealed for f16 {
        const BASE: &'static Kernel = &PAGED_DECODE_F16;
        const SUBGROUPS: &'static Kernel = &PAGED_DECODE_F16_1_SUBGROUPS;
    }
    impl Sealed for bf16 {
        const BASE: &'static Kernel = &PAGED_DECODE_BF16;
        const SUBGROUPS: &'static Kernel = &PAGED_DECODE_BF16_1_SUBGROUPS;
    }
}

/// Pages of 8-bit integers on the device, four in a word, the first in the lowest byte.
#[derive(Clone, Debug)]
pub struct GpuInt8Pages {
    words: GpuTensor<u32>,
    shape: [usize; 4],
}

impl GpuInt8Pages {
    /// Copies pages to the device.
    ///
    /// # Shapes
    ///
    /// - `pages`: `[n_pages, n_kv_heads, page_size, features]`, any strides and any number of elements: the last word
    ///   is filled up with zeros
    ///
    /// # Errors
    ///
    /// - [`AttentionError::TooLarge`] if a copy does not fit into memory.
    /// - [`AttentionError::Gpu`] if the device has no room.
    ///
    /// # Precision
    ///
    /// Exact.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_attention::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
    /// use llm_attention::gpu::paged::GpuInt8Pages;
    /// use ndarray::Array4;
    ///
    /// let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
    ///     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
    ///     gpu => gpu?,
    /// };
    /// let pages = Array4::<i8>::zeros((3, 2, 1, 5)); // 30 bytes in 8 words
    /// let on_device = GpuInt8Pages::upload(&gpu, &pages)?;
    /// assert_eq!(on_device.shape(), [3, 2, 1, 5]);
    /// # Ok::<(), llm_attention::AttentionError>(())
    /// ```
    pub fn upload(gpu: &Gpu, pages: &ArrayRef4<i8>) -> Result<Self, AttentionError> {
        memory::fits::<i8>(pages.dim().into())?;
        let bytes: Vec<u8> = pages.iter().map(|x| x.cast_unsigned()).collect();
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|chunk| {
                let byte = |i| chunk.get(i).copied().unwrap_or(0);
                u32::from_le_bytes(std::array::from_fn(byte))
            })
            .collect();
        Ok(Self {
            words: gpu.upload_slice(&[words.len()], &words)?,
            shape: pages.dim().into(),
        })
    }

    /// Pages that are on the device already, as a cache of keys and values keeps them there. The words are shared, not copied: what is
    /// written to them later is seen.
    ///
    /// # Shapes
    ///
    /// - `words`: `ceil(n_pages * n_kv_heads * page_size * features / 4)` elements in any shape, four integers in each, the first in the lowest byte
    /// - `shape`: `[n_pages, n_kv_heads, page_size, features]`
    ///
    /// # Errors
    ///
    /// - [`AttentionError::TooLarge`] if the integers cannot be counted.
    /// - [`AttentionError::PageWords`] if there are more or fewer words.
    ///
    /// # Precision
    ///
    /// Exact.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_attention::gpu::paged::GpuInt8Pages;
    ///
    /// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
    /// let words = gpu.zeros::<u32>(&[8])?; // a kernel of somebody else writes them
    /// let pages = GpuInt8Pages::from_words(&words, [3, 2, 1, 5])?;
    /// assert_eq!(pages.shape(), [3, 2, 1, 5]);
    /// # Ok::<(), llm_attention::AttentionError>(())
    /// ```
    pub fn from_words(words: &GpuTensor<u32>, shape: [usize; 4]) -> Result<Self, AttentionError> {
        let bytes = if shape.contains(&0) {
            Some(0)
        } else {
            shape
                .iter()
                .try_fold(1_usize, |n, &axis| n.checked_mul(axis))
        };
        let expected = bytes.ok_or(AttentionError::TooLarge { shape })?.div_ceil(4);
        if words.len() != expected {
            return Err(AttentionError::PageWords {
                expected,
                got: words.len(),
            });
        }
        Ok(Self {
            words: words.clone(),
            shape,
        })
    }

    /// `[n_pages, n_kv_heads, page_size, features]`.
    #[must_use]
    pub const fn shape(&self) -> [usize; 4] {
        self.shape
    }
}

/// The keys and values of a batch of sequences, in pages of a pool on the device.
///
/// Token `t` of sequence `b` is at place `t % page_size` of page `block_table[b, t / page_size]`. Sequences may share pages.
#[derive(Clone, Copy, Debug)]
pub struct GpuPagedKv<'a> {
    k: Pages<'a>,
    v: Pages<'a>,
    scales: Option<&'a GpuTensor<f32>>,
    kernels: DecodeKernels,
    block_table: &'a GpuTensor<u32>,
    lengths: &'a GpuTensor<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Pages<'a> {
    binding: Binding<'a>,
    shape: &'a [usize],
}

impl<'a> GpuPagedKv<'a> {
    /// Checked when they are used.
    ///
    /// # Shapes
    ///
    /// - `k`: `[n_pages, n_kv_heads, page_size, head_dim]`
    /// - `v`: `[n_pages, n_kv_heads, page_size, value_dim]`
    /// - `block_table`: `[batch, max_pages]`
    /// - `lengths`: `[batch]`, tokens of each sequence
    #[must_use]
    pub fn new<T: GpuPageElement>(
        k: &'a GpuTensor<T>,
        v: &'a GpuTensor<T>,
        block_table: &'a GpuTensor<u32>,
        lengths: &'a GpuTensor<u32>,
    ) -> Self {
        let pages = |tensor: &'a GpuTensor<T>| Pages {
            binding: tensor.read(),
            shape: tensor.shape(),
        };
        Self {
            k: pages(k),
            v: pages(v),
            scales: None,
            kernels: DecodeKernels {
                base: T::BASE,
                subgroups: T::SUBGROUPS,
            },
            block_table,
            lengths,
        }
    }

    /// The same for pages of 8-bit integers, with a scale for each token and head: `k = k_scale * k_int8`.
    ///
    /// # Shapes
    ///
    /// - `scales`: `[2, n_pages, n_kv_heads, page_size]`, those of the keys, then those of the values
    /// - the others as in [`GpuPagedKv::new`]
    #[must_use]
    pub fn int8(
        k: &'a GpuInt8Pages,
        v: &'a GpuInt8Pages,
        scales: &'a GpuTensor<f32>,
        block_table: &'a GpuTensor<u32>,
        lengths: &'a GpuTensor<u32>,
    ) -> Self {
        let pages = |pages: &'a GpuInt8Pages| Pages {
            binding: pages.words.read(),
            shape: &pages.shape,
        };
        Self {
            k: pages(k),
            v: pages(v),
            scales: Some(scales),
            kernels: DecodeKernels {
                base: &PAGED_DECODE_INT8,
                subgroups: &PAGED_DECODE_INT8_1_SUBGROUPS,
            },
            block_table,
            lengths,
        }
    }
}

/// Records attention of the last tokens of each sequence to all its keys and values in pages.
///
/// The formula is that of [`flash::forward`](super::flash::forward), for each sequence with its own `kv_seq = lengths[b]`. The
/// queries are its last `seq` tokens; with one it is a decode step. Keys are worked on in pieces, whose results are merged by
/// their log-sum-exp.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`
/// - `kv`: see [`GpuPagedKv`]
/// - returns: `[batch, n_heads, seq, value_dim]` and the log-sum-exp `[batch, n_heads, seq]`
///
/// The table and the lengths are on the device and not checked by the host. A length beyond the table counts as the longest that
/// the table can name, and a page that the pool does not have hides its keys: nothing outside the pool is read.
///
/// # Errors
///
/// - [`AttentionError::Rank`] if a tensor has another number of axes.
/// - [`AttentionError::PageSize`] if a page holds no token.
/// - [`AttentionError::Shape`] if the pages do not fit `q` or each other, or the scales the pages.
/// - [`AttentionError::Rows`] if the table or the lengths are not for `batch` sequences.
/// - [`AttentionError::TooLong`] if a row of the table can name more than [`MAX_LENGTH`] tokens.
/// - Those of [`flash::forward`](super::flash::forward) for heads, the config and the device.
///
/// # Precision
///
/// As [`flash::forward`](super::flash::forward); pages of `f16`, `bf16` and 8-bit integers are widened to f32.
///
/// # Example
///
/// ```
/// use llm_attention::gpu::paged::{self, GpuPagedKv};
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask};
/// use ndarray::{Array4, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// // Pages of 2 tokens, one feature: [n_pages, n_kv_heads, page_size, head_dim] = [3, 1, 2, 1].
/// let k = gpu.upload(&Array4::<f32>::zeros((3, 1, 2, 1)))?; // equal keys: a mean of the values
/// let v = gpu.upload(&array![[[[5.0_f32], [0.0]]], [[[1.0], [2.0]]], [[[7.0], [9.0]]]])?;
/// let block_table = gpu.upload(&array![[1_u32, 0], [2, 99]])?; // what no sequence needs may be anything
/// let lengths = gpu.upload(&array![3_u32, 2])?;
/// let q = gpu.upload(&Array4::<f32>::ones((2, 1, 1, 1)))?; // [batch, n_heads, seq, head_dim]
/// let kv = GpuPagedKv::new(&k, &v, &block_table, &lengths);
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let mut recorder = gpu.recorder();
/// let (out, _) = paged::forward(&mut recorder, &q, &kv, &config)?;
/// recorder.submit()?;
/// let out = out.download_blocking()?;
/// assert!((out[[0, 0, 0, 0]] - 8.0 / 3.0).abs() < 1e-5); // 1, 2 of page 1, 5 of page 0
/// assert!((out[[1, 0, 0, 0]] - 8.0).abs() < 1e-5); // 7, 9 of page 2
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Kwon et al., vLLM, arXiv:2309.06180v1, section 4.1.
pub fn forward(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    kv: &GpuPagedKv<'_>,
    config: &AttentionConfig,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    forward_with(recorder, q, kv, config, Variant::Auto)
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
/// As [`forward`]: there is no variant with fewer bits.
///
/// # Example
///
/// ```
/// use llm_attention::gpu::paged::{self, GpuPagedKv};
/// use llm_attention::{AttentionConfig, Mask, gpu::Variant};
/// use ndarray::{Array4, array};
///
/// # let Some(gpu) = llm_attention::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let pages = gpu.upload(&Array4::<f32>::ones((3, 1, 2, 4)))?; // [n_pages, n_kv_heads, page_size, head_dim]
/// let (block_table, lengths) = (gpu.upload(&array![[1_u32, 0]])?, gpu.upload(&array![3_u32])?);
/// let q = gpu.upload(&Array4::<f32>::ones((1, 1, 1, 4)))?; // [batch, n_heads, seq, head_dim]
/// let kv = GpuPagedKv::new(&pages, &pages, &block_table, &lengths);
/// let config = AttentionConfig::new(Mask::Full);
/// let mut recorder = gpu.recorder();
/// let (out, _) = paged::forward_with(&mut recorder, &q, &kv, &config, Variant::Base)?;
/// recorder.submit()?;
/// assert!(out.download_blocking()?.iter().all(|x| (x - 1.0).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`].
pub fn forward_with(
    recorder: &mut Recorder,
    q: &GpuTensor<f32>,
    kv: &GpuPagedKv<'_>,
    config: &AttentionConfig,
    variant: Variant,
) -> Result<(GpuTensor<f32>, GpuTensor<f32>), AttentionError> {
    let [batch, n_heads, seq, head_dim] = axes("q", q)?;
    let [n_pages, n_kv_heads, page_size, _] = axes_of("k", kv.k.shape)?;
    let [_, _, _, value_dim] = axes_of("v", kv.v.shape)?;
    if page_size == 0 {
        return Err(AttentionError::PageSize);
    }
    expect_shape("k", kv.k.shape, [n_pages, n_kv_heads, page_size, head_dim])?;
    expect_shape("v", kv.v.shape, [n_pages, n_kv_heads, page_size, value_dim])?;
    if let Some(scales) = kv.scales {
        expect("scales", scales, [2, n_pages, n_kv_heads, page_size])?;
    }
    let [rows, max_pages] = axes("block_table", kv.block_table)?;
    let [n_lengths] = axes("lengths", kv.lengths)?;
    for (name, got) in [("block_table", rows), ("lengths", n_lengths)] {
        if got != batch {
            return Err(AttentionError::Rows { name, batch, got });
        }
    }
    let kv_seq = max_pages.saturating_mul(page_size);
    if kv_seq > MAX_LENGTH {
        return Err(AttentionError::TooLong {
            name: "max_pages * page_size",
            max: MAX_LENGTH,
            got: kv_seq,
        });
    }
    let sizes = Sizes {
        batch,
        n_heads,
        n_kv_heads,
        seq,
        kv_seq,
        head_dim,
        value_dim,
    };
    let plan = Plan::of_sizes([q; 3], sizes, config)?;
    let out = recorder.output::<f32>(&plan.out_shape())?;
    let lse = recorder.output::<f32>(&plan.lse_shape())?;
    // Where there are no pages any tensor takes their place.
    let [k, v] = [kv.k, kv.v].map(|pages| match pages.shape.contains(&0) {
        true => q.read(),
        false => pages.binding,
    });
    let mut inputs = vec![q.read(), kv.block_table.read(), kv.lengths.read(), k, v];
    inputs.extend(kv.scales.map(GpuTensor::read));
    let pages = [page_size, max_pages, n_pages];
    record_pieces(
        recorder, kv.kernels, variant, &plan, pages, &inputs, &out, &lse,
    )?;
    Ok((out, lse))
}
