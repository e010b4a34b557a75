//! Products with packed weights and a low-rank update of them (LoRA, QLoRA), in one pass.

use llm_numerics::{gemm, simd, threads};
use ndarray::{Array2, ArrayRef2, ArrayView2, Axis};

use super::few::ROWS;
use super::update::Update;
use super::{ActivationBits, axes, check_out, gradient, matrix, product, unexpected, view};
use crate::QuantError;
use crate::four_bit::FourBit;
use crate::four_bit::blocks::row_major;

/// Multiply-adds of a task of [`project_few`].
const TASK: usize = 1 << 15;

/// A low-rank update of weights, `scaling · B A`.
///
/// The scale is the caller's: `alpha / rank` in LoRA (Hu et al. 2021, arXiv:2106.09685v2 §4.1), `alpha / √rank` where it is stabilized
/// (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732v1). A rank of 0 is no update.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    a: ArrayView2<'a, f32>, // [rank, d_in]
    b: ArrayView2<'a, f32>, // [d_out, rank]
    scaling: f32,
}

impl<'a> LowRank<'a> {
    /// The two factors, and what their product is multiplied by.
    ///
    /// # Shapes
    ///
    /// - `a`: `[rank, d_in]`, any strides
    /// - `b`: `[d_out, rank]`, any strides
    ///
    /// # Errors
    ///
    /// - [`QuantError::Rank`] if the rows of `a` are not the columns of `b`.
    /// - [`QuantError::Scaling`] if `scaling` is NaN or infinite.
    #[doc(alias = "lora_A")]
    #[doc(alias = "lora_B")]
    #[doc(alias = "lora_alpha")]
    pub fn new(
        a: &'a ArrayRef2<f32>,
        b: &'a ArrayRef2<f32>,
        scaling: f32,
    ) -> Result<Self, QuantError> {
        if a.nrows() != b.ncols() {
            return Err(QuantError::Rank {
                a: [a.nrows(), a.ncols()],
                b: [b.nrows(), b.ncols()],
            });
        }
        if !scaling.is_finite() {
            return Err(QuantError::Scaling { got: scaling });
        }
        let (a, b) = (a.view(), b.view());
        Ok(Self { a, b, scaling })
    }

    /// The first factor, `[rank, d_in]`.
    #[must_use]
    pub fn a(&self) -> ArrayView2<'a, f32> {
        self.a
    }

    /// The second factor, `[d_out, rank]`.
    #[must_use]
    pub fn b(&self) -> ArrayView2<'a, f32> {
        self.b
    }

    /// What the product of the factors is multiplied by.
    #[must_use]
    pub fn scaling(&self) -> f32 {
        self.scaling
    }

    /// Columns of B and rows of A.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.a.nrows()
    }

    fn check(&self, expected: [usize; 2]) -> Result<(), QuantError> {
        let got = [self.b.nrows(), self.a.ncols()];
        if got != expected {
            return Err(QuantError::UpdateShape { expected, got });
        }
        Ok(())
    }
}

/// Gradients of a product with a low-rank update. Packed weights have none.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gradients {
    /// To the input, `[seq, d_in]`.
    pub x: Array2<f32>,
    /// To the first factor, `[rank, d_in]`.
    pub a: Array2<f32>,
    /// To the second factor, `[d_out, rank]`.
    pub b: Array2<f32>,
}

