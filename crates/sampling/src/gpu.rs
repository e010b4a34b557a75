//! Compute shaders: from logits on a device to tokens, of which nothing but the ids comes back.
//!
//! Each function records its kernels into an [`llm_gpu::Recorder`]; nothing runs before it is submitted, and nothing comes back before
//! something is downloaded. All kernels need core WebGPU only, so they run in browsers.
//!
//! # The same bits on every device
//!
//! Shaders may flush small numbers, assume that there are no infinities, and round divisions and exponentials as they like. So these kernels
//! compute in integers: divisions and sums of `f64` with its 53 bits, exponentials and logarithms with 31. Temperature, penalties, top-k
//! and min-p leave the bits that the CPU leaves. Sums of weights are of whole units of `2^-43`, so that their order changes nothing: where the CPU,
//! which sums `f32` exponentials in `f64`, chooses another token or keeps another set, the two choices lie within the bound that each function
//! states. No result depends on how rows are packed into batches, or on the device.
//!
//! # Rows that are refused
//!
//! A kernel cannot return an error. [`GpuLogits`] has a status for each row; the first kernel that finds a NaN, or what else the CPU refuses,
//! notes it there. Later kernels leave such a row alone, and whoever reads a result gets the error that the CPU returns.
//!
//! # Dispatches
//!
//! Small kernels cost what a dispatch costs, so here is how many each method records for a whole batch. [`GpuLogits::new`] records 1 before;
//! the 2 of a look at the rows are in the numbers. `d` is how many bytes the largest id has: 1 up to 256 tokens, 2 up to 65,536, else 3.
//!
//! | Method | Dispatches |
//! |--------|------------|
//! | [`mask`] | 1 |
//! | [`history::count`] | 2, or 1 if there are no tokens |
//! | [`temperature`], [`repetition_penalty`], [`presence_frequency`] | 3 |
//! | [`log_normalization`], [`draws::log_probabilities`] | 5 |
//! | [`top_k`] | 12 with [`Ties::Kept`](crate::top_k::Ties::Kept), `13 + 2 d` with [`Ties::Exact`](crate::top_k::Ties::Exact) |
//! | [`top_p`] | `15 + 2 d`; 10 more if `min_tokens_to_keep` is above 1 |
//! | [`min_p`] | 4; 9 more if `min_tokens_to_keep` is above 1 |
//! | [`greedy`] | 3 |
//! | [`categorical`], [`gumbel_max`], [`exponential_race`] | 4 |
//! | [`beam::candidates`] | `21 + 2 d`, with `n_beams vocab` for the number of tokens: `d` may be 4 |
//!
//! A filter that keeps all (`k >= vocab`, `p = 1`, `min_p = 0`) only looks. In a [`chain`] filters and draws share a look, 2 dispatches, until a
//! temperature changes the logits; a greedy choice has one of its own.
//!
//! # Example
//!
//! ```
//! use llm_sampling::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
//! use llm_sampling::gpu::{GpuLogits, sampler};
//! use llm_sampling::{Dialect, RowRandom, SamplingConfig};
//! use ndarray::array;
//!
//! let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
//!     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
//!     gpu => gpu?,
//! };
//! // A model leaves its logits on the device; here they come from the host.
//! let x = gpu.upload(&array![[3.0_f32, 2.0, 1.0], [0.0, 0.0, 9.0]])?; // [batch, vocab]
//! let config = SamplingConfig::sample(Dialect::LlamaCpp, 0.5, Some(40), Some(0.8))?;
//! let uniforms = [0, 1].map(|stream| RowRandom::new(42, stream, 0).uniform(0));
//!
//! let mut recorder = gpu.recorder();
//! let logits = GpuLogits::new(&mut recorder, &x)?;
//! let draws = sampler::sample(&mut recorder, &logits, &config, &uniforms)?;
//! recorder.submit()?;
//! assert_eq!(draws.download_blocking()?, [0, 2]); // four bytes for each row
//! # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
//! ```

use llm_gpu::params::Layout;
use llm_gpu::{GpuElement, GpuTensor, Kernel, Snippet};

pub mod beam;
pub mod categorical;
pub mod chain;
mod clear;
pub mod draws;
mod error;
pub mod exponential_race;
pub mod greedy;
pub mod gumbel_max;
pub mod history;
pub mod log_normalization;
mod logits;
pub mod mask;
pub mod min_p;
pub mod presence_frequency;
mod radix;
pub mod repetition_penalty;
mod rows;
pub mod sampler;
pub mod temperature;
pub mod top_k;
pub mod top_p;

pub use draws::GpuDraws;
pub use error::GpuSamplingError;
pub use llm_gpu;
pub use logits::GpuLogits;

/// Every kernel of this crate, for tools that compile them all.
pub const KERNELS: &[&Kernel] = &[
    &beam::BEAM_GATHER,
    &beam::BEAM_HISTOGRAM,
    &beam::BEAM_SORT,
    &beam::BEAM_START,
    &categorical::CATEGORICAL,
    &clear::CLEAR,
    &greedy::GREEDY,
    &gumbel_max::GUMBEL_MAX,
    &gumbel_max::GUMBEL_MAX_MERGE,
    &history::HISTORY_COUNT,
    &radix::KEEP,
    &log_normalization::LOG_NORMALIZATION,
    &draws::LOG_PROBABILITY,
    &mask::MASK,
    &min_p::MIN_P,
    &presence_frequency::PRESENCE_FREQUENCY,
    &radix::RADIX_HISTOGRAM,
    &radix::RADIX_SELECT,
    &radix::RADIX_START,
    &radix::RADIX_TIES,
    &repetition_penalty::REPETITION_PENALTY,
    &rows::ROW_EXTENT,
    &rows::ROW_EXTENT_MERGE,
    &rows::ROW_MASS,
    &rows::ROW_MASS_MERGE,
    &temperature::TEMPERATURE,
];

