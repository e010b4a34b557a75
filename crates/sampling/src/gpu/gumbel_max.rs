//! Gumbel-max on the GPU: the same random numbers as on the CPU.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};
use llm_numerics::philox::Philox4x32;

use super::draws::GpuDraws;
use super::rows::{Check, record_extent};
use super::{GpuLogits, GpuSamplingError, KEYS, REAL, WEIGHT, WIDE, WORKGROUP_SIZE, word};
use crate::RowRandom;

llm_gpu::params! {
    /// The parameter block of `gumbel_max.wgsl`.
    pub(super) struct GumbelMaxParams {
        n_rows: u32,
        vocab: u32,
        n_groups: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `gumbel_max_merge.wgsl`.
    pub(super) struct GumbelMaxMergeParams {
        n_rows: u32,
        n_groups: u32,
        pad0: u32,
        pad1: u32,
    }
}

/// Gumbel noise in integers.
const GUMBEL: Snippet = Snippet {
    name: "gumbel",
    source: include_str!("gumbel.wgsl"),
};

pub(super) static GUMBEL_MAX: Kernel = Kernel {
    name: "gumbel_max",
    source: include_str!("gumbel_max.wgsl"),
    snippets: &[
        snippet::LINEAR,
        snippet::PHILOX,
        WIDE,
        REAL,
        KEYS,
        WEIGHT,
        GUMBEL,
    ],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    params_size: size_of::<GumbelMaxParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(4096),
};

pub(super) static GUMBEL_MAX_MERGE: Kernel = Kernel {
    name: "gumbel_max_merge",
    source: include_str!("gumbel_max_merge.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, KEYS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<GumbelMaxMergeParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records a draw for each row, as the largest sum of a logit and Gumbel noise: [`gumbel_max::draw`](crate::gumbel_max::draw).
///
/// ```text
/// token = argmax_i (x_i + g_i),   g_i = -ln(-ln u_i),   u_i = gumbel_max::uniform(random, i)
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
/// - `randoms`: `[batch]`; a row's token depends on that row and its numbers only
/// - returns: `[batch]`
///
/// # Errors
///
/// - [`GpuSamplingError::PerRow`] if there are not as many random numbers as rows.
/// - [`GpuSamplingError::Gpu`] if the device has no room for the result.
///
/// Rows are refused with [`NanLogits`](crate::SamplingError::NanLogits), [`InfiniteLogits`](crate::SamplingError::InfiniteLogits),
/// [`MaskedRow`](crate::SamplingError::MaskedRow).
///
/// # Precision
///
/// The uniform numbers are those of the CPU, all 53 bits. A sum is right to `2^-26`, on any device the same bits, so the token is that of the CPU
/// unless the two largest sums lie within `2^-25` of each other.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, gumbel_max};
/// use llm_sampling::{RowRandom, gumbel_max as on_the_cpu};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = array![[0.0_f32, 3.0, 1.0, f32::NEG_INFINITY]];
/// let random = RowRandom::new(42, 0, 7);
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &gpu.upload(&x)?)?;
/// let draws = gumbel_max::draw(&mut recorder, &logits, &[random])?;
/// recorder.submit()?;
/// let want = on_the_cpu::draw(&x.row(0), random)?.token;
/// assert_eq!(draws.download_blocking()?, [want]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`gumbel_max::draw`](crate::gumbel_max::draw).
pub fn draw(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    randoms: &[RowRandom],
) -> Result<GpuDraws, GpuSamplingError> {
    check_randoms(logits, randoms)?;
    let extent = record_extent(recorder, logits, Check::FiniteMax)?;
    record(recorder, logits, &extent, randoms)
}

pub(super) fn check_randoms(
    logits: &GpuLogits,
    randoms: &[RowRandom],
) -> Result<(), GpuSamplingError> {
    if randoms.len() != logits.batch() {
        return Err(GpuSamplingError::PerRow {
            name: "randoms",
            expected: logits.batch(),
            got: randoms.len(),
        });
    }
    Ok(())
}

/// [`draw`] from rows whose extent is known, with as many random numbers.
pub(super) fn record(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
    randoms: &[RowRandom],
) -> Result<GpuDraws, GpuSamplingError> {
    let (batch, n_groups) = (logits.batch(), logits.n_groups());
    let tokens = recorder.output::<u32>(&[batch])?;
    if batch == 0 {
        return Ok(GpuDraws::new(tokens, logits));
    }
    // The key of each row: one block of the generator. The device makes the blocks of the tokens.
    let keys: Vec<u32> = randoms
        .iter()
        .flat_map(|random| {
            let [low, high, ..] =
                Philox4x32::new(random.seed).block_at(random.stream, 1 << 63 | random.step);
            [low, high]
        })
        .collect();
    let keys = recorder.gpu().upload_slice(&[batch, 2], &keys)?;
    let partial = recorder.scratch::<u32>(&[batch, n_groups, 3])?;
    let params = GumbelMaxParams {
        n_rows: word(batch),
        vocab: word(logits.vocab()),
        n_groups: word(n_groups),
        pad0: 0,
    };
    let bindings = [
        logits.tensor().read(),
        extent.read(),
        logits.status().read(),
        keys.read(),
        partial.write(),
    ];
    let grid = Grid::linear(batch * n_groups, 1)?;
    recorder.dispatch(&GUMBEL_MAX, &[], &params, &bindings, grid)?;
    let params = GumbelMaxMergeParams {
        n_rows: word(batch),
        n_groups: word(n_groups),
        pad0: 0,
        pad1: 0,
    };
    let bindings = [partial.read(), logits.status().read(), tokens.write()];
    let grid = Grid::linear(batch, WORKGROUP_SIZE)?;
    recorder.dispatch(&GUMBEL_MAX_MERGE, &[], &params, &bindings, grid)?;
    Ok(GpuDraws::new(tokens, logits))
}
