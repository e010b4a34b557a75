//! Products with packed weights and a low-rank update of them on the GPU, in one pass.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{gradient, product, sizes};
use crate::QuantError;
use crate::gpu::{GpuFourBit, GpuQuantError, matrix, word};

llm_gpu::params! {
    /// The parameter block of `low_rank_project.wgsl`.
    pub(in super::super) struct LowRankProjectParams {
        n_items: u32,
        inner: u32,
        rank: u32,
        inner_stride: u32,
        outer_stride: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(in super::super) static LOW_RANK_PROJECT: Kernel = Kernel {
    name: "low_rank_project",
    source: include_str!("../low_rank_project.wgsl"),
    snippets: &[snippet::LINEAR, snippet::TREE_SUM],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<LowRankProjectParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// A low-rank update of weights on a device, `scaling · B A`: [`LowRank`](crate::matmul::low_rank::LowRank).
#[derive(Clone, Copy, Debug)]
pub struct GpuLowRank<'a> {
    a: &'a GpuTensor<f32>, // [rank, d_in]
    b: &'a GpuTensor<f32>, // [d_out, rank]
    shape: [usize; 2],     // [d_out, d_in]
    rank: usize,
    scaling: f32,
}

impl<'a> GpuLowRank<'a> {
    /// The two factors, and what their product is multiplied by.
    ///
    /// # Shapes
    ///
    /// - `a`: `[rank, d_in]`
    /// - `b`: `[d_out, rank]`
    ///
    /// # Errors
    ///
    /// - [`GpuQuantError::Rank`] if a factor is not a matrix.
    /// - [`QuantError::Rank`] if the rows of `a` are not the columns of `b`.
    /// - [`QuantError::Scaling`] if `scaling` is NaN or infinite.
    pub fn new(
        a: &'a GpuTensor<f32>,
        b: &'a GpuTensor<f32>,
        scaling: f32,
    ) -> Result<Self, GpuQuantError> {
        let (of_a, of_b) = (matrix("a", a)?, matrix("b", b)?);
        if of_a[0] != of_b[1] {
            return Err(QuantError::Rank { a: of_a, b: of_b }.into());
        }
        if !scaling.is_finite() {
            return Err(QuantError::Scaling { got: scaling }.into());
        }
        Ok(Self {
            a,
            b,
            shape: [of_b[0], of_a[1]],
            rank: of_a[0],
            scaling,
        })
    }

    fn check(&self, expected: [usize; 2]) -> Result<(), GpuQuantError> {
        if self.shape != expected {
            let got = self.shape;
            return Err(QuantError::UpdateShape { expected, got }.into());
        }
        Ok(())
    }
}

/// Rows times one factor, and the other factor.
pub(super) struct Projected<'a> {
    pub(super) low: GpuTensor<f32>, // [seq, rank]
    pub(super) factors: &'a GpuTensor<f32>,
    /// Of the other factor along the rank and along the result.
    pub(super) strides: [usize; 2],
    pub(super) scaling: f32,
}

impl Projected<'_> {
    pub(super) fn rank(&self) -> u32 {
        self.low.shape().last().map_or(0, |&rank| word(rank))
    }
}

