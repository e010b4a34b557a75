//! The number types that pages may hold.

use llm_numerics::half::{bf16, f16};
use llm_numerics::simd;

/// A number type that pages may hold, computed with in `F`.
///
/// Sealed: `f32`, `f16`, `bf16` and, with scales, `i8` are read as `f32`; `f64` as `f64`.
pub trait PageElement<F>: sealed::Sealed<F> {}

/// A number type that pages hold without scales: `f32`, `f64`, `f16`, `bf16`. Sealed.
pub trait UnscaledElement: sealed::Unscaled {}

pub(super) mod sealed {
    pub trait Unscaled {}

    /// What only this crate sees of an element.
    pub trait Sealed<F>: Copy + Send + Sync + 'static {
        /// The element times the scale of its token.
        fn widen(self, scale: f32) -> F;

        /// A row as numbers that can be computed with, times the scale of its token. Of the same length.
        #[inline(always)]
        fn widen_row(row: &[Self], scale: f32, to: &mut [F]) {
            for (y, &x) in to.iter_mut().zip(row) {
                *y = x.widen(scale);
            }
        }

        /// The slice itself, if its elements are such numbers already.
        #[inline(always)]
        fn as_floats(_: &[Self]) -> Option<&[F]> {
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
    fn as_floats(row: &[Self]) -> Option<&[f32]> {
        Some(row)
    }
}

impl sealed::Sealed<f64> for f64 {
    #[inline(always)]
    fn widen(self, _: f32) -> f64 {
        self
    }

    #[inline(always)]
    fn as_floats(row: &[Self]) -> Option<&[f64]> {
        Some(row)
    }
}

impl sealed::Sealed<f32> for f16 {
    #[inline(always)]
    fn widen(self, _: f32) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn widen_row(row: &[Self], _: f32, to: &mut [f32]) {
        simd::widen_f16(row, to);
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
