//! Groups of numbers as small integers, with a step and a least value for each group.

use half::f16;
use ndarray::ArrayView3;

use crate::KvCacheError;
use crate::error::Largest;

/// The step and the least value of a group: `x = min + scale * code`.
///
/// The least value is rounded down and the step up, so that every number of the group is within half a
/// step of what its code gives.
/// So what a code gives may be above all numbers of the group, by a little.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Group {
    pub(crate) scale: f16,
    pub(crate) min: f16,
}

/// The largest absolute value that has a group: the largest `f16`.
pub(crate) const MOST: f32 = 65504.0;

/// The largest absolute value in `f32` pages of integers, see [`Largest::F32`].
pub(crate) const MOST_F32: f32 = 3.4e38;

impl Group {
    /// For numbers of at most 65504 in absolute value. Without any: zeros.
    pub(crate) fn of(numbers: impl Iterator<Item = f32>, bits: u32) -> Self {
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for x in numbers {
            least = least.min(x);
            most = most.max(x);
        }
        if least > most {
            return Self::default();
        }
        let min = rounded_down(least + 0.0); // one zero, whatever `min` makes of two
        let scale = (f64::from(most) - f64::from(min)) / f64::from(levels(bits));
        Self {
            scale: rounded_up(scale),
            min,
        }
    }

    /// The nearest code, halves to even.
    pub(crate) fn code(self, x: f32, bits: u32) -> u8 {
        let scale = self.scale.to_f32();
        if scale == 0.0 {
            return 0;
        }
        let code = (x - self.min.to_f32()) / scale;
        round_small(code).clamp(0.0, levels(bits)) as u8
    }

    /// Refuses what no numbers give: the largest code must come back as a number, and the step not go down.
    pub(crate) fn check(self) -> Result<(), KvCacheError> {
        let refused = |rule, got: f16| KvCacheError::FileInconsistent {
            name: "group of numbers",
            rule,
            got: got.to_bits().into(),
        };
        if !self.min.is_finite() {
            return Err(refused("with a finite least value", self.min));
        }
        if !(self.scale.is_finite() && self.scale >= f16::ZERO) {
            return Err(refused(
                "with a finite step that is not negative",
                self.scale,
            ));
        }
        Ok(())
    }

    pub(crate) fn value(self, code: u8) -> f32 {
        self.min.to_f32() + self.scale.to_f32() * f32::from(code)
    }
}

/// The nearest integer of a number of less than `2^22` in absolute value, halves to even.
///
/// A sum so large has no digits behind the point. The standard library's function is a call where the
/// processor is not known to have an instruction for it.
pub(crate) fn round_small(x: f32) -> f32 {
    const LARGE: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + LARGE) - LARGE
}

/// The largest code.
fn levels(bits: u32) -> f32 {
    ((1_u32 << bits) - 1) as f32
}

/// The next `f16` that is not above.
fn rounded_down(x: f32) -> f16 {
    let y = f16::from_f32(x);
    if y.to_f32() > x {
        neighbor(y, false)
    } else {
        y
    }
}

/// The next `f16` that is not below.
fn rounded_up(x: f64) -> f16 {
    let y = f16::from_f64(x);
    if f64::from(y) < x {
        neighbor(y, true)
    } else {
        y
    }
}

/// The next finite `f16` above or below.
fn neighbor(x: f16, is_up: bool) -> f16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff;
    if magnitude == 0 {
        return f16::from_bits(if is_up { 0x0001 } else { 0x8001 });
    }
    let is_positive = bits & 0x8000 == 0;
    f16::from_bits(if is_positive == is_up {
        bits + 1
    } else {
        bits - 1
    })
}

/// Codes of `bits` bits, the first in the lowest bits of a byte.
pub(crate) fn pack(codes: impl Iterator<Item = u8>, bits: u32, bytes: &mut [u8]) {
    bytes.fill(0);
    let per_byte = 8 / bits as usize;
    for (i, code) in codes.enumerate() {
        if let Some(byte) = bytes.get_mut(i / per_byte) {
            *byte |= code << (i % per_byte * bits as usize);
        }
    }
}

/// Code number `i` of packed ones.
pub(crate) fn unpack(bytes: &[u8], i: usize, bits: u32) -> u8 {
    let per_byte = 8 / bits as usize;
    let mask = (u32::from(u8::MAX) >> (8 - bits)) as u8;
    bytes[i / per_byte] >> (i % per_byte * bits as usize) & mask
}

/// Refuses numbers that have no code.
pub(crate) fn check(
    name: &'static str,
    x: ArrayView3<'_, f32>,
    max: Largest,
) -> Result<(), KvCacheError> {
    let limit = match max {
        Largest::F32 => MOST_F32,
        Largest::F16 => MOST,
    };
    let refused = x.indexed_iter().find(|(_, x)| !(x.abs() <= limit));
    match refused {
        None => Ok(()),
        Some(((head, token, feature), _)) => Err(KvCacheError::NotQuantizable {
            name,
            max,
            head,
            token,
            feature,
        }),
    }
}
