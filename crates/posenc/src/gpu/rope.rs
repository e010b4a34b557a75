//! Rotary embedding on the GPU: the rotation and its backward, in place or not.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};
use ndarray::ArrayRef1;

use super::{WORKGROUP_SIZE, axes, word, words};
use crate::PosencError;
use crate::rope::rotate::{Direction, Layout};
use crate::rope::{RopePairing, reposition};

pub(super) mod table;

pub use table::GpuRopeTable;

llm_gpu::params! {
    /// The parameter block of `rope.wgsl`.
    pub(super) struct RopeParams {
        n_elements: u32,
        heads_seq: u32,
        seq: u32,
        head_dim: u32,
        n_planes: u32,
        table_stride: u32,
        read_layout: u32,
        write_layout: u32,
        direction: f32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `rope_inplace.wgsl`.
    pub(super) struct RopeInplaceParams {
        n_pairs: u32,
        heads_seq: u32,
        seq: u32,
        head_dim: u32,
        n_planes: u32,
        table_stride: u32,
        pairing: u32,
        direction: f32,
    }
}

pub(super) static ROPE: Kernel = Kernel {
    name: "rope",
    source: include_str!("rope.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RopeParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static ROPE_INPLACE: Kernel = Kernel {
    name: "rope_inplace",
    source: include_str!("rope_inplace.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RopeInplaceParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Records the rotation of `x` by the positions of the table.
///
/// The formula, the layouts and the pass-through of the features beyond `rotary_dim` are those of
/// [`rope::apply`](crate::rope::apply).
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - `table`: of `seq` positions, or of `batch * seq`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::Rank`] if `x` has not four axes.
/// - [`PosencError::TableRows`] if the table has other numbers of rows.
/// - [`PosencError::RotaryDimAboveHeadDim`] if the table rotates more features than there are.
/// - [`PosencError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// Two products and a sum in f32, on cosines and sines that are right to one rounding in a table that was uploaded, and to 3e-7 in one that was
/// [recorded](GpuRopeTable::record). NaN and infinities do not leave their plane; shader compilers may make something else of them there.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
/// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = RopeConfig::new(2, RopePairing::Interleaved);
/// let table = RopeTable::from_config(&config, &ndarray::array![0, 1])?;
/// let table = GpuRopeTable::upload(&gpu, &table)?; // once for all layers
/// let q = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0], [1.0, 0.0]]]])?; // [1, 1, 2, 2]
/// let mut recorder = gpu.recorder();
/// let y = gpu_rope::apply(&mut recorder, &q, &table, config.pairing)?;
/// recorder.submit()?;
/// let y = y.download_blocking()?;
/// assert_eq!(y[[0, 0, 0, 0]], 1.0); // position 0: unchanged
/// assert!((y[[0, 0, 1, 0]] - 1_f32.cos()).abs() < 1e-6);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn apply(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<GpuTensor<f32>, PosencError> {
    rotate(recorder, x, table, Turn::new(pairing, Direction::Forward))
}

/// Records [`apply`] in place.
///
/// # Errors
///
/// As [`apply`]; nothing is recorded then.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
/// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = RopeConfig::new(2, RopePairing::Interleaved);
/// let table = RopeTable::from_config(&config, &ndarray::array![1])?;
/// let table = GpuRopeTable::upload(&gpu, &table)?;
/// let k = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0]]]])?; // [1, 1, 1, 2]
/// let mut recorder = gpu.recorder();
/// gpu_rope::apply_inplace(&mut recorder, &k, &table, config.pairing)?;
/// recorder.submit()?;
/// assert!((k.download_blocking()?[[0, 0, 0, 1]] - 1_f32.sin()).abs() < 1e-6);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn apply_inplace(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    rotate_inplace(recorder, x, table, Turn::new(pairing, Direction::Forward))
}

/// Records the gradient for `x` of [`apply`]: a rotation of `dout` by the negative angles.
///
/// # Shapes
///
/// - `dout`: `[batch, heads, seq, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply`].
///
/// # Precision
///
/// As [`apply`].
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
/// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = RopeConfig::new(2, RopePairing::HalfSplit);
/// let table = RopeTable::from_config(&config, &ndarray::array![7])?;
/// let table = GpuRopeTable::upload(&gpu, &table)?;
/// let x = gpu.upload(&ndarray::array![[[[3.0_f32, 4.0]]]])?; // [1, 1, 1, 2]
/// let mut recorder = gpu.recorder();
/// let y = gpu_rope::apply(&mut recorder, &x, &table, config.pairing)?;
/// let back = gpu_rope::backward(&mut recorder, &y, &table, config.pairing)?;
/// recorder.submit()?; // both kernels, one after the other
/// assert!((back.download_blocking()?[[0, 0, 0, 1]] - 4.0).abs() < 1e-5);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<GpuTensor<f32>, PosencError> {
    rotate(
        recorder,
        dout,
        table,
        Turn::new(pairing, Direction::Backward),
    )
}

/// Records [`backward`] in place.
///
/// # Errors
///
/// As [`apply`]; nothing is recorded then.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
/// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = RopeConfig::new(2, RopePairing::HalfSplit);
/// let table = RopeTable::from_config(&config, &ndarray::array![7])?;
/// let table = GpuRopeTable::upload(&gpu, &table)?;
/// let x = gpu.upload(&ndarray::array![[[[3.0_f32, 4.0]]]])?; // [1, 1, 1, 2]
/// let mut recorder = gpu.recorder();
/// gpu_rope::apply_inplace(&mut recorder, &x, &table, config.pairing)?;
/// gpu_rope::backward_inplace(&mut recorder, &x, &table, config.pairing)?;
/// recorder.submit()?;
/// assert!((x.download_blocking()?[[0, 0, 0, 0]] - 3.0).abs() < 1e-5);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward_inplace(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    rotate_inplace(
        recorder,
        dout,
        table,
        Turn::new(pairing, Direction::Backward),
    )
}