/// Records the product of a layer with packed weights and a low-rank update of them:
/// [`matmul::low_rank::forward`](crate::matmul::low_rank::forward).
///
/// ```text
/// y_tj = Σ_i x_ti · value(code_ji) · scale_(block of ji)  +  scaling · Σ_r (Σ_i x_ti a_ri) b_jr
/// ```
///
/// The inner sums are a small kernel of their own; the rest is added in the kernel of the product, before it stores `y`.
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`
/// - `weights`: `[d_out, d_in]`
/// - `update`: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`
/// - returns: `[seq, d_out]`
///
/// # Errors
///
/// - Those of [`matmul::forward`](super::forward).
/// - [`QuantError::UpdateShape`] if the update has not the shape of the weights.
///
/// # Precision
///
/// As [`matmul::forward`](super::forward), with the products of the update in the same sums; `scaling` times a factor is rounded first. With a rank
/// of 0 the bits are those of [`matmul::forward`](super::forward).
///
/// # Example
///
/// ```
/// use llm_quant::gpu::GpuFourBit;
/// use llm_quant::gpu::matmul::low_rank::{self, GpuLowRank};
/// use llm_quant::{FourBitCode, FourBitConfig, four_bit};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_quant::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let weights = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let weights = GpuFourBit::upload(&gpu, &weights)?;
/// let a = gpu.upload(&array![[1.0_f32, 0.0, 1.0]])?;
/// let b = gpu.upload(&array![[1.0_f32], [-1.0]])?;
/// let x = gpu.upload(&array![[1.0_f32, 2.0, 3.0]])?;
/// let mut recorder = gpu.recorder();
/// let update = GpuLowRank::new(&a, &b, 2.0)?;
/// let y = low_rank::forward(&mut recorder, &x, &weights, &update)?;
/// recorder.submit()?;
/// assert_eq!(y.download_blocking()?, array![[7.0, -3.0]].into_dyn()); // [-1, 5] and 2 · 4 · [1, -1]
/// # Ok::<(), llm_quant::gpu::GpuQuantError>(())
/// ```
///
/// # References
///
/// Hu et al. 2021, arXiv:2106.09685v2, eq. 3; Dettmers et al. 2023, arXiv:2305.14314v1, eq. 5.
pub fn forward(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    weights: &GpuFourBit,
    update: &GpuLowRank<'_>,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let sizes = sizes("x", x, weights, 1)?;
    let [_, d_out, d_in] = sizes;
    update.check([d_out, d_in])?;
    let projected = Projected {
        low: project(recorder, x, update.a, update.rank, [1, d_in])?,
        factors: update.b,
        strides: [1, update.rank],
        scaling: update.scaling,
    };
    product(recorder, x, weights, sizes, Some(&projected))
}

/// Records the gradient of [`forward`] to its input:
/// [`matmul::low_rank::backward_input`](crate::matmul::low_rank::backward_input).
///
/// ```text
/// dx = dout W + s (dout B) A
/// ```
///
/// # Shapes
///
/// - `dout`: `[seq, d_out]`
/// - `weights`: `[d_out, d_in]`
/// - `update`: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`
/// - returns: `[seq, d_in]`
///
/// # Errors
///
/// - Those of [`matmul::backward`](super::backward).
/// - [`QuantError::UpdateShape`] if the update has not the shape of the weights.
///
/// # Precision
///
/// As [`forward`].
///
/// # Example
///
/// ```
/// use llm_quant::gpu::GpuFourBit;
/// use llm_quant::gpu::matmul::low_rank::{self, GpuLowRank};
/// use llm_quant::{FourBitCode, FourBitConfig, four_bit};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_quant::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let weights = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let weights = GpuFourBit::upload(&gpu, &weights)?;
/// let a = gpu.upload(&array![[1.0_f32, 0.0, 1.0]])?;
/// let b = gpu.upload(&array![[1.0_f32], [-1.0]])?;
/// let dout = gpu.upload(&array![[1.0_f32, 10.0]])?;
/// let mut recorder = gpu.recorder();
/// let update = GpuLowRank::new(&a, &b, 2.0)?;
/// let dx = low_rank::backward_input(&mut recorder, &dout, &weights, &update)?;
/// recorder.submit()?;
/// assert_eq!(dx.download_blocking()?, array![[-17.0, 9.0, -8.0]].into_dyn());
/// # Ok::<(), llm_quant::gpu::GpuQuantError>(())
/// ```
pub fn backward_input(
    recorder: &mut Recorder,
    dout: &GpuTensor<f32>,
    weights: &GpuFourBit,
    update: &GpuLowRank<'_>,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let sizes = sizes("dout", dout, weights, 0)?;
    let [_, d_out, d_in] = sizes;
    update.check([d_out, d_in])?;
    let projected = Projected {
        low: project(recorder, dout, update.b, update.rank, [update.rank, 1])?,
        factors: update.a,
        strides: [d_in, 1],
        scaling: update.scaling,
    };
    gradient(recorder, dout, weights, sizes, Some(&projected))
}

/// Rows of `x` times a factor, whose strides are those along the axis that is summed over and along the rank.
fn project(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    factors: &GpuTensor<f32>,
    rank: usize,
    [inner_stride, outer_stride]: [usize; 2],
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let [seq, inner] = matrix("x", x)?;
    let low = recorder.scratch::<f32>(&[seq, rank])?;
    let params = LowRankProjectParams {
        n_items: word(seq * rank),
        inner: word(inner),
        rank: word(rank.max(1)),
        inner_stride: word(inner_stride),
        outer_stride: word(outer_stride),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = [x.read(), factors.read(), low.write()];
    let grid = Grid::linear(seq * rank, 1)?;
    recorder.dispatch(&LOW_RANK_PROJECT, &[], &params, &bindings, grid)?;
    Ok(low)
}
