//! Rounding of positions by integer arithmetic: so many binary digits are kept, and a tie goes to the even number.

use ndarray::{Array1, ArrayRef1};

/// A binary number format, as far as it matters for positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// IEEE 754 half precision: 11 digits, at most 65 504.
    F16,
    /// The upper half of an `f32`: 8 digits.
    Bf16,
    /// IEEE 754 single precision: 24 digits.
    F32,
}

impl Format {
    /// Binary digits of a number, the leading 1 included.
    #[must_use]
    pub const fn digits(self) -> u32 {
        match self {
            Self::F16 => 11,
            Self::Bf16 => 8,
            Self::F32 => 24,
        }
    }

    /// The largest number below infinity, where a position can reach it.
    #[must_use]
    pub const fn largest(self) -> Option<u128> {
        match self {
            Self::F16 => Some(65_504),
            Self::Bf16 | Self::F32 => None, // above 2^127
        }
    }
}

/// The nearest number of so many binary digits; of two that are equally near, the one whose last digit is 0.
///
/// Source: IEEE 754-2019, section 4.3.1, `roundTiesToEven`.
#[must_use]
// ANCHOR: round
pub fn round(position: u128, digits: u32) -> u128 {
    let excess = (u128::BITS - position.leading_zeros()).saturating_sub(digits);
    let unit = 1_u128 << excess;
    let (below, rest) = (position / unit, position % unit);
    let is_up = 2 * rest > unit || (2 * rest == unit && below % 2 == 1);
    (below + u128::from(is_up)) * unit
}
// ANCHOR_END: round

/// What each position becomes in the format, through `f32` as torch casts integers; infinite above the largest.
///
/// # Shapes
///
/// - `positions`: `[seq]`
/// - returns: `[seq]`
#[must_use]
pub fn positions_in(positions: &ArrayRef1<usize>, format: Format) -> Array1<f64> {
    positions.mapv(|position| {
        let single = round(position as u128, Format::F32.digits());
        let kept = round(single, format.digits());
        match format.largest() {
            Some(largest) if kept > largest => f64::INFINITY,
            _ => kept as f64, // exact: at most 24 digits
        }
    })
}
