//! Rotary embedding on the GPU: the table from positions, the rotation, and its backward.

use llm_gpu::{Access, Gpu, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};
use ndarray::ArrayRef1;

use super::{TURNS, WORKGROUP_SIZE, axes, turns_per_token, word};
use crate::PosencError;
use crate::rope::{RopePairing, RopeTable, reposition};

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

llm_gpu::params! {
    /// The parameter block of `rope_table.wgsl`.
    pub(super) struct RopeTableParams {
        n_elements: u32,
        n_planes: u32,
        factor: f32,
        pad0: u32,
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

pub(super) static ROPE_TABLE: Kernel = Kernel {
    name: "rope_table",
    source: include_str!("rope_table.wgsl"),
    snippets: &[snippet::LINEAR, TURNS],
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    params_size: size_of::<RopeTableParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Cosines and sines on the device: what the rotation multiplies with.
///
/// Invariant: both have the shape `[rows, rotary_dim / 2]`. Rows are one per sequence element where the whole
/// batch has the same positions, else one per batch row and sequence element.
#[derive(Clone, Debug)]
pub struct GpuRopeTable {
    cos: GpuTensor<f32>,
    sin: GpuTensor<f32>,
}

impl GpuRopeTable {
    /// Copies a table to the device.
    ///
    /// # Errors
    ///
    /// [`PosencError::Gpu`] if the device has no room for it.
    pub fn upload(gpu: &Gpu, table: &RopeTable) -> Result<Self, PosencError> {
        Ok(Self {
            cos: gpu.upload(&table.cos())?,
            sin: gpu.upload(&table.sin())?,
        })
    }

    /// Records the table of positions that are on the device already.
    ///
    /// ```text
    /// cos = attention_factor cos(position inv_freq),  sin = attention_factor sin(position inv_freq)
    /// ```
    ///
    /// # Shapes
    ///
    /// - `positions`: `[seq]` or `[batch, seq]`
    /// - `inv_freq`: `[rotary_dim / 2]`
    ///
    /// # Errors
    ///
    /// - [`PosencError::InvFreq`] if a frequency is not finite.
    /// - [`PosencError::AttentionFactor`] if the factor is not finite.
    /// - [`PosencError::Gpu`] if the device has no room for the table.
    ///
    /// # Precision
    ///
    /// 3e-7 times the factor for angles up to 2^30 radians: they are formed in 64-bit integers, as fractions of a turn.
    pub fn record(
        recorder: &mut Recorder,
        positions: &GpuTensor<u32>,
        inv_freq: &ArrayRef1<f64>,
        attention_factor: f64,
    ) -> Result<Self, PosencError> {
        for (index, &got) in inv_freq.iter().enumerate() {
            if !got.is_finite() {
                return Err(PosencError::InvFreq { index, got });
            }
        }
        if !attention_factor.is_finite() {
            return Err(PosencError::AttentionFactor {
                got: attention_factor,
            });
        }
        let shape = [positions.len(), inv_freq.len()];
        let cos = recorder.output::<f32>(&shape)?;
        let sin = recorder.output::<f32>(&shape)?;
        let frequencies = turns_per_token(recorder.gpu(), inv_freq.iter().copied())?;
        let params = RopeTableParams {
            n_elements: word(cos.len())?,
            n_planes: word(inv_freq.len())?,
            factor: attention_factor as f32,
            pad0: 0,
        };
        recorder.dispatch(
            &ROPE_TABLE,
            &[],
            &params,
            &[
                positions.read(),
                frequencies.read(),
                cos.write(),
                sin.write(),
            ],
            Grid::linear(cos.len(), WORKGROUP_SIZE)?,
        )?;
        Ok(Self { cos, sin })
    }

    /// The cosines, times the attention factor: `[rows, rotary_dim / 2]`.
    #[must_use]
    pub fn cos(&self) -> &GpuTensor<f32> {
        &self.cos
    }

    /// The sines, times the attention factor: `[rows, rotary_dim / 2]`.
    #[must_use]
    pub fn sin(&self) -> &GpuTensor<f32> {
        &self.sin
    }

    /// Rows and planes.
    fn dim(&self) -> (usize, usize) {
        match *self.cos.shape() {
            [rows, n_planes] => (rows, n_planes),
            _ => (0, 0),
        }
    }
}

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
/// f32; the table is exact to one rounding. NaN stays in its plane.
pub fn apply(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<GpuTensor<f32>, PosencError> {
    let (read, write) = layouts(pairing);
    rotate(recorder, x, table, read, write, 1.0)
}

/// Records [`apply`] in place.
///
/// # Errors
///
/// As [`apply`]; nothing is recorded then.
pub fn apply_inplace(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    let (read, write) = layouts(pairing);
    rotate_inplace(recorder, x, table, read, write, 1.0)
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
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<GpuTensor<f32>, PosencError> {
    let (read, write) = layouts(pairing);
    rotate(recorder, dout, table, write, read, -1.0)
}

/// Records [`backward`] in place.
///
/// # Errors
///
/// As [`apply`]; nothing is recorded then.
pub fn backward_inplace(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    table: &GpuRopeTable,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    let (read, write) = layouts(pairing);
    rotate_inplace(recorder, dout, table, write, read, -1.0)
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

/// Where a plane's features stand, as the shaders number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Interleaved = 0,
    HalfSplit = 1,
}

/// The layout that is read and the one that is written.
fn layouts(pairing: RopePairing) -> (Layout, Layout) {
    match pairing {
        RopePairing::Interleaved => (Layout::Interleaved, Layout::Interleaved),
        RopePairing::HalfSplit => (Layout::HalfSplit, Layout::HalfSplit),
        RopePairing::ReadInterleavedWriteHalfSplit => (Layout::Interleaved, Layout::HalfSplit),
    }
}

/// The numbers that both kernels need, checked.
struct Sizes {
    rows: usize,
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
    // The number of elements fits, so the product of axes that are not zero does.
    let rows_of_x = if x.is_empty() { 0 } else { batch * heads * seq };
    let is_shared = rows == seq;
    Ok(Sizes {
        rows: rows_of_x,
        heads_seq: word(if x.is_empty() { 0 } else { heads * seq })?,
        seq: word(seq)?,
        head_dim: word(head_dim)?,
        n_planes: word(n_planes)?,
        table_stride: if is_shared { 0 } else { word(seq)? },
    })
}

fn rotate(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    read: Layout,
    write: Layout,
    direction: f32,
) -> Result<GpuTensor<f32>, PosencError> {
    let sizes = check(x, table)?;
    let y = recorder.output::<f32>(x.shape())?;
    record(recorder, x, &y, table, &sizes, read, write, direction)?;
    Ok(y)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parameter block, spelled out"
)]
fn record(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    y: &GpuTensor<f32>,
    table: &GpuRopeTable,
    sizes: &Sizes,
    read: Layout,
    write: Layout,
    direction: f32,
) -> Result<(), PosencError> {
    let params = RopeParams {
        n_elements: word(x.len())?,
        heads_seq: sizes.heads_seq,
        seq: sizes.seq,
        head_dim: sizes.head_dim,
        n_planes: sizes.n_planes,
        table_stride: sizes.table_stride,
        read_layout: read as u32,
        write_layout: write as u32,
        direction,
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    recorder.dispatch(
        &ROPE,
        &[],
        &params,
        &[table.cos.read(), table.sin.read(), x.read(), y.write()],
        Grid::linear(x.len(), WORKGROUP_SIZE)?,
    )?;
    Ok(())
}

fn rotate_inplace(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    table: &GpuRopeTable,
    read: Layout,
    write: Layout,
    direction: f32,
) -> Result<(), PosencError> {
    let sizes = check(x, table)?;
    if read != write {
        // Features change their places, so they need a second one.
        let y = recorder.scratch::<f32>(x.shape())?;
        record(recorder, x, &y, table, &sizes, read, write, direction)?;
        recorder.copy(&y, x)?;
        return Ok(());
    }
    let n_pairs = sizes.rows * sizes.n_planes as usize;
    let params = RopeInplaceParams {
        n_pairs: word(n_pairs)?,
        heads_seq: sizes.heads_seq,
        seq: sizes.seq,
        head_dim: sizes.head_dim,
        n_planes: sizes.n_planes,
        table_stride: sizes.table_stride,
        pairing: read as u32,
        direction,
    };
    recorder.dispatch(
        &ROPE_INPLACE,
        &[],
        &params,
        &[table.cos.read(), table.sin.read(), x.write()],
        Grid::linear(n_pairs, WORKGROUP_SIZE)?,
    )?;
    Ok(())
}