/// Records new positions for keys that have been rotated already, in place: [`rope::reposition`](crate::rope::reposition).
///
/// # Shapes
///
/// - `k`: `[batch, heads, seq, head_dim]`
/// - `distances`: `[seq]`, or `[1]` for all, in tokens, of either sign
/// - `inv_freq`: `[rotary_dim / 2]`
///
/// # Errors
///
/// As [`rope::reposition`](crate::rope::reposition) and [`apply`]; nothing is recorded then.
///
/// # Precision
///
/// As [`apply`]; each move adds its rounding.
///
/// # Example
///
/// ```
/// use llm_posenc::gpu::rope as gpu_rope;
/// use llm_posenc::rope::{self, RopeConfig, RopePairing};
///
/// # let Some(gpu) = llm_posenc::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let config = RopeConfig::new(2, RopePairing::HalfSplit);
/// let inv_freq = rope::inv_freq(&config)?;
/// let k = gpu.upload(&ndarray::array![[[[1.0_f32, 0.0]]]])?; // rotated at position 0
/// let mut recorder = gpu.recorder();
/// let distances = ndarray::array![3];
/// gpu_rope::reposition_inplace(&mut recorder, &k, &distances, &inv_freq, config.pairing)?;
/// recorder.submit()?;
/// assert!((k.download_blocking()?[[0, 0, 0, 0]] - 3_f32.cos()).abs() < 1e-6); // now at position 3
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn reposition_inplace(
    recorder: &mut Recorder,
    k: &GpuTensor<f32>,
    distances: &ArrayRef1<i64>,
    inv_freq: &ArrayRef1<f64>,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    let [_, _, seq, _] = axes(k)?;
    let table = reposition::table(seq, distances, inv_freq)?;
    let table = GpuRopeTable::upload(recorder.gpu(), &table)?;
    apply_inplace(recorder, k, &table, reposition::written(pairing))
}

