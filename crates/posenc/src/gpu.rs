//! Compute shaders: the encodings on tensors that are on a device.
//!
//! Each function records its kernels into an [`llm_gpu::Recorder`]; nothing runs before it is submitted, and nothing
//! comes back before a tensor is downloaded. All kernels need core WebGPU only, so they run in browsers.
//!
//! # Example
//!
//! Learned positions and a rotation in one submission:
//!
//! ```
//! use llm_posenc::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
//! use llm_posenc::gpu::{learned, rope};
//! use llm_posenc::rope::{self as on_the_cpu, RopeConfig, RopePairing};
//! use ndarray::array;
//!
//! let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
//!     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
//!     gpu => gpu?,
//! };
//! let table = gpu.upload(&array![[0.0_f32, 1.0], [1.0, 0.0]])?; // [n_positions, d_model] = [2, 2]
//! let positions = gpu.upload(&array![[0_u32, 1]])?; // [batch, seq] = [1, 2]
//! let config = RopeConfig::new(2, RopePairing::HalfSplit);
//!
//! let mut recorder = gpu.recorder();
//! let x = learned::embed(&mut recorder, &table, &positions)?; // [1, 2, 2]
//! let inv_freq = on_the_cpu::inv_freq(&config)?;
//! let angles = rope::GpuRopeTable::record(&mut recorder, &positions, &inv_freq, 1.0)?;
//! let heads = x.reshape(&[1, 1, 2, 2])?; // [batch, heads, seq, head_dim]
//! rope::apply_inplace(&mut recorder, &heads, &angles, config.pairing)?;
//! recorder.submit()?; // three kernels, in order
//!
//! let y = heads.download_blocking()?;
//! assert_eq!(y[[0, 0, 0, 1]], 1.0); // position 0: unchanged
//! assert!((y[[0, 0, 1, 1]] - 1_f32.sin()).abs() < 1e-6);
//! # Ok::<(), llm_posenc::PosencError>(())
//! ```

use llm_gpu::params::Layout;
use llm_gpu::{Gpu, GpuElement, GpuTensor, Kernel, Snippet};

use crate::PosencError;
use crate::diagonals::check_heads;

pub mod alibi;
pub mod chatglm;
mod diagonals;
pub mod kerple;
pub mod learned;
pub mod rope;
pub mod sinusoidal;
pub mod t5;

pub use llm_gpu;

/// Every kernel of this crate, for tools that compile them all.
pub const KERNELS: &[&Kernel] = &[
    &alibi::ALIBI,
    &alibi::ALIBI_AT,
    &alibi::ALIBI_AT_BACKWARD,
    &alibi::ALIBI_BACKWARD,
    &diagonals::DIAGONAL_SUMS,
    &kerple::KERPLE,
    &kerple::KERPLE_BACKWARD,
    &learned::LEARNED,
    &learned::LEARNED_BACKWARD,
    &rope::ROPE,
    &rope::ROPE_INPLACE,
    &rope::table::ROPE_TABLE,
    &sinusoidal::SINUSOIDAL,
    &t5::T5,
    &t5::T5_BACKWARD,
];

/// The parameter blocks of these kernels, for the test that compares them with the shaders.
pub const LAYOUTS: &[Layout] = &[
    alibi::AlibiAtBackwardParams::LAYOUT,
    alibi::AlibiAtParams::LAYOUT,
    alibi::AlibiBackwardParams::LAYOUT,
    alibi::AlibiParams::LAYOUT,
    diagonals::DiagonalSumsParams::LAYOUT,
    kerple::KerpleBackwardParams::LAYOUT,
    kerple::KerpleParams::LAYOUT,
    learned::LearnedBackwardParams::LAYOUT,
    learned::LearnedParams::LAYOUT,
    rope::RopeInplaceParams::LAYOUT,
    rope::RopeParams::LAYOUT,
    rope::table::RopeTableParams::LAYOUT,
    sinusoidal::SinusoidalParams::LAYOUT,
    t5::T5BackwardParams::LAYOUT,
    t5::T5Params::LAYOUT,
];

/// Angles as integers: fractions of a turn.
const TURNS: Snippet = Snippet {
    name: "turns",
    source: include_str!("gpu/turns.wgsl"),
};

/// Invocations of a workgroup; the shaders' own default.
const WORKGROUP_SIZE: u32 = 64;

/// A size as the shaders have it.
fn word(n: usize) -> Result<u32, PosencError> {
    u32::try_from(n).map_err(|_| PosencError::TooLarge {
        rows: n,
        columns: 1,
    })
}

/// The lengths of an array's axes as the shaders have them: all 0 if it has no elements. Then the others may be of any
/// length, and a shader must not loop over them.
fn words<const N: usize>(axes: [usize; N]) -> Result<[u32; N], PosencError> {
    let mut words = [0; N];
    if !axes.contains(&0) {
        for (word, axis) in words.iter_mut().zip(axes) {
            *word = self::word(axis)?;
        }
    }
    Ok(words)
}

/// The lengths of the axes, if there are `N`.
fn axes<T: GpuElement, const N: usize>(tensor: &GpuTensor<T>) -> Result<[usize; N], PosencError> {
    let got = tensor.shape();
    <[usize; N]>::try_from(got).map_err(|_| PosencError::Rank {
        expected: N,
        got: got.len(),
    })
}

fn expect_shape<T: GpuElement>(
    tensor: &GpuTensor<T>,
    expected: &[usize],
) -> Result<(), PosencError> {
    if tensor.shape() != expected {
        return Err(PosencError::GpuShape {
            expected: expected.to_vec(),
            got: tensor.shape().to_vec(),
        });
    }
    Ok(())
}

/// Refuses no heads, more heads than anything has, and lengths whose distances the shaders cannot form in signed words.
fn check_bias(heads: usize, seq: usize, kv_seq: usize) -> Result<(), PosencError> {
    check_heads(heads)?;
    if seq.max(kv_seq) >= 1 << 30 {
        let shape = [heads, seq, kv_seq];
        return Err(PosencError::BiasTooLarge { shape });
    }
    Ok(())
}

/// Frequencies in turns per token, times 2^64 and modulo it, upper word first: `[n, 2]`.
fn turns_per_token(
    gpu: &Gpu,
    inv_freq: impl Iterator<Item = f64>,
) -> Result<GpuTensor<u32>, PosencError> {
    let words: Vec<u32> = inv_freq
        .flat_map(|inv_freq| {
            let turns = inv_freq / core::f64::consts::TAU;
            let fraction = turns - turns.floor(); // whole turns per token change nothing
            let scaled = (fraction * 18_446_744_073_709_551_616.0) as u64; // 2^64; 1.0 saturates
            [(scaled >> 32) as u32, scaled as u32]
        })
        .collect();
    Ok(gpu.upload_slice(&[words.len() / 2, 2], &words)?)
}
