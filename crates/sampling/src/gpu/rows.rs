//! What the kernels need to know of a whole row.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{
    EXTENT, EXTENT_WORDS, GpuLogits, GpuSamplingError, KEYS, MASS_WORDS, REAL, WEIGHT, WIDE,
    WORKGROUP_SIZE, real, word,
};

llm_gpu::params! {
    /// The parameter block of `row_extent.wgsl`.
    pub(super) struct RowExtentParams {
        n_rows: u32,
        vocab: u32,
        n_groups: u32,
        only_counted: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `row_extent_merge.wgsl`.
    pub(super) struct RowExtentMergeParams {
        divisor: [u32; 4],
        n_rows: u32,
        n_groups: u32,
        forbids_infinity: u32,
        forbids_masked: u32,
        has_divisor: u32,
        divisor_low: u32,
        divisor_high: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `row_mass.wgsl`.
    pub(super) struct RowMassParams {
        n_rows: u32,
        vocab: u32,
        n_groups: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `row_mass_merge.wgsl`.
    pub(super) struct RowMassMergeParams {
        n_rows: u32,
        n_groups: u32,
        pad0: u32,
        pad1: u32,
    }
}

pub(super) static ROW_EXTENT: Kernel = Kernel {
    name: "row_extent",
    source: include_str!("row_extent.wgsl"),
    snippets: &[snippet::LINEAR, KEYS, EXTENT],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RowExtentParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(4096),
};

pub(super) static ROW_EXTENT_MERGE: Kernel = Kernel {
    name: "row_extent_merge",
    source: include_str!("row_extent_merge.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, EXTENT],
    bindings: &[Access::Read, Access::Write, Access::Write],
    params_size: size_of::<RowExtentMergeParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static ROW_MASS: Kernel = Kernel {
    name: "row_mass",
    source: include_str!("row_mass.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT],
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RowMassParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(2048),
};

pub(super) static ROW_MASS_MERGE: Kernel = Kernel {
    name: "row_mass_merge",
    source: include_str!("row_mass_merge.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<RowMassMergeParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// What a row must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check<'a> {
    /// Without NaN.
    Numbers,
    /// Without NaN where a token was counted.
    CountedNumbers(&'a GpuTensor<u32>),
    /// Without NaN, and so that its largest logit does not overflow when it is divided.
    Divisible(f64),
    /// Without NaN and `+inf`.
    BelowInfinity,
    /// Without NaN, and with a largest logit that is finite.
    FiniteMax,
}

/// Records a look at all rows: `[batch, EXTENT_WORDS]`, and the refusals of those that are not as they must be.
pub(super) fn record_extent(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    check: Check<'_>,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let (batch, vocab, n_groups) = (logits.batch(), logits.vocab(), logits.n_groups());
    let partial = recorder.scratch::<u32>(&[batch, n_groups, EXTENT_WORDS])?;
    let extent = recorder.scratch::<u32>(&[batch, EXTENT_WORDS])?;
    let counts = match check {
        Check::CountedNumbers(counts) => counts.read(),
        _ => logits.tensor().read(),
    };
    let params = RowExtentParams {
        n_rows: word(batch),
        vocab: word(vocab),
        n_groups: word(n_groups),
        only_counted: u32::from(matches!(check, Check::CountedNumbers(_))),
    };
    recorder.dispatch(
        &ROW_EXTENT,
        &[],
        &params,
        &[logits.tensor().read(), counts, partial.write()],
        Grid::linear(batch * n_groups, 1)?,
    )?;
    let divisor = match check {
        Check::Divisible(divisor) => Some(divisor),
        _ => None,
    };
    let bits = divisor.unwrap_or(1.0).to_bits();
    let params = RowExtentMergeParams {
        divisor: real(divisor.unwrap_or(1.0)),
        n_rows: word(batch),
        n_groups: word(n_groups),
        forbids_infinity: u32::from(matches!(check, Check::FiniteMax | Check::BelowInfinity)),
        forbids_masked: u32::from(matches!(check, Check::FiniteMax)),
        has_divisor: u32::from(divisor.is_some()),
        divisor_low: bits as u32,
        divisor_high: (bits >> 32) as u32,
        pad0: 0,
    };
    recorder.dispatch(
        &ROW_EXTENT_MERGE,
        &[],
        &params,
        &[partial.read(), extent.write(), logits.status().write()],
        Grid::linear(batch, WORKGROUP_SIZE)?,
    )?;
    Ok(extent)
}

/// Records the sums of the weights of each group: `[batch, n_groups, 2]`.
pub(super) fn record_group_mass(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let (batch, n_groups) = (logits.batch(), logits.n_groups());
    let partial = recorder.scratch::<u32>(&[batch, n_groups, 2])?;
    let params = RowMassParams {
        n_rows: word(batch),
        vocab: word(logits.vocab()),
        n_groups: word(n_groups),
        pad0: 0,
    };
    let bindings = [
        logits.tensor().read(),
        extent.read(),
        logits.status().read(),
        partial.write(),
    ];
    let grid = Grid::linear(batch * n_groups, 1)?;
    recorder.dispatch(&ROW_MASS, &[], &params, &bindings, grid)?;
    Ok(partial)
}

/// Records the sum of the weights of each row, and its logarithm: `[batch, MASS_WORDS]`.
pub(super) fn record_mass(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    extent: &GpuTensor<u32>,
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let partial = record_group_mass(recorder, logits, extent)?;
    let mass = recorder.scratch::<u32>(&[logits.batch(), MASS_WORDS])?;
    let params = RowMassMergeParams {
        n_rows: word(logits.batch()),
        n_groups: word(logits.n_groups()),
        pad0: 0,
        pad1: 0,
    };
    let bindings = [partial.read(), mass.write()];
    let grid = Grid::linear(logits.batch(), WORKGROUP_SIZE)?;
    recorder.dispatch(&ROW_MASS_MERGE, &[], &params, &bindings, grid)?;
    Ok(mass)
}