/// The number of a layout, as the shaders have it.
const fn layout_code(layout: Layout) -> u32 {
    match layout {
        Layout::Pairs => 0,
        Layout::Halves => 1,
    }
}

/// Where a rotation reads and writes, and by which sign of the angle it turns.
#[derive(Clone, Copy)]
struct Turn {
    read: Layout,
    write: Layout,
    direction: f32,
}

impl Turn {
    fn new(pairing: RopePairing, direction: Direction) -> Self {
        let (read, write) = direction.layouts(pairing);
        Self {
            read,
            write,
            direction: direction.sign(),
        }
    }
}

/// The numbers that both kernels need, checked.
struct Sizes {
    n_pairs: u32,
    heads_seq: u32,
    seq: u32,
    head_dim: u32,
    n_planes: u32,
    table_stride: u32,
}

fn check(x: &GpuTensor<f32>, table: &GpuRopeTable) -> Result<Sizes, PosencError> {
    let [batch, heads, seq, head_dim] = axes(x)?;
    let (rows, n_planes) = table.dim();
    if rows != seq && Some(rows) != batch.checked_mul(seq) {
        return Err(PosencError::TableRows {
            seq,
            batch,
            got: rows,
        });
    }
    if 2 * n_planes > head_dim {
        return Err(PosencError::RotaryDimAboveHeadDim {
            rotary_dim: 2 * n_planes,
            head_dim,
        });
    }
    let is_shared = rows == seq;
    let n_planes = word(n_planes)?;
    // The number of elements fits, so all products of axes do.
    let [batch, heads, seq, head_dim] = words([batch, heads, seq, head_dim])?;
    Ok(Sizes {
        n_pairs: batch * heads * seq * n_planes,
        heads_seq: heads * seq,
        seq,
        head_dim,
        n_planes,
        table_stride: if is_shared { 0 } else { seq },
    })
}

fn rotate(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    turn: Turn,
) -> Result<GpuTensor<f32>, PosencError> {
    let sizes = check(x, table)?;
    let y = recorder.output::<f32>(x.shape())?;
    record(recorder, x, &y, table, &sizes, turn)?;
    Ok(y)
}

fn record(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    y: &GpuTensor<f32>,
    table: &GpuRopeTable,
    sizes: &Sizes,
    turn: Turn,
) -> Result<(), PosencError> {
    let params = RopeParams {
        n_elements: word(x.len())?,
        heads_seq: sizes.heads_seq,
        seq: sizes.seq,
        head_dim: sizes.head_dim,
        n_planes: sizes.n_planes,
        table_stride: sizes.table_stride,
        read_layout: layout_code(turn.read),
        write_layout: layout_code(turn.write),
        direction: turn.direction,
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    recorder.dispatch(
        &ROPE,
        &[],
        &params,
        &[table.cos().read(), table.sin().read(), x.read(), y.write()],
        Grid::linear(x.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(())
}

fn rotate_inplace(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    turn: Turn,
) -> Result<(), PosencError> {
    let sizes = check(x, table)?;
    if turn.read != turn.write {
        // Features change their places, so they need a second one.
        let y = recorder.scratch::<f32>(x.shape())?;
        record(recorder, x, &y, table, &sizes, turn)?;
        recorder.copy(&y, x)?;
        return Ok(());
    }
    let params = RopeInplaceParams {
        n_pairs: sizes.n_pairs,
        heads_seq: sizes.heads_seq,
        seq: sizes.seq,
        head_dim: sizes.head_dim,
        n_planes: sizes.n_planes,
        table_stride: sizes.table_stride,
        pairing: layout_code(turn.read),
        direction: turn.direction,
    };
    recorder.dispatch(
        &ROPE_INPLACE,
        &[],
        &params,
        &[table.cos().read(), table.sin().read(), x.write()],
        Grid::linear(sizes.n_pairs as usize, WORKGROUP_SIZE)?,
    )?;
    Ok(())
}
