//! Products with packed weights on the GPU, which are never unpacked as a whole.

pub mod low_rank;

use llm_gpu::{Access, Binding, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use low_rank::Projected;

use super::{FOUR_BIT, GpuFourBit, GpuQuantError, matrix, word};
use crate::QuantError;

/// Rows of a workgroup of `four_bit_matvec.wgsl`.
const ROWS: usize = 4;
/// Rows up to which each weight is unpacked for [`ROWS`] of them at a time.
const FEW: usize = 2 * ROWS;
/// Rows and columns of a tile of `four_bit_matmul.wgsl`.
const TILE: usize = 32;

llm_gpu::params! {
    /// The parameter block of `four_bit_matvec.wgsl`.
    pub(super) struct FourBitMatvecParams {
        d_in: u32,
        d_out: u32,
        first_row: u32,
        n_rows: u32,
        block: u32,
        is_nested: u32,
        rank: u32,
        scaling: f32,
    }
}

llm_gpu::params! {
    /// The parameter block of `four_bit_matmul.wgsl`.
    pub(super) struct FourBitMatmulParams {
        seq: u32,
        inner: u32,
        outer: u32,
        n_column_tiles: u32,
        n_items: u32,
        inner_stride: u32,
        outer_stride: u32,
        block: u32,
        is_nested: u32,
        rank: u32,
        scaling: f32,
        factor_inner_stride: u32,
        factor_outer_stride: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

/// Codes, scales, scales of scales, what they stand for; what they are multiplied with; both factors of an update; the result.
const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
];

pub(super) static FOUR_BIT_MATVEC: Kernel = Kernel {
    name: "four_bit_matvec",
    source: include_str!("four_bit_matvec.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM, FOUR_BIT],
    bindings: BINDINGS,
    params_size: size_of::<FourBitMatvecParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

pub(super) static FOUR_BIT_MATMUL: Kernel = Kernel {
    name: "four_bit_matmul",
    source: include_str!("four_bit_matmul.wgsl"),
    snippets: &[snippet::LINEAR, FOUR_BIT],
    bindings: BINDINGS,
    params_size: size_of::<FourBitMatmulParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(2 * 32 * 33 * 4),
};

/// Records the product of a layer with packed weights: [`matmul::forward`](crate::matmul::forward).
///
/// ```text
/// y_tj = Σ_i x_ti · value(code_ji) · scale_(block of ji)
/// ```
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`
/// - `weights`: `[d_out, d_in]`
/// - returns: `[seq, d_out]`
///
/// # Errors
///
/// - [`GpuQuantError::Rank`] if `x`, [`QuantError::WeightRank`] if the weights are not a matrix.
/// - [`QuantError::InnerAxis`] if `d_in` of `x` and of the weights differ.
/// - [`GpuQuantError::Gpu`] if the device has no room for the result, or the tensors are of different devices.
///
/// # Precision
///
/// Each weight is rounded to `f32` as in [`four_bit::dequantize`](super::four_bit::dequantize), sums are in `f32`: 64 running sums and a tree
/// over them up to 8 rows, else one after the other.
///
/// # Example
///
/// See [the module](super).
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1, eq. 5.
pub fn forward(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    weights: &GpuFourBit,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let sizes = sizes("x", x, weights, 1)?;
    product(recorder, x, weights, sizes, None)
}

/// The product, and an update if there is one.
fn product(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    weights: &GpuFourBit,
    [seq, d_out, d_in]: [usize; 3],
    update: Option<&Projected<'_>>,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let y = recorder.output::<f32>(&[seq, d_out])?;
    if seq > FEW {
        let strides = [1, d_in];
        record_tiles(
            recorder,
            x,
            weights,
            &y,
            [seq, d_in, d_out],
            strides,
            update,
        )?;
        return Ok(y);
    }
    for first in (0..seq).step_by(ROWS) {
        let params = FourBitMatvecParams {
            d_in: word(d_in),
            d_out: word(d_out),
            first_row: word(first),
            n_rows: word(ROWS.min(seq - first)),
            block: word(weights.block()),
            is_nested: weights.is_nested(),
            rank: update.map_or(0, Projected::rank),
            scaling: update.map_or(0.0, |update| update.scaling),
        };
        let bindings = bindings(x, weights, update, &y);
        let grid = Grid::linear(d_out, 1)?;
        recorder.dispatch(&FOUR_BIT_MATVEC, &[], &params, &bindings, grid)?;
    }
    Ok(y)
}

/// Records the gradient of [`forward`] to its input: [`matmul::backward`](crate::matmul::backward). Packed weights have none.
///
/// ```text
/// dx_ti = Σ_j dout_tj · value(code_ji) · scale_(block of ji)
/// ```
///
/// # Shapes
///
/// - `dout`: `[seq, d_out]`
/// - `weights`: `[d_out, d_in]`
/// - returns: `[seq, d_in]`
///
/// # Errors
///
/// - [`GpuQuantError::Rank`] if `dout`, [`QuantError::WeightRank`] if the weights are not a matrix.
/// - [`QuantError::InnerAxis`] if `d_out` of `dout` and of the weights differ.
/// - [`GpuQuantError::Gpu`] as for [`forward`].
///
/// # Precision
///
/// As [`forward`], one product after the other.
///
/// # Example
///
/// ```
/// use llm_quant::gpu::{GpuFourBit, matmul};
/// use llm_quant::{FourBitCode, FourBitConfig, four_bit};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_quant::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let weights = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let weights = GpuFourBit::upload(&gpu, &weights)?;
/// let dout = gpu.upload(&array![[1.0_f32, 10.0]])?;
/// let mut recorder = gpu.recorder();
/// let dx = matmul::backward(&mut recorder, &dout, &weights)?;
/// recorder.submit()?;
/// assert_eq!(dx.download_blocking()?, array![[1.0, 9.0, 10.0]].into_dyn());
/// # Ok::<(), llm_quant::gpu::GpuQuantError>(())
/// ```
pub fn backward(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    weights: &GpuFourBit,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let sizes = sizes("dout", dout, weights, 0)?;
    gradient(recorder, dout, weights, sizes, None)
}

/// The gradient, and that of an update if there is one.
fn gradient(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    weights: &GpuFourBit,
    [seq, d_out, d_in]: [usize; 3],
    update: Option<&Projected<'_>>,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let dx = recorder.output::<f32>(&[seq, d_in])?;
    let (sizes, strides) = ([seq, d_out, d_in], [d_in, 1]);
    record_tiles(recorder, dout, weights, &dx, sizes, strides, update)?;
    Ok(dx)
}

/// What both kernels bind.
fn bindings<'a>(
    x: &'a GpuTensor<f32>,
    weights: &'a GpuFourBit,
    update: Option<&'a Projected<'_>>,
    y: &'a GpuTensor<f32>,
) -> [Binding<'a>; 8] {
    let [packed, scales, nested, table] = weights.bindings();
    // Without an update nothing is read from there; something has to be bound.
    let (low, factors) = update.map_or((x, x), |update| (&update.low, update.factors));
    [
        packed,
        scales,
        nested,
        table,
        x.read(),
        low.read(),
        factors.read(),
        y.write(),
    ]
}

/// `[seq, d_out, d_in]` of weights whose axis `inner` is as long as the columns of `x`.
fn sizes(
    name: &'static str,
    x: &GpuTensor<f32>,
    weights: &GpuFourBit,
    inner: usize,
) -> Result<[usize; 3], GpuQuantError> {
    let [seq, columns] = matrix(name, x)?;
    let &[d_out, d_in] = weights.shape() else {
        let shape = weights.shape().to_vec();
        return Err(QuantError::WeightRank { shape }.into());
    };
    if columns != weights.shape()[inner] {
        let error = QuantError::InnerAxis {
            x: [seq, columns],
            weights: [d_out, d_in],
        };
        return Err(error.into());
    }
    Ok([seq, d_out, d_in])
}

/// The product by tiles: strides are those of the weights along the axis that is summed over and along the other.
fn record_tiles(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    weights: &GpuFourBit,
    y: &GpuTensor<f32>,
    [seq, inner, outer]: [usize; 3],
    [inner_stride, outer_stride]: [usize; 2],
    update: Option<&Projected<'_>>,
) -> Result<(), GpuQuantError> {
    let n_column_tiles = outer.div_ceil(TILE);
    let n_items = seq.div_ceil(TILE) * n_column_tiles;
    let [factor_inner_stride, factor_outer_stride] = update.map_or([0; 2], |update| update.strides);
    let params = FourBitMatmulParams {
        seq: word(seq),
        inner: word(inner),
        outer: word(outer),
        n_column_tiles: word(n_column_tiles.max(1)),
        n_items: word(n_items),
        inner_stride: word(inner_stride),
        outer_stride: word(outer_stride),
        block: word(weights.block()),
        is_nested: weights.is_nested(),
        rank: update.map_or(0, Projected::rank),
        scaling: update.map_or(0.0, |update| update.scaling),
        factor_inner_stride: word(factor_inner_stride),
        factor_outer_stride: word(factor_outer_stride),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = bindings(x, weights, update, y);
    let grid = Grid::linear(n_items, 1)?;
    recorder.dispatch(&FOUR_BIT_MATMUL, &[], &params, &bindings, grid)?;
    Ok(())
}
