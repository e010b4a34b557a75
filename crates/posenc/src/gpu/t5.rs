//! T5's relative bias on the GPU, and the gradient of its table.

use llm_gpu::{Access, Gpu, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{WORKGROUP_SIZE, axes, check_bias, word};
use crate::PosencError;
use crate::t5::{self, T5Config};

llm_gpu::params! {
    /// The parameter block of `t5.wgsl`.
    pub(super) struct T5Params {
        n_elements: u32,
        heads: u32,
        seq: u32,
        kv_seq: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `t5_backward.wgsl`.
    pub(super) struct T5BackwardParams {
        n_elements: u32,
        heads: u32,
        n_diagonals: u32,
        pad0: u32,
    }
}

pub(super) static T5: Kernel = Kernel {
    name: "t5",
    source: include_str!("t5.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<T5Params>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static T5_BACKWARD: Kernel = Kernel {
    name: "t5_backward",
    source: include_str!("t5_backward.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<T5BackwardParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the bias matrix: [`t5::bias`].
///
/// # Shapes
///
/// - `table`: `[n_buckets, heads]`
/// - returns: `[heads, seq, kv_seq]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `table` has not two axes.
/// - [`PosencError::T5Table`] if it has not one row per bucket.
/// - [`PosencError::Heads`] if there is no head, or more than [`MAX_HEADS`](crate::alibi::MAX_HEADS).
/// - [`PosencError::BiasTooLarge`] if a length is 2^30 or more.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensor is of another device.
///
/// # Precision
///
/// Exact: buckets are found on the CPU, one for each diagonal, and values are copied.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::t5 as gpu_t5;
/// use llm_posenc::t5::{T5Config, T5Direction};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = T5Config::new(2, 8, T5Direction::Causal)?;
/// let table = gpu.upload(&ndarray::array![[0.5_f32], [-0.5]])?; // [2, 1]
/// let mut recorder = gpu.recorder();
/// let bias = gpu_t5::bias(&mut recorder, &table, 1, 3, 2, &config)?; // a query behind 2 cached keys
/// recorder.submit()?;
/// assert_eq!(bias.download_blocking()?, ndarray::array![[[-0.5, -0.5, 0.5]]].into_dyn());
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn bias(
    recorder: &mut Recorder,
    table: &GpuTensor<f32>,
    seq: usize,
    kv_seq: usize,
    past: usize,
    config: &T5Config,
) -> Result<GpuTensor<f32>, PosencError> {
    let [n_buckets, heads] = axes(table)?;
    if n_buckets != config.n_buckets() {
        return Err(PosencError::T5Table {
            expected: config.n_buckets(),
            got: n_buckets,
        });
    }
    check_bias(heads, seq, kv_seq)?;
    let y = recorder.output::<f32>(&[heads, seq, kv_seq])?;
    let params = T5Params {
        n_elements: word(y.len())?,
        heads: word(heads)?,
        seq: word(seq)?,
        kv_seq: word(kv_seq)?,
    };
    let buckets = buckets(recorder.gpu(), seq, kv_seq, past, config)?;
    recorder.dispatch(
        &T5,
        &[],
        &params,
        &[table.read(), buckets.read(), y.write()],
        Grid::linear(y.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(y)
}

/// Records the gradient for the table of [`bias`].
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`
/// - returns: `[n_buckets, heads]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `dbias` has not three axes.
/// - [`PosencError::Heads`] if there is no head, or more than [`MAX_HEADS`](crate::alibi::MAX_HEADS).
/// - [`PosencError::BiasTooLarge`] if a length is 2^30 or more.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensor is of another device.
///
/// # Precision
///
/// f32 sums in a fixed order: along each diagonal, then over the diagonals of a bucket.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::t5 as gpu_t5;
/// use llm_posenc::t5::{T5Config, T5Direction};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = T5Config::new(2, 8, T5Direction::Causal)?;
/// let dbias = gpu.upload(&ndarray::array![[[1.0_f32, 2.0, 4.0]]])?; // [1, 1, 3]
/// let mut recorder = gpu.recorder();
/// let dtable = gpu_t5::backward(&mut recorder, &dbias, 2, &config)?;
/// recorder.submit()?;
/// assert_eq!(dtable.download_blocking()?, ndarray::array![[4.0], [3.0]].into_dyn()); // [2, 1]
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward(
    recorder: &mut Recorder,
    dbias: &GpuTensor<f32>,
    past: usize,
    config: &T5Config,
) -> Result<GpuTensor<f32>, PosencError> {
    let [heads, seq, kv_seq] = axes(dbias)?;
    check_bias(heads, seq, kv_seq)?;
    let sums = super::diagonals::sums(recorder, dbias)?;
    let dtable = recorder.output::<f32>(&[config.n_buckets(), heads])?;
    let buckets = buckets(recorder.gpu(), seq, kv_seq, past, config)?;
    let params = T5BackwardParams {
        n_elements: word(dtable.len())?,
        heads: word(heads)?,
        n_diagonals: word(buckets.len())?,
        pad0: 0,
    };
    recorder.dispatch(
        &T5_BACKWARD,
        &[],
        &params,
        &[sums.read(), buckets.read(), dtable.write()],
        Grid::linear(dtable.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(dtable)
}

/// The bucket of each diagonal `key - query + seq - 1`.
fn buckets(
    gpu: &Gpu,
    seq: usize,
    kv_seq: usize,
    past: usize,
    config: &T5Config,
) -> Result<GpuTensor<u32>, PosencError> {
    let n_diagonals = super::diagonals::count(seq, kv_seq);
    // Beyond i64 every distance is in the last bucket anyway.
    let past = i64::try_from(past).unwrap_or(i64::MAX);
    let buckets = (0..n_diagonals)
        .map(|diagonal| {
            let relative = (diagonal as i64 - (seq as i64 - 1)).saturating_sub(past);
            word(t5::bucket(relative, config))
        })
        .collect::<Result<Vec<u32>, _>>()?;
    Ok(gpu.upload_slice(&[n_diagonals], &buckets)?)
}