/// The product of a layer with packed weights and a low-rank update of them, `y = x (W + s B A)ᵀ`.
///
/// ```text
/// y_tj = Σ_i x_ti · value(code_ji) · scale_(block of ji)  +  scaling · Σ_r (Σ_i x_ti a_ri) b_jr
/// ```
///
/// The inner sums are computed first, `[seq, rank]` of them; the rest is added to each element of `y` while it is in registers (one to four
/// rows) or in the cache. Neither `W` nor `B A` nor a second `[seq, d_out]` is ever held.
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - `update`: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`
/// - returns: `[seq, d_out]`
///
/// # Errors
///
/// - [`QuantError::WeightRank`] if the weights are not a matrix.
/// - [`QuantError::InnerAxis`] if `d_in` of `x` and of the weights differ.
/// - [`QuantError::UpdateShape`] if the update has not the shape of the weights.
/// - [`QuantError::Size`] or [`QuantError::TooLarge`] if the result, or a copy of an `x` or of a factor that is not in row-major order, does not fit.
///
/// # Precision
///
/// That of [`matmul::forward`](super::forward), plus an update in `f32`: sums of `d_in` products, then of `rank`, then a product with `scaling`,
/// added in one rounding or two. With a rank of 0 the bits are those of [`matmul::forward`](super::forward). The same bits for any number of
/// threads.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul::low_rank::{self, LowRank};
/// use ndarray::array;
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]]; // [d_out, d_in]: all of them values of NF4
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let (a, b) = (array![[1.0, 0.0, 1.0]], array![[1.0], [-1.0]]); // rank 1
/// let (alpha, rank) = (2.0, 1.0);
/// let update = LowRank::new(&a, &b, alpha / rank)?;
/// let x = array![[1.0, 2.0, 3.0]]; // [seq, d_in]
/// // x A = 4, so that the update is 2 · 4 and 2 · -4 of [-1, 5].
/// assert_eq!(low_rank::forward(&x, &packed, &update)?, array![[7.0, -3.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Hu et al. 2021, arXiv:2106.09685v2, eq. 3; Dettmers et al. 2023, arXiv:2305.14314v1, eq. 5; PEFT 0.21.2, `lora.bnb.Linear4bit`.
pub fn forward(
    x: &ArrayRef2<f32>,
    weights: &FourBit,
    update: &LowRank<'_>,
) -> Result<Array2<f32>, QuantError> {
    let [d_out, d_in] = axes(x, weights, 1)?;
    update.check([d_out, d_in])?;
    let mut out = matrix(x.nrows(), d_out)?;
    forward_into(x, weights, update, &mut out)?;
    Ok(out)
}

/// [`forward`] into an array that is there; what it holds is not read.
///
/// # Shapes
///
/// - `x`: `[seq, d_in]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - `update`: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`
/// - `out`: `[seq, d_out]`, any strides
///
/// # Errors
///
/// Those of [`forward`], and [`QuantError::OutShape`] if `out` is not `[seq, d_out]`.
///
/// # Precision
///
/// As [`forward`].
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul::low_rank::{self, LowRank};
/// use ndarray::{Array2, array};
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let (a, b) = (array![[1.0, 0.0, 1.0]], array![[1.0], [-1.0]]);
/// let mut y = Array2::zeros([1, 2]); // used again for each token
/// low_rank::forward_into(&array![[1.0, 2.0, 3.0]], &packed, &LowRank::new(&a, &b, 2.0)?, &mut y)?;
/// assert_eq!(y, array![[7.0, -3.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn forward_into(
    x: &ArrayRef2<f32>,
    weights: &FourBit,
    update: &LowRank<'_>,
    out: &mut ArrayRef2<f32>,
) -> Result<(), QuantError> {
    let [d_out, d_in] = axes(x, weights, 1)?;
    update.check([d_out, d_in])?;
    check_out(out, [x.nrows(), d_out])?;
    if update.rank() == 0 || out.is_empty() {
        return product(x, weights, ActivationBits::Bits27, None, out);
    }
    // Both products take it so: it is copied once.
    let rows = row_major(x)?;
    let x = view(x.nrows(), d_in, &rows)?;
    let low = if x.nrows() < ROWS {
        project_few(&x, update)?
    } else {
        times(1.0, &x, &update.a.t())?
    };
    let update = Update::new(low, update.b, update.scaling)?;
    product(&x, weights, ActivationBits::Bits27, Some(&update), out)
}

/// The gradients of [`forward`] to its input and to the two factors.
///
/// ```text
/// dx = dout W + s (dout B) A,  da = s (dout B)ᵀ x,  db = s doutᵀ (x Aᵀ)
/// ```
///
/// `x Aᵀ` and `dout B`, of `[seq, rank]` each, are computed here; the second term of `dx` is added while its columns are in the cache.
///
/// # Shapes
///
/// - `dout`: `[seq, d_out]`, any strides
/// - `x`: `[seq, d_in]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - `update`: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`
/// - returns: `[seq, d_in]`, `[rank, d_in]` and `[d_out, rank]`
///
/// # Errors
///
/// - [`QuantError::WeightRank`] if the weights are not a matrix.
/// - [`QuantError::InnerAxis`] if `d_out` of `dout`, or `d_in` of `x`, differs from that of the weights.
/// - [`QuantError::Rows`] if `x` and `dout` have different rows.
/// - [`QuantError::UpdateShape`] if the update has not the shape of the weights.
/// - [`QuantError::Size`] or [`QuantError::TooLarge`] if a result does not fit.
///
/// # Precision
///
/// Sums in `f32`, each of sums in `f32`. The same bits for any number of threads.
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul::low_rank::{self, LowRank};
/// use ndarray::array;
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let (a, b) = (array![[1.0, 0.0, 1.0]], array![[1.0], [-1.0]]);
/// let update = LowRank::new(&a, &b, 2.0)?;
/// let (x, dout) = (array![[1.0, 2.0, 3.0]], array![[1.0, 10.0]]);
/// let gradients = low_rank::backward(&dout, &x, &packed, &update)?;
/// // dout B = -9, x A = 4.
/// assert_eq!(gradients.x, array![[1.0 - 18.0, 9.0, 10.0 - 18.0]]);
/// assert_eq!(gradients.a, array![[-18.0, -36.0, -54.0]]);
/// assert_eq!(gradients.b, array![[8.0], [80.0]]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn backward(
    dout: &ArrayRef2<f32>,
    x: &ArrayRef2<f32>,
    weights: &FourBit,
    update: &LowRank<'_>,
) -> Result<Gradients, QuantError> {
    update.check(axes(x, weights, 1)?)?;
    axes(dout, weights, 0)?;
    if x.nrows() != dout.nrows() {
        return Err(QuantError::Rows {
            expected: dout.nrows(),
            got: x.nrows(),
        });
    }
    let scaling = update.scaling;
    let low = times(1.0, dout, &update.b)?;
    let da = times(scaling, &low.t(), x)?;
    let db = times(scaling, &dout.t(), &times(1.0, x, &update.a.t())?)?;
    let dx = gradient_to_input(dout, weights, update, low)?;
    Ok(Gradients {
        x: dx,
        a: da,
        b: db,
    })
}

