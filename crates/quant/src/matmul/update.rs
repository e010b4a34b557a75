//! What a product adds to its result before it leaves it.

use std::borrow::Cow;

use llm_numerics::{gemm, simd};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

use super::few::ROWS;
use super::unexpected;
use crate::QuantError;
use crate::four_bit::blocks::row_major;

/// What is added to a result: `scaling · low · factorsᵀ`, where the result has a column for each row of `factors`.
#[derive(Debug)]
pub(super) struct Update<'a> {
    low: Array2<f32>,             // [seq, rank], row-major
    factors: ArrayView2<'a, f32>, // [columns, rank]
    rows: Cow<'a, [f32]>,         // the same in row-major order, or nothing
    scaling: f32,
}

impl<'a> Update<'a> {
    /// For any number of rows.
    pub(super) fn new(
        low: Array2<f32>,
        factors: ArrayView2<'a, f32>,
        scaling: f32,
    ) -> Result<Self, QuantError> {
        let rows = match factors.to_slice() {
            Some(rows) => Cow::Borrowed(rows),
            None if low.nrows() < ROWS => Cow::Owned(row_major(&factors)?.into_owned()),
            None => Cow::Borrowed(&[][..]),
        };
        Ok(Self {
            low,
            factors,
            rows,
            scaling,
        })
    }

    /// For [`Update::add`] alone; `factors` is `[rank, columns]`.
    pub(super) fn of_columns(low: Array2<f32>, factors: ArrayView2<'a, f32>, scaling: f32) -> Self {
        Self {
            low,
            factors: factors.reversed_axes(),
            rows: Cow::Borrowed(&[]),
            scaling,
        }
    }

    /// What row `t` and column `j` of the result get. Of few rows only.
    #[inline(always)]
    pub(super) fn at(&self, t: usize, j: usize) -> f32 {
        let rank = self.low.ncols();
        let low = self.low.as_slice().unwrap_or_default();
        let [[product]] = simd::dots([&self.rows[rank * j..][..rank]], [&low[rank * t..][..rank]]);
        self.scaling * product
    }

    /// Adds to some columns of the result, from `first` on.
    pub(super) fn add(
        &self,
        first: usize,
        out: &mut ArrayViewMut2<'_, f32>,
    ) -> Result<(), QuantError> {
        let range = (first..first + out.ncols()).into();
        let factors = self.factors.slice_axis(Axis(0), range);
        gemm::general_matmul(self.scaling, &self.low, &factors.t(), 1.0, out).map_err(unexpected)
    }
}
