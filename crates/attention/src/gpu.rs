//! Compute shaders: attention on tensors that are on a device, forward and backward.
//!
//! Each function records its kernels into an [`llm_gpu::Recorder`]; nothing runs before it is submitted, and nothing
//! comes back before a tensor is downloaded. For each there is a kernel that needs core WebGPU only, so they run in browsers;
//! [`Variant`] names the faster ones. None adds with atomics: the same input gives the same bits on the same device.
//!
//! # Log-sum-exp
//!
//! Shaders need not keep infinities, so the log-sum-exp of a query that sees no key is [`LOWEST`] on the device, and
//! [`download_lse`] makes it the `-inf` that it is on the CPU. Both are understood by the kernels that read one.
//!
//! # Not a number
//!
//! Shader compilers may assume that there is none: where an input is NaN or infinite, so may be any result of that
//! head and sequence.
//!
//! # Example
//!
//! ```
//! use llm_attention::gpu::{self, llm_gpu::{Gpu, GpuError, GpuOptions}};
//! use llm_attention::{AttentionConfig, CausalAlignment, Mask};
//! use ndarray::Array4;
//!
//! let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
//!     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
//!     gpu => gpu?,
//! };
//! let q = gpu.upload(&Array4::<f32>::ones((1, 4, 3, 8)))?; // [batch, n_heads, seq, head_dim]
//! let k = gpu.upload(&Array4::<f32>::ones((1, 2, 3, 8)))?; // [batch, n_kv_heads, kv_seq, head_dim]
//! let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
//!
//! let mut recorder = gpu.recorder();
//! let (out, lse) = gpu::flash::forward(&mut recorder, &q, &k, &k, &config)?;
//! let grads = gpu::flash::backward(&mut recorder, &out, &q, &k, &k, &out, &lse, &config)?;
//! recorder.submit()?;
//! assert_eq!(out.download_blocking()?[[0, 0, 0, 0]], 1.0);
//! assert_eq!(grads.dk.shape(), [1, 2, 3, 8]);
//! # Ok::<(), llm_attention::AttentionError>(())
//! ```

use llm_gpu::params::Layout;
use llm_gpu::{GpuElement, GpuError, GpuTensor, Kernel};
use ndarray::ArrayD;

use crate::AttentionError;

mod decode;
pub mod flash;
mod forward;
pub mod paged;
mod plan;
pub mod score_mods;
pub mod sinks;
mod variant;
pub mod varlen;

pub use llm_gpu;
pub use variant::Variant;

/// Every kernel of this crate, for tools that compile them all.
pub const KERNELS: &[&Kernel] = &[
    &decode::FLASH_DECODE,
    &decode::FLASH_DECODE_1_SUBGROUPS,
    &decode::FLASH_DECODE_MERGE,
    &score_mods::FLASH_DBIAS,
    &flash::FLASH_DK,
    &flash::FLASH_DQ,
    &score_mods::FLASH_DSLOPES,
    &flash::FLASH_DV,
    &forward::FLASH_FORWARD,
    &forward::FLASH_FORWARD_1_SUBGROUPS,
    &forward::FLASH_FORWARD_2_F16,
    &forward::FLASH_FORWARD_3_MATRICES_16,
    &forward::FLASH_FORWARD_3_MATRICES_8,
    &flash::FLASH_ROWS,
    &score_mods::MASKED_BIAS,
    &varlen::score_mods::PACKED_LISTS,
    &paged::PAGED_DECODE,
    &paged::PAGED_DECODE_1_SUBGROUPS,
    &paged::PAGED_DECODE_BF16,
    &paged::PAGED_DECODE_BF16_1_SUBGROUPS,
    &paged::PAGED_DECODE_F16,
    &paged::PAGED_DECODE_F16_1_SUBGROUPS,
    &paged::PAGED_DECODE_INT8,
    &paged::PAGED_DECODE_INT8_1_SUBGROUPS,
    &score_mods::ROW_SUMS,
    &sinks::SINKS_APPLY,
    &sinks::SINKS_BACKWARD,
];

