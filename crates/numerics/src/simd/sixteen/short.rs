//! Inner products in whole numbers of one digit: half the work of [`Sixteen::dots`], and a thousandth of the precision.

use super::Sixteen;
use super::whole::{CHUNK, RANGE, element, exponent, fold, largest, power_of_two, shortest};

/// The largest whole number. With codes up to `2^14`, a sum of eight products fits in 32 bits.
const MOST: f32 = 16383.0;
/// Bits behind the point of a code's number whose magnitude is at most 1.
const POINT: i32 = 14;

/// [`CHUNK`] numbers as whole ones of 15 bits, in the order in which [`Sixteen::short_dots`] looks numbers up.
#[derive(Clone, Debug, PartialEq)]
#[repr(C, align(32))]
pub struct ShortChunk {
    pub(super) numbers: [[i16; 16]; 4],
    /// What one is worth, eight times.
    pub(super) unit: [f32; 8],
}

impl Default for ShortChunk {
    /// Zeros.
    fn default() -> Self {
        Self {
            numbers: [[0; 16]; 4],
            unit: [1.0; 8],
        }
    }
}

/// Rounds the whole chunks of `x` to multiples of a 16383rd of the largest magnitude of the chunk; the rest is left out.
///
/// False, if a chunk has a number that is not finite, or a largest magnitude other than 0 that is not from `2^-60` to `2^60`.
#[must_use]
pub fn to_short(x: &[f32], to: &mut [ShortChunk]) -> bool {
    let (chunks, _) = x.as_chunks::<CHUNK>();
    chunks.iter().zip(to).all(|(from, to)| {
        let Some(largest) = largest(from) else {
            return false;
        };
        if largest == 0.0 {
            *to = ShortChunk::default();
            return true;
        }
        let factor = MOST / largest;
        for (group, numbers) in to.numbers.iter_mut().enumerate() {
            for (place, number) in numbers.iter_mut().enumerate() {
                *number = (from[element(group, place)] * factor).round_ties_even() as i16;
            }
        }
        to.unit = [largest / MOST; 8];
        true
    })
}

/// The numbers of the codes as whole ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Short {
    values: [i16; 16],
    /// Their lower bytes, then their upper ones.
    #[cfg_attr(
        not(all(feature = "fast", target_arch = "x86_64")),
        allow(dead_code, reason = "only for the instruction")
    )]
    bytes: [[u8; 16]; 2],
    /// What one is worth.
    unit: f32,
}

impl Short {
    /// Numbers that are not finite or beyond `2^60` become zeros.
    pub(super) fn new(values: [f32; 16]) -> Self {
        let limit = power_of_two(RANGE);
        let values = values.map(|x| if x.abs() <= limit { x } else { 0.0 });
        let largest = values.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let exponent = exponent(largest).max(-RANGE);
        let values = values.map(|x| (x * power_of_two(POINT - exponent)).round_ties_even() as i16);
        Self {
            values,
            bytes: core::array::from_fn(|k| values.map(|value| value.to_le_bytes()[k])),
            unit: power_of_two(exponent - POINT),
        }
    }
}

impl Sixteen {
    /// [`dots`](Self::dots) in about half the time, with numbers of 15 bits.
    ///
    /// Chunks beyond those that all have are ignored; bytes that follow are asked for. Call it inside [`vectorize`](crate::simd::vectorize).
    ///
    /// # Precision
    ///
    /// The numbers of the codes are rounded to multiples of `2^-14` times a power of two that is at least the largest of them. The products of a
    /// chunk are added exactly, in eight sums. Each is rounded to `f32`, multiplied by the scale and the unit of the chunk, and added to those of
    /// the chunks before; in the end they are added to each other. The same bits on every processor. Numbers of codes that are not finite, or beyond
    /// `2^60`, count as zeros.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_numerics::simd::{ShortChunk, Sixteen, to_short};
    ///
    /// let table = Sixteen::new(core::array::from_fn(|code| code as f32));
    /// let mut x = [0.0; 64];
    /// (x[0], x[1], x[63]) = (1.0, 10.0, 100.0);
    /// let mut short = [ShortChunk::default()];
    /// assert!(to_short(&x, &mut short));
    /// let packed = [0x12; 32]; // 1, 2, 1, 2, ..
    /// let [product] = table.short_dots(&packed, &[0.5], [&short]);
    /// assert!((product - 0.5 * (1.0 + 20.0 + 200.0)).abs() < 0.01);
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn short_dots<const R: usize>(
        &self,
        packed: &[u8],
        scales: &[f32],
        x: [&[ShortChunk]; R],
    ) -> [f32; R] {
        let (packed, scales, x) = shortest(packed, scales, x);
        let mut totals = [[0.0_f32; 8]; R];
        self.add_short(packed, scales, x, &mut totals);
        totals.map(|eight| fold(eight) * self.short.unit)
    }

    /// Slices of the same length, but for `packed`, which may be longer.
    #[inline(always)]
    fn add_short<const R: usize>(
        &self,
        packed: &[[u8; CHUNK / 2]],
        scales: &[f32],
        x: [&[ShortChunk]; R],
        totals: &mut [[f32; 8]; R],
    ) {
        #[cfg(all(feature = "fast", target_arch = "x86_64"))]
        if let Some(v3) = pulp::x86::V3::try_new() {
            super::v3::short_dots(v3, &self.short.bytes, packed, scales, x, totals);
            return;
        }
        for (chunk, (packed, &scale)) in packed.iter().zip(scales).enumerate() {
            for (total, x) in totals.iter_mut().zip(x) {
                let x = &x[chunk];
                let mut sums = [0; 8];
                for (group, numbers) in x.numbers.iter().enumerate() {
                    for (place, &number) in numbers.iter().enumerate() {
                        let value = self.short.values[super::code(packed, element(group, place))];
                        sums[place / 2] += i32::from(value) * i32::from(number);
                    }
                }
                for (total, sum) in total.iter_mut().zip(sums) {
                    *total += sum as f32 * (scale * x.unit[0]);
                }
            }
        }
    }
}
