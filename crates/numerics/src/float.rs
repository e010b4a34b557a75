//! The numbers that the crates compute in.

use core::fmt::{Debug, Display};

use ndarray::{LinalgScalar, ScalarOperand};
use num_traits::NumAssign;

use crate::simd::{self, fused};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A number type that blocks compute in: `f32` or `f64`.
///
/// Sealed: the two are all there will be. Narrower types are for storage, see
/// [`Storage`](crate::Storage).
pub trait Float:
    num_traits::Float
    + NumAssign
    + LinalgScalar
    + ScalarOperand
    + core::iter::Sum
    + Debug
    + Display
    + Default
    + Send
    + Sync
    + sealed::Sealed
    + 'static
{
    /// Rounds an `f64` to this type.
    #[must_use]
    fn from_f64(x: f64) -> Self;

    /// Widens to `f64`, exactly.
    #[must_use]
    fn as_f64(self) -> f64;

    /// `e^self`, written so that a loop over it turns into vector instructions.
    ///
    /// # Precision
    ///
    /// - `f32`: at most 2 units in the last place; results below 1.7e-38 are
    ///   flushed to zero. NaN stays NaN, `-inf` gives 0, above 88.72283 gives `inf`.
    /// - `f64`: the standard library's `exp`.
    #[must_use]
    fn fast_exp(self) -> Self;

    /// The nearest integer of a number from 0 to `2^22`, halves to even; of no meaning for others.
    ///
    /// Loops with it become vector instructions, unlike those with `as u32`.
    #[must_use]
    fn round_small(self) -> u32;

    /// The hyperbolic tangent, written so that a loop over it turns into vector instructions.
    ///
    /// # Precision
    ///
    /// - `f32`: at most 1.4 units in the last place, never beyond -1 or 1, and exactly odd; `-0`
    ///   and what is too small to differ from its tangent stay as they are, and so does NaN.
    /// - `f64`: the standard library's `tanh`.
    #[must_use]
    fn fast_tanh(self) -> Self;

    /// The logistic function `1 / (1 + e^-self)` by [`fast_exp`](Self::fast_exp).
    ///
    /// # Precision
    ///
    /// - `f32`: at most 4 units in the last place above -87; below it tiny, then 0.
    #[inline(always)]
    #[must_use]
    fn sigmoid(self) -> Self {
        Self::one() / (Self::one() + (-self).fast_exp())
    }

    /// What [`simd::dots_fused`] does.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    fn dots_fused<const A: usize, const B: usize>(
        a: [&[Self]; A],
        b: [&[Self]; B],
    ) -> [[Self; B]; A] {
        simd::dots(a, b)
    }

    /// What [`simd::add_weighted_fused`] does.
    #[doc(hidden)]
    #[inline(always)]
    fn add_weighted_fused<const A: usize, const B: usize>(
        sums: &mut [Self],
        weights: [[Self; B]; A],
        b: [&[Self]; B],
    ) {
        fused::add_weighted(sums, weights, b);
    }
}

impl Float for f32 {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }

    #[inline(always)]
    fn as_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn round_small(self) -> u32 {
        const ROUND: f32 = 8_388_608.0; // 2^23: adding it rounds to an integer, which is in the low bits
        (self + ROUND).to_bits() & 0x7f_ffff
    }

    /// Range reduction `x = n ln 2 + r`, a polynomial in `r`, and `2^n` added to
    /// the exponent bits. No fused operations and no branches, so that every
    /// instruction set gives the same bits.
    #[inline(always)]
    fn fast_exp(self) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
        const LN2_HIGH: f32 = 0.693_359_4; // 9 bits: n * LN2_HIGH is exact
        const LN2_LOW: f32 = -2.121_944_4e-4;
        const MIN: f32 = -87.0;
        const MAX: f32 = 88.722_83; // the largest float whose exponential is finite

        let x = if self > MAX { MAX } else { self };
        let x = if x < MIN { MIN } else { x };
        let shifted = x * core::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN2_HIGH) - n * LN2_LOW;
        // Minimax polynomial of (e^r - 1 - r) / r^2 on [-ln2/2, ln2/2] (the Cephes library's).
        let p = 1.987_569_1e-4_f32;
        let p = p * r + 1.398_2e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 5.000_000_3e-1;
        let mantissa = p * (r * r) + r + 1.0;
        let y = Self::from_bits(
            mantissa
                .to_bits()
                .wrapping_add(shifted.to_bits().wrapping_shl(23)),
        );
        let y = if self < MIN { 0.0 } else { y };
        let y = if self > MAX { Self::INFINITY } else { y };
        if self.is_nan() { self } else { y }
    }

    /// A polynomial near zero, `1 - 2 / (e^(2 |x|) + 1)` elsewhere, and the sign of `x`. Both are computed and one is
    /// chosen, without a branch.
    #[inline(always)]
    fn fast_tanh(self) -> Self {
        const NEAR: f32 = 0.625; // below it the difference from 1 would lose digits
        let x = self.abs();
        // Minimax polynomial of (tanh x - x) / x^3 in x^2 on [0, NEAR]: off by 4.4e-9 of the tangent.
        let square = x * x;
        let p = -5.704_987e-3_f32;
        let p = p * square + 2.063_908_8e-2;
        let p = p * square - 5.373_971_5e-2;
        let p = p * square + 1.333_144_2e-1;
        let p = p * square - 3.333_328e-1;
        let near = p * square * x + x;
        let far = 1.0 - 2.0 / ((x + x).fast_exp() + 1.0);
        let y = if x < NEAR { near } else { far };
        y.copysign(self)
    }

    #[inline(always)]
    fn dots_fused<const A: usize, const B: usize>(
        a: [&[Self]; A],
        b: [&[Self]; B],
    ) -> [[Self; B]; A] {
        fused::dots_f32(a, b)
    }

    #[inline(always)]
    fn add_weighted_fused<const A: usize, const B: usize>(
        sums: &mut [Self],
        weights: [[Self; B]; A],
        b: [&[Self]; B],
    ) {
        fused::add_weighted_f32(sums, weights, b);
    }
}

impl Float for f64 {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn as_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn round_small(self) -> u32 {
        const ROUND: f64 = 4_503_599_627_370_496.0; // 2^52
        (self + ROUND).to_bits() as u32
    }

    #[inline(always)]
    fn fast_exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn fast_tanh(self) -> Self {
        self.tanh()
    }
}
