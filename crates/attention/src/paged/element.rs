//! The number types that pages may hold.

use ndarray::{ArrayView1, ArrayView2};

use crate::flash::contiguous;
use llm_numerics::half::slice::HalfFloatSliceExt;
use llm_numerics::half::{bf16, f16};

/// A number type that pages may hold, computed with in `F`.
///
/// Sealed: `f32`, `f16`, `bf16` and, with scales, `i8` are read as `f32`; `f64` as `f64`.
pub trait PageElement<F>: sealed::Sealed<F> {}

/// A number type that pages hold without scales: `f32`, `f64`, `f16`, `bf16`. Sealed.
pub trait UnscaledElement: sealed::Unscaled {}

pub(super) mod sealed {
    use ndarray::{ArrayView1, ArrayView2};

    pub trait Unscaled {}

    /// What only this crate sees of an element.
    pub trait Sealed<F>: Copy + Send + Sync + 'static {
        /// A row as numbers that can be computed with, times the scale of its token.
        ///
        /// Copied into `buffer`, which has room for it, if it cannot be read as it is.
        fn row<'a>(row: &ArrayView1<'a, Self>, scale: f32, buffer: &'a mut [F]) -> &'a [F];

        /// The array itself, if its elements are such numbers already.
        fn as_floats<'a>(_: &ArrayView2<'a, Self>) -> Option<ArrayView2<'a, F>> {
            None
        }
    }
}

impl PageElement<f32> for f32 {}
impl PageElement<f64> for f64 {}
impl PageElement<f32> for f16 {}
impl PageElement<f32> for bf16 {}
impl PageElement<f32> for i8 {}

impl<S: sealed::Unscaled> UnscaledElement for S {}

impl sealed::Unscaled for f32 {}
impl sealed::Unscaled for f64 {}
impl sealed::Unscaled for f16 {}
impl sealed::Unscaled for bf16 {}

impl sealed::Sealed<f32> for f32 {
    #[inline(always)]
    fn row<'a>(row: &ArrayView1<'a, Self>, _: f32, buffer: &'a mut [f32]) -> &'a [f32] {
        contiguous(row, buffer)
    }

    fn as_floats<'a>(rows: &ArrayView2<'a, Self>) -> Option<ArrayView2<'a, f32>> {
        Some(*rows)
    }
}

impl sealed::Sealed<f64> for f64 {
    #[inline(always)]
    fn row<'a>(row: &ArrayView1<'a, Self>, _: f32, buffer: &'a mut [f64]) -> &'a [f64] {
        contiguous(row, buffer)
    }

    fn as_floats<'a>(rows: &ArrayView2<'a, Self>) -> Option<ArrayView2<'a, f64>> {
        Some(*rows)
    }
}

impl sealed::Sealed<f32> for f16 {
    #[inline(always)]
    fn row<'a>(row: &ArrayView1<'a, Self>, _: f32, buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..row.len()];
        match row.to_slice() {
            // Has instructions of its own on most processors.
            Some(row) => row.convert_to_f32_slice(buffer),
            None => buffer
                .iter_mut()
                .zip(row)
                .for_each(|(y, x)| *y = x.to_f32()),
        }
        buffer
    }
}

impl sealed::Sealed<f32> for bf16 {
    #[inline(always)]
    fn row<'a>(row: &ArrayView1<'a, Self>, _: f32, buffer: &'a mut [f32]) -> &'a [f32] {
        // The upper half of an f32.
        let wide = |x: Self| f32::from_bits(u32::from(x.to_bits()) << 16);
        widen(row, buffer, wide)
    }
}

impl sealed::Sealed<f32> for i8 {
    #[inline(always)]
    fn row<'a>(row: &ArrayView1<'a, Self>, scale: f32, buffer: &'a mut [f32]) -> &'a [f32] {
        widen(row, buffer, |x| scale * f32::from(x))
    }
}

/// Fills the buffer by a function that turns into vector instructions where the row lies in a piece.
#[inline(always)]
fn widen<'a, S: Copy>(
    row: &ArrayView1<'_, S>,
    buffer: &'a mut [f32],
    wide: impl Fn(S) -> f32,
) -> &'a [f32] {
    let buffer = &mut buffer[..row.len()];
    match row.to_slice() {
        Some(row) => buffer.iter_mut().zip(row).for_each(|(y, &x)| *y = wide(x)),
        None => buffer.iter_mut().zip(row).for_each(|(y, &x)| *y = wide(x)),
    }
    buffer
}