/// The gradient of [`forward`] to its input alone, for factors that are not trained: `dx = dout W + s (dout B) A`.
///
/// # Shapes
///
/// - `dout`: `[seq, d_out]`, any strides
/// - `weights`: `[d_out, d_in]`
/// - `update`: `a` of `[rank, d_in]`, `b` of `[d_out, rank]`
/// - returns: `[seq, d_in]`
///
/// # Errors
///
/// Those of [`backward`].
///
/// # Precision
///
/// As [`backward`]; with a rank of 0 the bits of [`matmul::backward`](super::backward).
///
/// # Example
///
/// ```
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use llm_quant::matmul::low_rank::{self, LowRank};
/// use ndarray::array;
///
/// let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]];
/// let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// let (a, b) = (array![[1.0, 0.0, 1.0]], array![[1.0], [-1.0]]);
/// let dx = low_rank::backward_input(&array![[1.0, 10.0]], &packed, &LowRank::new(&a, &b, 2.0)?)?;
/// assert_eq!(dx, array![[-17.0, 9.0, -8.0]]); // dout B = -9: that of the plain product is [1, 9, 10]
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn backward_input(
    dout: &ArrayRef2<f32>,
    weights: &FourBit,
    update: &LowRank<'_>,
) -> Result<Array2<f32>, QuantError> {
    update.check(axes(dout, weights, 0)?)?;
    let low = times(1.0, dout, &update.b)?;
    gradient_to_input(dout, weights, update, low)
}

/// With `dout B`.
fn gradient_to_input(
    dout: &ArrayRef2<f32>,
    weights: &FourBit,
    update: &LowRank<'_>,
    low: Array2<f32>,
) -> Result<Array2<f32>, QuantError> {
    if update.rank() == 0 {
        return gradient(dout, weights, None);
    }
    let update = Update::of_columns(low, update.a, update.scaling);
    gradient(dout, weights, Some(&update))
}

/// `alpha a b`.
fn times(alpha: f32, a: &ArrayRef2<f32>, b: &ArrayRef2<f32>) -> Result<Array2<f32>, QuantError> {
    let mut out = matrix(a.nrows(), b.ncols())?;
    gemm::general_matmul(alpha, a, b, 0.0, &mut out).map_err(unexpected)?;
    Ok(out)
}

/// `x Aᵀ` of a few rows: each row of A is read once.
fn project_few(x: &ArrayRef2<f32>, update: &LowRank<'_>) -> Result<Array2<f32>, QuantError> {
    let (seq, d_in) = x.dim();
    let mut low = matrix(seq, update.rank())?;
    if d_in == 0 {
        return Ok(low);
    }
    let (x, a) = (row_major(x)?, row_major(&update.a)?);
    let n_rows = (TASK / x.len()).max(1);
    let tasks: Vec<_> = { low.axis_chunks_iter_mut(Axis(1), n_rows) }
        .zip(a.chunks(n_rows * d_in))
        .collect();
    threads::for_each(tasks, |(mut low, a)| {
        simd::vectorize(
            #[inline(always)]
            || {
                for (mut low, a) in low.columns_mut().into_iter().zip(a.chunks_exact(d_in)) {
                    for (low, x) in low.iter_mut().zip(x.chunks_exact(d_in)) {
                        let [[product]] = simd::dots([a], [x]);
                        *low = product;
                    }
                }
            },
        );
    });
    Ok(low)
}
