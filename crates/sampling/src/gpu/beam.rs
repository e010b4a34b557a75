//! The best candidates of beams, on the GPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};
use ndarray::ArrayD;

use super::logits::refusal;
use super::radix::{BUCKET_WORDS, BUCKETS, RADIX, RADIX_SELECT, RadixSelectParams};
use super::rows::{Check, record_extent};
use super::{
    GROUP_TOKENS, GpuLogits, GpuSamplingError, KEYS, REAL, SEARCH_WORDS, WIDE, WORKGROUP_SIZE,
    real, word,
};
use crate::SamplingError;

llm_gpu::params! {
    /// The parameter block of `beam_start.wgsl`.
    pub(super) struct BeamStartParams {
        n_prompts: u32,
        n_beams: u32,
        n: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `beam_histogram.wgsl`.
    pub(super) struct BeamHistogramParams {
        n_prompts: u32,
        n_beams: u32,
        vocab: u32,
        n_groups: u32,
        word: u32,
        shift: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `beam_gather.wgsl`.
    pub(super) struct BeamGatherParams {
        n_elements: u32,
        n_beams: u32,
        vocab: u32,
        n: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `beam_sort.wgsl`.
    pub(super) struct BeamSortParams {
        n_prompts: u32,
        n_beams: u32,
        vocab: u32,
        n: u32,
    }
}

/// Sums of beams and their order.
const BEAM: Snippet = Snippet {
    name: "beam",
    source: include_str!("beam.wgsl"),
};

const SNIPPETS: &[Snippet] = &[snippet::LINEAR, WIDE, REAL, KEYS, RADIX, BEAM];

pub(super) static BEAM_START: Kernel = Kernel {
    name: "beam_start",
    source: include_str!("beam_start.wgsl"),
    snippets: &[snippet::LINEAR, KEYS, RADIX],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<BeamStartParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static BEAM_HISTOGRAM: Kernel = Kernel {
    name: "beam_histogram",
    source: include_str!("beam_histogram.wgsl"),
    snippets: SNIPPETS,
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params_size: size_of::<BeamHistogramParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(1024),
};

pub(super) static BEAM_GATHER: Kernel = Kernel {
    name: "beam_gather",
    source: include_str!("beam_gather.wgsl"),
    snippets: SNIPPETS,
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    params_size: size_of::<BeamGatherParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static BEAM_SORT: Kernel = Kernel {
    name: "beam_sort",
    source: include_str!("beam_sort.wgsl"),
    snippets: SNIPPETS,
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params_size: size_of::<BeamSortParams>(),
    constants: &[],
    needs: Needs::CORE,
};

/// Words of a candidate, as in `beam_sort.wgsl`.
const CANDIDATE_WORDS: usize = 5;

/// Most candidates of a prompt: each is compared with each.
pub const MAX_CANDIDATES: usize = 1024;

/// A token that may continue a beam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamCandidate {
    /// Which of the beams of its prompt.
    pub beam: usize,
    /// The token.
    pub token: u32,
    /// Its log-probability, in nats.
    pub log_probability: f64,
    /// The sum of the beam with this token.
    pub sum: f64,
}

/// The candidates of each prompt, on the device.
#[derive(Clone, Debug)]
pub struct GpuBeamCandidates {
    words: GpuTensor<u32>,
    status: GpuTensor<u32>,
}

impl GpuBeamCandidates {
    /// `[prompts, n_candidates, 5]`: token (`u32::MAX` where there is no candidate), beam, the two words of the sum as `f64` with the lower one
    /// first, the bits of the log-probability as `f32`.
    #[must_use]
    pub const fn words(&self) -> &GpuTensor<u32> {
        &self.words
    }

    /// Waits for the candidates of each prompt, the best first.
    ///
    /// # Shapes
    ///
    /// - returns: `[prompts]`, each with up to `n_candidates`
    ///
    /// # Errors
    ///
    /// As [`GpuLogits::check`].
    pub async fn download(&self) -> Result<Vec<Vec<BeamCandidate>>, GpuSamplingError> {
        refusal(&self.status.download().await?)?;
        Ok(read(&self.words.download().await?))
    }

    /// [`download`](Self::download), and waits for it.
    ///
    /// # Shapes
    ///
    /// As [`download`](Self::download).
    ///
    /// # Errors
    ///
    /// As [`GpuLogits::check`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn download_blocking(&self) -> Result<Vec<Vec<BeamCandidate>>, GpuSamplingError> {
        refusal(&self.status.download_blocking()?)?;
        Ok(read(&self.words.download_blocking()?))
    }
}

fn read(words: &ArrayD<u32>) -> Vec<Vec<BeamCandidate>> {
    let of = |candidate: ndarray::ArrayView1<'_, u32>| BeamCandidate {
        token: candidate[0],
        beam: candidate[1] as usize,
        sum: f64::from_bits(u64::from(candidate[3]) << 32 | u64::from(candidate[2])),
        log_probability: f64::from(f32::from_bits(candidate[4])),
    };
    let prompts = words.outer_iter();
    let lists = prompts.map(|prompt| {
        let rows = prompt.rows().into_iter();
        rows.filter(|c| c[0] != u32::MAX).map(of).collect()
    });
    lists.collect()
}

/// Records the choice of the best candidates of each prompt, as the searches by beams look at them.
///
/// ```text
/// the n_candidates largest of  s(y) + ln p(v | y)  over the beams y of a prompt and tokens v, the largest first;
/// of equals the lower beam, then the lower token
/// ```
///
/// A candidate of sum `-inf` is none, so a prompt may have fewer: beams that do not go on have a sum of `-inf`, tokens that are masked a
/// log-probability of `-inf`. How many candidates a search looks at says [`BeamConfig::n_candidates`](crate::search::beam::BeamConfig::n_candidates).
///
/// # Shapes
///
/// - `log_probs`: `[prompts * n_beams, vocab]`, from [`log_normalization::apply_inplace`](super::log_normalization::apply_inplace) and whatever
///   changes them after it; the beams of a prompt are neighbors
/// - `sums`: `[prompts * n_beams]`
/// - returns: `[prompts, n_candidates]`
///
/// # Errors
///
/// - [`SamplingError::BeamRows`] if the rows are not whole groups of beams.
/// - [`GpuSamplingError::PerRow`] if there is not one sum for each row, [`GpuSamplingError::BeamSum`] if one is NaN or `+inf`.
/// - [`GpuSamplingError::BeamCandidates`] if `n_candidates` is not in `1..=`[`MAX_CANDIDATES`].
/// - [`GpuSamplingError::Gpu`] if the device has no room for the result or for what is computed on the way.
///
/// Rows are refused with [`NanLogits`](SamplingError::NanLogits), [`InfiniteLogits`](SamplingError::InfiniteLogits).
///
/// # Precision
///
/// That of the CPU, bit for bit: sums have the bits of `f64`.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, beam};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[-0.5_f32, -1.0], [-0.25, -2.0]])?; // two beams of one prompt
/// let mut recorder = gpu.recorder();
/// let log_probs = GpuLogits::new(&mut recorder, &x)?;
/// let best = beam::candidates(&mut recorder, &log_probs, &[-1.0, -2.0], 2, 3)?;
/// recorder.submit()?;
/// let best = best.download_blocking()?;
/// let found: Vec<_> = best[0].iter().map(|c| (c.beam, c.token, c.sum)).collect();
/// assert_eq!(found, [(0, 0, -1.5), (0, 1, -2.0), (1, 0, -2.25)]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: `_beam_search` of transformers 5.23.
pub fn candidates(
    recorder: &mut Recorder,
    log_probs: &GpuLogits,
    sums: &[f64],
    n_beams: usize,
    n_candidates: usize,
) -> Result<GpuBeamCandidates, GpuSamplingError> {
    let batch = log_probs.batch();
    check(batch, sums, n_beams, n_candidates)?;
    let n_prompts = batch / n_beams;
    let words = recorder.output::<u32>(&[n_prompts, n_candidates, CANDIDATE_WORDS])?;
    let candidates = GpuBeamCandidates {
        words,
        status: log_probs.status().clone(),
    };
    if batch == 0 {
        return Ok(candidates);
    }
    record_extent(recorder, log_probs, Check::BelowInfinity)?;
    let beams: Vec<u32> = sums.iter().flat_map(|&sum| packed(sum)).collect();
    let beams = recorder.gpu().upload_slice(&[batch, 4], &beams)?;
    let search = find(recorder, log_probs, &beams, n_beams, n_candidates)?;
    let list = recorder.scratch::<u32>(&[n_prompts, n_candidates, 3])?;
    let params = BeamGatherParams {
        n_elements: word(log_probs.tensor().len()),
        n_beams: word(n_beams),
        vocab: word(log_probs.vocab()),
        n: word(n_candidates),
    };
    let bindings = [
        log_probs.tensor().read(),
        beams.read(),
        search.write(),
        list.write(),
    ];
    let grid = Grid::linear(log_probs.tensor().len(), WORKGROUP_SIZE)?;
    recorder.dispatch(&BEAM_GATHER, &[], &params, &bindings, grid)?;
    let params = BeamSortParams {
        n_prompts: word(n_prompts),
        n_beams: word(n_beams),
        vocab: word(log_probs.vocab()),
        n: word(n_candidates),
    };
    let bindings = [
        log_probs.tensor().read(),
        search.read(),
        list.read(),
        candidates.words.write(),
    ];
    recorder.dispatch(
        &BEAM_SORT,
        &[],
        &params,
        &bindings,
        Grid::linear(n_prompts, 1)?,
    )?;
    Ok(candidates)
}

fn check(
    batch: usize,
    sums: &[f64],
    n_beams: usize,
    n_candidates: usize,
) -> Result<(), GpuSamplingError> {
    if n_beams == 0 || !batch.is_multiple_of(n_beams) {
        return Err(SamplingError::BeamRows { batch, n_beams }.into());
    }
    if sums.len() != batch {
        return Err(GpuSamplingError::PerRow {
            name: "sums",
            expected: batch,
            got: sums.len(),
        });
    }
    if n_candidates == 0 || n_candidates > MAX_CANDIDATES {
        return Err(GpuSamplingError::BeamCandidates {
            limit: MAX_CANDIDATES,
            got: n_candidates,
        });
    }
    let bad = |sum: &f64| sum.is_nan() || *sum == f64::INFINITY;
    match sums.iter().position(bad) {
        Some(row) => Err(GpuSamplingError::BeamSum {
            row,
            got: sums[row],
        }),
        None => Ok(()),
    }
}

/// A sum as `beam.wgsl` has it.
fn packed(sum: f64) -> [u32; 4] {
    if sum == f64::NEG_INFINITY {
        return [2, 0, 0, 0];
    }
    real(sum)
}

/// Records the search for the last candidate of each prompt.
fn find(
    recorder: &mut Recorder,
    log_probs: &GpuLogits,
    beams: &GpuTensor<u32>,
    n_beams: usize,
    n_candidates: usize,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let n_prompts = log_probs.batch() / n_beams;
    let n_places = n_beams * log_probs.vocab();
    let n_groups = n_places.div_ceil(GROUP_TOKENS);
    let search = recorder.scratch::<u32>(&[n_prompts, SEARCH_WORDS])?;
    let buckets = recorder.scratch::<u32>(&[n_prompts, n_groups, BUCKETS, BUCKET_WORDS])?;
    let params = BeamStartParams {
        n_prompts: word(n_prompts),
        n_beams: word(n_beams),
        n: word(n_candidates),
        pad0: 0,
    };
    let bindings = [log_probs.status().read(), search.write()];
    let grid = Grid::linear(n_prompts, WORKGROUP_SIZE)?;
    recorder.dispatch(&BEAM_START, &[], &params, &bindings, grid)?;
    let of_sum = [24, 16, 8, 0].map(|shift| (0, shift));
    let of_rest = [24, 16, 8, 0].map(|shift| (1, shift));
    let of_place = [24, 16, 8, 0].map(|shift| (2, shift));
    let passes = of_sum.into_iter().chain(of_rest).chain(of_place);
    for (digit_word, shift) in passes {
        if digit_word == 2 && shift > 0 && (n_places - 1) >> shift == 0 {
            continue; // no place has this digit
        }
        let params = BeamHistogramParams {
            n_prompts: word(n_prompts),
            n_beams: word(n_beams),
            vocab: word(log_probs.vocab()),
            n_groups: word(n_groups),
            word: digit_word,
            shift,
            pad0: 0,
            pad1: 0,
        };
        let bindings = [
            log_probs.tensor().read(),
            beams.read(),
            search.read(),
            buckets.write(),
        ];
        let grid = Grid::linear(n_prompts * n_groups, 1)?;
        recorder.dispatch(&BEAM_HISTOGRAM, &[], &params, &bindings, grid)?;
        let params = RadixSelectParams {
            n_rows: word(n_prompts),
            n_groups: word(n_groups),
            word: digit_word,
            shift,
            use_mass: 0,
            from_smallest: u32::from(digit_word == 2),
            pad0: 0,
            pad1: 0,
        };
        let bindings = [buckets.read(), search.write()];
        let grid = Grid::linear(n_prompts, 1)?;
        recorder.dispatch(&RADIX_SELECT, &[], &params, &bindings, grid)?;
    }
    Ok(search)
}
