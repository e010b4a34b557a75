//! Inner products in whole numbers.
//!
//! A number of four bytes takes twelve look-ups and joins for each eight codes, and they hold up the arithmetic; as two digits of 15 bits it takes
//! eight, and one instruction multiplies sixteen digits and adds them in pairs.

use super::Sixteen;

/// Codes that [`Sixteen::dots`] takes at a time, two in each of 32 bytes.
pub const CHUNK: usize = 64;

/// Bits of the lower digit. Both are signed: from -2^13 to 2^13.
pub(super) const DIGIT: u32 = 14;
/// Half a unit of the upper digits' products.
pub(super) const HALF: i32 = 1 << (DIGIT - 1);
/// Bits behind the point of a number whose magnitude is at most 1.
const POINT: i32 = 27;
/// Chunks whose largest magnitude is beyond a power of two of this size are refused.
pub(super) const RANGE: i32 = 60;

/// [`CHUNK`] numbers as whole ones, in the order in which [`Sixteen::dots`] looks numbers up.
///
/// In whole registers: one that begins in the middle of a line of the cache takes two reads.
#[derive(Clone, Debug, PartialEq)]
#[repr(C, align(32))]
pub struct WholeChunk {
    /// Upper and lower digits of sixteen numbers each.
    pub(super) digits: [[[i16; 16]; 2]; 4],
    /// What the sum of products is worth, with half of the powers of two that are not in the sum; eight times the same.
    pub(super) unit: [f32; 8],
}

impl Default for WholeChunk {
    /// Zeros.
    fn default() -> Self {
        Self {
            digits: [[[0; 16]; 2]; 4],
            unit: [1.0; 8],
        }
    }
}

/// Rounds the whole chunks of `x` to multiples of `2^-27` times a power of two that is at least the largest magnitude of the chunk, and less than
/// twice as large; the rest is left out.
///
/// False, if a chunk has a number that is not finite, or a largest magnitude other than 0 that is not from `2^-60` to `2^60`.
#[must_use]
pub fn to_whole(x: &[f32], to: &mut [WholeChunk]) -> bool {
    let (chunks, _) = x.as_chunks::<CHUNK>();
    chunks.iter().zip(to).all(|(from, to)| {
        let Some(largest) = largest(from) else {
            return false;
        };
        let exponent = exponent(largest);
        let factor = power_of_two(POINT - exponent);
        for (group, digits) in to.digits.iter_mut().enumerate() {
            for place in 0..16 {
                let [high, low] = split((from[element(group, place)] * factor).round_ties_even());
                (digits[0][place], digits[1][place]) = (high, low);
            }
        }
        to.unit = [power_of_two(exponent - WORTH); 8];
        true
    })
}

/// The largest magnitude of a chunk; `None` if a number is not finite, or that magnitude is out of range.
pub(super) fn largest(chunk: &[f32; CHUNK]) -> Option<f32> {
    let largest = chunk.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let is_finite = chunk.iter().all(|x| x.is_finite());
    (is_finite && exponent(largest).abs() <= RANGE).then_some(largest)
}

/// Powers of two that a chunk's unit leaves to the end of the sum.
const WORTH: i32 = POINT - DIGIT as i32;

/// The smallest power of two that is at least that magnitude, as an exponent; that of 0 is 0.
pub(super) fn exponent(magnitude: f32) -> i32 {
    if magnitude == 0.0 {
        return 0;
    }
    let bits = magnitude.to_bits();
    let is_between = bits & 0x007f_ffff != 0;
    (bits >> 23) as i32 - 127 + i32::from(is_between)
}

/// For exponents of normal numbers.
pub(super) fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The digits of a whole number whose magnitude is at most `2^27`.
fn split(number: f32) -> [i16; 2] {
    let number = number as i32;
    let high = (number + HALF) >> DIGIT;
    [high as i16, (number - (high << DIGIT)) as i16]
}

/// Which element of a chunk stands in which place: joining bytes goes on within each half of a register, which has 16 bytes; high nibbles first.
pub(super) const fn element(group: usize, place: usize) -> usize {
    let byte = 8 * (group % 2) + place % 8 + 16 * (place / 8);
    2 * byte + group / 2
}

/// As many chunks as all have, but bytes that follow stay.
#[inline(always)]
pub(super) fn shortest<'a, T, const R: usize>(
    packed: &'a [u8],
    scales: &'a [f32],
    x: [&'a [T]; R],
) -> (&'a [[u8; CHUNK / 2]], &'a [f32], [&'a [T]; R]) {
    let (packed, _) = packed.as_chunks();
    let n = packed.len().min(scales.len());
    let n = x.iter().fold(n, |n, row| n.min(row.len()));
    (packed, &scales[..n], x.map(|row| &row[..n]))
}

/// The sum of eight lanes.
#[inline(always)]
pub(super) fn fold([a, b, c, d, e, f, g, h]: [f32; 8]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The numbers of the codes as digits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Digits {
    /// Upper and lower digit of each number.
    values: [[i16; 2]; 16],
    /// The bytes of the lower digits, then of the upper ones.
    #[cfg_attr(
        not(all(feature = "fast", target_arch = "x86_64")),
        allow(dead_code, reason = "only for the instruction")
    )]
    bytes: [[u8; 16]; 4],
    /// What is left of powers of two.
    unit: f32,
}

