//! Filters one after the other and a draw, on the GPU: logits stay there, and a token for each row comes back.

use llm_gpu::{GpuTensor, Recorder};

use super::draws::GpuDraws;
use super::rows::{Check, record_extent};
use super::{
    GpuLogits, GpuSamplingError, categorical, greedy, gumbel_max, min_p, temperature, top_k, top_p,
};
use crate::min_p::MinP;
use crate::temperature::validate;
use crate::top_k::{Ties, TopK};
use crate::top_p::{SumFrom, TopP};
use crate::{RowRandom, SamplingError};

/// One change of the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// [`temperature::apply_inplace`].
    Temperature(f64),
    /// [`top_k::apply_inplace`].
    TopK {
        /// At least 1.
        k: usize,
        /// What becomes of equals.
        ties: Ties,
        /// At least 1.
        min_tokens_to_keep: usize,
    },
    /// [`top_p::apply_inplace`].
    TopP {
        /// In `(0, 1]`.
        p: f64,
        /// Which of equals stay.
        sum_from: SumFrom,
        /// At least 1.
        min_tokens_to_keep: usize,
    },
    /// [`min_p::apply_inplace`].
    MinP {
        /// In `[0, 1]`.
        min_p: f64,
        /// At least 1.
        min_tokens_to_keep: usize,
    },
}

impl Step {
    /// A top-k that leaves one token at least.
    #[must_use]
    pub const fn top_k(k: usize, ties: Ties) -> Self {
        Self::TopK {
            k,
            ties,
            min_tokens_to_keep: 1,
        }
    }

    /// A top-p that leaves one token at least.
    #[must_use]
    pub const fn top_p(p: f64, sum_from: SumFrom) -> Self {
        Self::TopP {
            p,
            sum_from,
            min_tokens_to_keep: 1,
        }
    }

    /// A min-p that leaves one token at least.
    #[must_use]
    pub const fn min_p(min_p: f64) -> Self {
        Self::MinP {
            min_p,
            min_tokens_to_keep: 1,
        }
    }

    fn validate(self) -> Result<(), SamplingError> {
        match self {
            Self::Temperature(t) => validate(t),
            Self::TopK {
                k,
                ties,
                min_tokens_to_keep,
            } => TopK::new(k, ties, min_tokens_to_keep).map(drop),
            Self::TopP {
                p,
                sum_from,
                min_tokens_to_keep,
            } => TopP::new(p, sum_from, min_tokens_to_keep).map(drop),
            Self::MinP {
                min_p,
                min_tokens_to_keep,
            } => MinP::new(min_p, min_tokens_to_keep).map(drop),
        }
    }
}

/// How a token is chosen from what the steps leave, with what is random about it for each row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Choice<'a> {
    /// [`greedy::argmax`].
    Greedy,
    /// [`categorical::draw`].
    Categorical(&'a [f64]),
    /// [`gumbel_max::draw`].
    GumbelMax(&'a [RowRandom]),
}

/// Records steps in the order of the caller and a draw: the [`Chain`](crate::Chain) of the device.
///
/// ```text
/// x -> step_0 -> step_1 -> .. -> draw
/// ```
///
/// Rows are looked at as a whole once for each temperature, and once before it, not once for each step.
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`; they are changed in place
/// - returns: `[batch]`
///
/// # Errors
///
/// Those of the steps and of the draw. Settings and lengths are looked at before anything is recorded.
///
/// # Precision
///
/// That of the parts. So a token is that of the CPU unless a sum, or two sums, lie within what the parts state of each other.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::GpuLogits;
/// use llm_sampling::gpu::chain::{self, Choice, Step};
/// use llm_sampling::top_k::Ties;
/// use llm_sampling::top_p::SumFrom;
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[3.0_f32, 2.0, 1.0], [0.5, 0.5, 9.0]])?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// let steps = [
///     Step::Temperature(0.7),
///     Step::top_k(2, Ties::Kept),
///     Step::top_p(0.9, SumFrom::Smallest),
///     Step::min_p(0.05),
/// ];
/// let draws = chain::sample(&mut recorder, &logits, &steps, Choice::Categorical(&[0.9, 0.9]))?;
/// recorder.submit()?;
/// assert_eq!(draws.download_blocking()?, [1, 2]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
pub fn sample(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    steps: &[Step],
    choice: Choice<'_>,
) -> Result<GpuDraws, GpuSamplingError> {
    steps.iter().try_for_each(|step| step.validate())?;
    match choice {
        Choice::Greedy => {}
        Choice::Categorical(uniforms) => categorical::check_uniforms(logits, uniforms)?,
        Choice::GumbelMax(randoms) => gumbel_max::check_randoms(logits, randoms)?,
    }
    // What is known of the rows; filters keep a largest logit.
    let mut known: Option<GpuTensor<u32>> = None;
    for step in steps {
        if let Step::Temperature(t) = *step {
            temperature::apply_inplace(recorder, logits, t)?;
            known = None;
            continue;
        }
        let extent = extent(recorder, logits, known)?;
        match *step {
            Step::Temperature(_) => {}
            Step::TopK {
                k,
                ties,
                min_tokens_to_keep,
            } => top_k::record(recorder, logits, &extent, k.max(min_tokens_to_keep), ties)?,
            Step::TopP {
                p,
                sum_from,
                min_tokens_to_keep,
            } => top_p::record(recorder, logits, &extent, p, sum_from, min_tokens_to_keep)?,
            Step::MinP {
                min_p,
                min_tokens_to_keep,
            } => min_p::record(recorder, logits, &extent, min_p, min_tokens_to_keep)?,
        }
        known = Some(extent);
    }
    if choice == Choice::Greedy {
        known = None; // of equals, a top-p may have left another
    }
    let extent = extent(recorder, logits, known)?;
    match choice {
        Choice::Greedy => greedy::record(recorder, logits, &extent),
        Choice::Categorical(uniforms) => categorical::record(recorder, logits, &extent, uniforms),
        Choice::GumbelMax(randoms) => gumbel_max::record(recorder, logits, &extent, randoms),
    }
}

fn extent(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    known: Option<GpuTensor<u32>>,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    match known {
        Some(extent) => Ok(extent),
        None => record_extent(recorder, logits, Check::FiniteMax),
    }
}
