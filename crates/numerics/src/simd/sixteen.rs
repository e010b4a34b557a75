//! Numbers in codes of four bits: looked up, and multiplied as they are looked up.
//!
//! Processors of the x86 kind look up bytes: sixteen of a table for each register half, by an instruction that the compiler does not make of a
//! plain loop. A number of four bytes is four such look-ups, whose results are then joined.

mod short;
#[cfg(all(feature = "fast", target_arch = "x86_64"))]
mod v3;
mod whole;

use short::Short;
pub use short::{ShortChunk, to_short};
use whole::Digits;
pub use whole::{CHUNK, WholeChunk, to_whole};

/// The sixteen numbers that codes of four bits stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Sixteen {
    values: [f32; 16],
    /// Byte `k` of each number.
    #[cfg_attr(
        not(all(feature = "fast", target_arch = "x86_64")),
        allow(dead_code, reason = "only for the instruction")
    )]
    bytes: [[u8; 16]; 4],
    digits: Digits,
    short: Short,
}

impl Sixteen {
    /// The number of each code.
    #[must_use]
    pub fn new(values: [f32; 16]) -> Self {
        Self {
            values,
            bytes: core::array::from_fn(|k| values.map(|value| value.to_le_bytes()[k])),
            digits: Digits::new(values),
            short: Short::new(values),
        }
    }

    /// The number of each code.
    #[must_use]
    pub fn values(&self) -> &[f32; 16] {
        &self.values
    }

    /// The numbers of 32 codes, two in each byte with the earlier in the high nibble, times `scale`.
    ///
    /// Call it inside [`vectorize`](super::vectorize).
    ///
    /// # Example
    ///
    /// ```
    /// use llm_numerics::simd::Sixteen;
    ///
    /// let table = Sixteen::new(core::array::from_fn(|code| code as f32));
    /// let mut out = [0.0; 32];
    /// table.decode(&[0x3f; 16], 2.0, &mut out);
    /// assert_eq!(out[..4], [6.0, 30.0, 6.0, 30.0]);
    /// ```
    #[inline(always)]
    pub fn decode(&self, packed: &[u8; 16], scale: f32, out: &mut [f32; 32]) {
        #[cfg(all(feature = "fast", target_arch = "x86_64"))]
        if let Some(v3) = pulp::x86::V3::try_new() {
            v3::decode(v3, &self.bytes, packed, scale, out);
            return;
        }
        let (pairs, _) = out.as_chunks_mut::<2>();
        for (pair, &byte) in pairs.iter_mut().zip(packed) {
            *pair = [byte >> 4, byte & 15].map(|code| self.values[usize::from(code)] * scale);
        }
    }
}

/// A code of those of a chunk, two in each byte with the earlier in the high nibble.
fn code(packed: &[u8; CHUNK / 2], element: usize) -> usize {
    let byte = packed[element / 2];
    usize::from(if element.is_multiple_of(2) {
        byte >> 4
    } else {
        byte & 15
    })
}