impl Digits {
    /// Numbers that are not finite or beyond `2^60` become zeros.
    pub(super) fn new(values: [f32; 16]) -> Self {
        let limit = power_of_two(RANGE);
        let values = values.map(|x| if x.abs() <= limit { x } else { 0.0 });
        let largest = values.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let exponent = exponent(largest).max(-RANGE);
        let digits = values.map(|x| split((x * power_of_two(POINT - exponent)).round_ties_even()));
        let byte = |k: usize| digits.map(|digits| digits[1 - k / 2].to_le_bytes()[k % 2]);
        Self {
            values: digits,
            bytes: core::array::from_fn(byte),
            unit: power_of_two(exponent - WORTH),
        }
    }
}

impl Sixteen {
    /// The inner products of `R` rows with one row of codes, which have a scale for each [`CHUNK`].
    ///
    /// Chunks beyond those that all have are ignored; bytes that follow are asked for, so that they come from memory in time. Call it inside [`vectorize`](crate::simd::vectorize).
    ///
    /// # Precision
    ///
    /// The numbers of the codes are rounded to multiples of `2^-27` times a power of two that is at least the largest of them, as those of a chunk
    /// are; of NF4 each is one already. The products of a chunk are added exactly but for the product of the lower digits, which is left out, and
    /// rounded to multiples of `2^-26` of the two powers of two, in eight sums. Each is rounded to `f32`, multiplied by the scale, and added to
    /// those of the chunks before; in the end they are added to each other. The same bits on every processor. Numbers of codes that are not finite,
    /// or beyond `2^60`, count as zeros.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_numerics::simd::{Sixteen, WholeChunk, to_whole};
    ///
    /// let table = Sixteen::new(core::array::from_fn(|code| code as f32));
    /// let mut x = [0.0; 64];
    /// (x[0], x[1], x[63]) = (1.0, 10.0, 100.0);
    /// let mut whole = [WholeChunk::default()];
    /// assert!(to_whole(&x, &mut whole));
    /// let packed = [0x12; 32]; // 1, 2, 1, 2, ..
    /// assert_eq!(table.dots(&packed, &[0.5], [&whole]), [0.5 * (1.0 + 20.0 + 200.0)]);
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn dots<const R: usize>(
        &self,
        packed: &[u8],
        scales: &[f32],
        x: [&[WholeChunk]; R],
    ) -> [f32; R] {
        let (packed, scales, x) = shortest(packed, scales, x);
        let mut totals = [[0.0_f32; 8]; R];
        self.add(packed, scales, x, &mut totals);
        totals.map(|eight| fold(eight) * self.digits.unit)
    }

    /// Slices of the same length, but for `packed`, which may be longer.
    #[inline(always)]
    fn add<const R: usize>(
        &self,
        packed: &[[u8; CHUNK / 2]],
        scales: &[f32],
        x: [&[WholeChunk]; R],
        totals: &mut [[f32; 8]; R],
    ) {
        #[cfg(all(feature = "fast", target_arch = "x86_64"))]
        if let Some(v3) = pulp::x86::V3::try_new() {
            super::v3::dots(v3, &self.digits.bytes, packed, scales, x, totals);
            return;
        }
        for (chunk, (packed, &scale)) in packed.iter().zip(scales).enumerate() {
            for (total, x) in totals.iter_mut().zip(x) {
                let x = &x[chunk];
                let sums = self.chunk(packed, x);
                for (total, sum) in total.iter_mut().zip(sums) {
                    *total += sum as f32 * (scale * x.unit[0]);
                }
            }
        }
    }

    /// Eight sums of the products of a chunk, in units of the upper digits' products.
    fn chunk(&self, packed: &[u8; CHUNK / 2], x: &WholeChunk) -> [i32; 8] {
        let (mut main, mut cross) = ([0; 8], [HALF; 8]);
        for (group, [x_high, x_low]) in x.digits.iter().enumerate() {
            for place in 0..16 {
                let code = super::code(packed, element(group, place));
                let [high, low] = self.digits.values[code].map(i32::from);
                let (x_high, x_low) = (i32::from(x_high[place]), i32::from(x_low[place]));
                main[place / 2] += high * x_high;
                cross[place / 2] += high * x_low + low * x_high;
            }
        }
        core::array::from_fn(|lane| main[lane] + (cross[lane] >> DIGIT))
    }
}
