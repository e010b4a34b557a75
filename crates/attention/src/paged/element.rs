//! The number types that pages may hold.

use ndarray::ArrayView2;

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
        /// The element times the scale of its token.
        fn widen(self, scale: f32) -> F;

        /// A row as numbers that can be computed with, times the scale of its token.
        ///
        /// Written into `buffer`, which has room for it, if it cannot be read as it is.
        #[inline(always)]
        fn row<'a>(row: &'a [Self], scale: f32, buffer: &'a mut [F]) -> &'a [F] {
            let buffer = &mut buffer[..row.len()];
            for (y, &x) in buffer.iter_mut().zip(row) {
                *y = x.widen(scale);
            }
            buffer
        }

        /// The same of elements that do not lie side by side.
        #[inline(always)]
        fn gather<'a>(row: &ArrayView1<'_, Self>, scale: f32, buffer: &'a mut [F]) -> &'a [F] {
            let buffer = &mut buffer[..row.len()];
            for (y, &x) in buffer.iter_mut().zip(row) {
                *y = x.widen(scale);
            }
            buffer
        }

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
    fn widen(self, _: f32) -> f32 {
        self
    }

    #[inline(always)]
    fn row<'a>(row: &'a [Self], _: f32, _: &'a mut [f32]) -> &'a [f32] {
        row
    }

    fn as_floats<'a>(rows: &ArrayView2<'a, Self>) -> Option<ArrayView2<'a, f32>> {
        Some(*rows)
    }
}

impl sealed::Sealed<f64> for f64 {
    #[inline(always)]
    fn widen(self, _: f32) -> f64 {
        self
    }

    #[inline(always)]
    fn row<'a>(row: &'a [Self], _: f32, _: &'a mut [f64]) -> &'a [f64] {
        row
    }

    fn as_floats<'a>(rows: &ArrayView2<'a, Self>) -> Option<ArrayView2<'a, f64>> {
        Some(*rows)
    }
}

impl sealed::Sealed<f32> for f16 {
    #[inline(always)]
    fn widen(self, _: f32) -> f32 {
        self.to_f32()
    }

    /// Most processors have instructions for it.
    #[inline(always)]
    fn row<'a>(row: &'a [Self], _: f32, buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..row.len()];
        row.convert_to_f32_slice(buffer);
        buffer
    }
}

impl sealed::Sealed<f32> for bf16 {
    /// It is the upper half of an `f32`.
    #[inline(always)]
    fn widen(self, _: f32) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl sealed::Sealed<f32> for i8 {
    #[inline(always)]
    fn widen(self, scale: f32) -> f32 {
        scale * f32::from(self)
    }
}