/// The parameter blocks of these kernels, for the test that compares them with the shaders.
pub const LAYOUTS: &[Layout] = &[
    decode::DecodeParams::LAYOUT,
    decode::FlashDecodeMergeParams::LAYOUT,
    flash::FlashRowsParams::LAYOUT,
    plan::FlashParams::LAYOUT,
    score_mods::MaskedBiasParams::LAYOUT,
    score_mods::RowSumsParams::LAYOUT,
    varlen::score_mods::PackedListsParams::LAYOUT,
    sinks::SinksApplyParams::LAYOUT,
    sinks::SinksBackwardParams::LAYOUT,
];

/// The longest sequence that the kernels take: up to here `f32` holds every position and distance.
pub const MAX_LENGTH: usize = 1 << 24;

/// What stands on the device for the log-sum-exp of a query that sees no key.
pub const LOWEST: f32 = f32::MIN;

/// Downloads a log-sum-exp as the CPU has it: [`LOWEST`] becomes `-inf`.
///
/// # Shapes
///
/// - `lse`: of any shape
/// - returns: the same shape
///
/// # Errors
///
/// As [`GpuTensor::download`].
///
/// # Precision
///
/// All other numbers come as they are.
///
/// # Example
///
/// See [`download_lse_blocking`], which is the same where a thread may wait: not in a browser.
pub async fn download_lse(lse: &GpuTensor<f32>) -> Result<ArrayD<f32>, GpuError> {
    let mut lse = lse.download().await?;
    lse.mapv_inplace(|x| if x == LOWEST { f32::NEG_INFINITY } else { x });
    Ok(lse)
}

/// [`download_lse`], and waits for it.
///
/// # Shapes
///
/// As [`download_lse`].
///
/// # Errors
///
/// As [`GpuTensor::download`].
///
/// # Precision
///
/// As [`download_lse`].
///
/// # Example
///
/// ```
/// use llm_attention::gpu::{self, llm_gpu::{Gpu, GpuError, GpuOptions}};
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask};
/// use ndarray::Array4;
///
/// let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
///     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
///     gpu => gpu?,
/// };
/// // Two queries and one key: the first stands before it.
/// let q = gpu.upload(&Array4::<f32>::zeros((1, 1, 2, 4)))?;
/// let k = gpu.upload(&Array4::<f32>::zeros((1, 1, 1, 4)))?;
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let mut recorder = gpu.recorder();
/// let (_, lse) = gpu::flash::forward(&mut recorder, &q, &k, &k, &config)?;
/// recorder.submit()?;
/// let lse = gpu::download_lse_blocking(&lse)?;
/// assert_eq!(lse[[0, 0, 0]], f32::NEG_INFINITY);
/// assert!(lse[[0, 0, 1]].abs() < 1e-6);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
#[cfg(not(target_arch = "wasm32"))]
pub fn download_lse_blocking(lse: &GpuTensor<f32>) -> Result<ArrayD<f32>, GpuError> {
    let mut lse = lse.download_blocking()?;
    lse.mapv_inplace(|x| if x == LOWEST { f32::NEG_INFINITY } else { x });
    Ok(lse)
}

/// The gradients of attention on the device.
#[derive(Clone, Debug)]
pub struct GpuGradients {
    /// For the queries, shaped as they are.
    pub dq: GpuTensor<f32>,
    /// For the keys.
    pub dk: GpuTensor<f32>,
    /// For the values.
    pub dv: GpuTensor<f32>,
}

/// The lengths of the axes, if there are `N`.
fn axes<T: GpuElement, const N: usize>(
    name: &'static str,
    tensor: &GpuTensor<T>,
) -> Result<[usize; N], AttentionError> {
    axes_of(name, tensor.shape())
}

/// [`axes`] of a shape.
fn axes_of<const N: usize>(
    name: &'static str,
    got: &[usize],
) -> Result<[usize; N], AttentionError> {
    <[usize; N]>::try_from(got).map_err(|_| AttentionError::Rank {
        name,
        expected: N,
        got: got.to_vec(),
    })
}

/// Invocations of a workgroup; the shaders' own default.
const WORKGROUP_SIZE: u32 = 64;

/// A number of heads, rows or bytes of which there is a tensor; if it has no elements nothing is computed from it.
fn word(n: usize) -> u32 {
    n as u32
}