/// The parameter blocks of these kernels, for the test that compares them with the shaders.
pub const LAYOUTS: &[Layout] = &[
    beam::BeamGatherParams::LAYOUT,
    beam::BeamHistogramParams::LAYOUT,
    beam::BeamSortParams::LAYOUT,
    beam::BeamStartParams::LAYOUT,
    categorical::CategoricalParams::LAYOUT,
    clear::ClearParams::LAYOUT,
    greedy::GreedyParams::LAYOUT,
    gumbel_max::GumbelMaxMergeParams::LAYOUT,
    gumbel_max::GumbelMaxParams::LAYOUT,
    history::HistoryCountParams::LAYOUT,
    radix::KeepParams::LAYOUT,
    log_normalization::LogNormalizationParams::LAYOUT,
    draws::LogProbabilityParams::LAYOUT,
    mask::MaskParams::LAYOUT,
    min_p::MinPParams::LAYOUT,
    presence_frequency::PresenceFrequencyParams::LAYOUT,
    radix::RadixHistogramParams::LAYOUT,
    radix::RadixSelectParams::LAYOUT,
    radix::RadixStartParams::LAYOUT,
    radix::RadixTiesParams::LAYOUT,
    repetition_penalty::RepetitionPenaltyParams::LAYOUT,
    rows::RowExtentMergeParams::LAYOUT,
    rows::RowExtentParams::LAYOUT,
    rows::RowMassMergeParams::LAYOUT,
    rows::RowMassParams::LAYOUT,
    temperature::TemperatureParams::LAYOUT,
];

/// The largest vocabulary on a device: the weights of so many tokens, of at most 1 each, do not overflow their sum.
pub const MAX_VOCAB: usize = 1 << 20;

/// Invocations of a workgroup where each has one element; the shaders' own default.
const WORKGROUP_SIZE: u32 = 64;
/// Tokens of a row that one workgroup looks at, as in `keys.wgsl`.
const GROUP_TOKENS: usize = 8192;
/// Words of a row's status, as in `keys.wgsl`.
const STATUS_WORDS: usize = 8;
/// Words of a row's extent, as in `keys.wgsl`.
const EXTENT_WORDS: usize = 4;
/// Words of the sum of a row's weights, as in `keys.wgsl`.
const MASS_WORDS: usize = 4;
/// Words of a row's search, as in `keys.wgsl`.
const SEARCH_WORDS: usize = 16;

/// Integers of 64 bits.
const WIDE: Snippet = Snippet {
    name: "wide",
    source: include_str!("gpu/wide.wgsl"),
};
/// Numbers with the bits of `f64`.
const REAL: Snippet = Snippet {
    name: "real",
    source: include_str!("gpu/real.wgsl"),
};
/// Order of `f32`, and the sizes above.
const KEYS: Snippet = Snippet {
    name: "keys",
    source: include_str!("gpu/keys.wgsl"),
};
/// Exponentials and logarithms.
const WEIGHT: Snippet = Snippet {
    name: "weight",
    source: include_str!("gpu/weight.wgsl"),
};
/// The largest logit, and what must not be there.
const EXTENT: Snippet = Snippet {
    name: "extent",
    source: include_str!("gpu/extent.wgsl"),
};

/// A number of token ids that the kernels can count.
fn check_vocab(vocab: usize) -> Result<(), GpuSamplingError> {
    crate::rows::check_vocab(vocab)?;
    if vocab > MAX_VOCAB {
        return Err(GpuSamplingError::Vocab {
            limit: MAX_VOCAB,
            got: vocab,
        });
    }
    Ok(())
}

/// A number of rows, tokens or elements of which there is a tensor; if it has no elements nothing is computed from it.
fn word(n: usize) -> u32 {
    n as u32
}

/// The lengths of the axes, if there are `N`.
fn axes<T: GpuElement, const N: usize>(
    name: &'static str,
    tensor: &GpuTensor<T>,
) -> Result<[usize; N], GpuSamplingError> {
    let got = tensor.shape();
    <[usize; N]>::try_from(got).map_err(|_| GpuSamplingError::Rank {
        name,
        expected: N,
        got: got.to_vec(),
    })
}

fn expect_shape<T: GpuElement>(
    name: &'static str,
    tensor: &GpuTensor<T>,
    expected: &[usize],
) -> Result<(), GpuSamplingError> {
    if tensor.shape() != expected {
        return Err(GpuSamplingError::Shape {
            name,
            expected: expected.to_vec(),
            got: tensor.shape().to_vec(),
        });
    }
    Ok(())
}

/// A finite number as `real.wgsl` has it: sign, exponent, and a mantissa of 53 bits, the highest of which is set unless it is 0.
fn real(x: f64) -> [u32; 4] {
    let bits = x.to_bits();
    let field = (bits >> 52 & 0x7ff) as i32;
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) = if field == 0 {
        let shift = fraction.leading_zeros().saturating_sub(11);
        (fraction << (shift & 63), -1074 - shift as i32)
    } else {
        (fraction | 1 << 52, field - 1075)
    };
    let exponent = if mantissa == 0 { 0 } else { exponent };
    let sign = (bits >> 63) as u32;
    [
        sign,
        exponent as u32,
        mantissa as u32,
        (mantissa >> 32) as u32,
    ]
}
