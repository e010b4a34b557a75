//! Numbers in codes of four bits: looked up, and multiplied as they are looked up.
//!
//! Processors of the x86 kind look up bytes: sixteen of a table for each register half, by an instruction that the compiler does not make of a
//! plain loop. A number of four bytes is four such look-ups, whose results are then joined.

#[cfg(all(feature = "fast", target_arch = "x86_64"))]
mod v3;

/// Codes that [`Sixteen::dots`] takes at a time, two in each of 32 bytes.
pub const CHUNK: usize = 64;

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
}

impl Sixteen {
    /// The number of each code.
    #[must_use]
    pub fn new(values: [f32; 16]) -> Self {
        Self {
            values,
            bytes: core::array::from_fn(|k| values.map(|value| value.to_le_bytes()[k])),
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

    /// The inner products of `R` rows with one row of codes, which have a scale for each [`CHUNK`].
    ///
    /// The rows are in the order of [`arrange`]. Each scale multiplies the sum of its chunk. Elements beyond the last chunk that all have are
    /// ignored. Call it inside [`vectorize`](super::vectorize).
    ///
    /// # Precision
    ///
    /// Of the 64 products of a chunk, eight are added in three steps, to each of eight sums; these are multiplied by the scale, added to those of
    /// the chunks before, and in the end to each other in three steps. The same bits on every processor.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_numerics::simd::{Sixteen, arrange};
    ///
    /// let table = Sixteen::new(core::array::from_fn(|code| code as f32));
    /// let mut x = [0.0; 64];
    /// (x[0], x[1], x[63]) = (1.0, 10.0, 100.0);
    /// let mut arranged = [0.0; 64];
    /// arrange(&x, &mut arranged);
    /// let packed = [0x12; 32]; // 1, 2, 1, 2, ..
    /// assert_eq!(table.dots(&packed, &[0.5], [&arranged]), [0.5 * (1.0 + 20.0 + 200.0)]);
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn dots<const R: usize>(&self, packed: &[u8], scales: &[f32], x: [&[f32]; R]) -> [f32; R] {
        let (packed, _) = packed.as_chunks::<{ CHUNK / 2 }>();
        let mut rows = [&[][..]; R];
        let mut n = packed.len().min(scales.len());
        for i in 0..R {
            (rows[i], _) = x[i].as_chunks::<CHUNK>();
            n = n.min(rows[i].len());
        }
        let (packed, scales) = (&packed[..n], &scales[..n]);
        for row in &mut rows {
            *row = &row[..n];
        }
        let mut totals = [[0.0_f32; 8]; R];
        #[cfg(all(feature = "fast", target_arch = "x86_64"))]
        if let Some(v3) = pulp::x86::V3::try_new() {
            v3::dots(v3, &self.bytes, packed, scales, rows, &mut totals);
            return totals.map(tree);
        }
        for (chunk, (packed, &scale)) in packed.iter().zip(scales).enumerate() {
            let numbers = self.chunk(packed);
            for (total, row) in totals.iter_mut().zip(rows) {
                add_chunk(total, &numbers, &row[chunk], scale);
            }
        }
        totals.map(tree)
    }

    /// The numbers of a chunk, arranged.
    #[inline(always)]
    fn chunk(&self, packed: &[u8; CHUNK / 2]) -> [f32; CHUNK] {
        core::array::from_fn(|place| {
            let element = ORDER[place];
            let byte = packed[element / 2];
            let code = if element.is_multiple_of(2) {
                byte >> 4
            } else {
                byte & 15
            };
            self.values[usize::from(code)]
        })
    }
}

/// Brings each whole chunk of `x` into the order in which [`Sixteen::dots`] looks numbers up; the rest is left out.
#[inline]
pub fn arrange(x: &[f32], to: &mut [f32]) {
    let ((from, _), (to, _)) = (x.as_chunks::<CHUNK>(), to.as_chunks_mut::<CHUNK>());
    for (from, to) in from.iter().zip(to) {
        *to = core::array::from_fn(|place| from[ORDER[place]]);
    }
}

/// Which element of a chunk stands in which place.
///
/// Joining bytes goes on within each half of a register, which has 16 bytes: four of them make four numbers of each half. High nibbles first.
const ORDER: [usize; CHUNK] = {
    let mut order = [0; CHUNK];
    let mut place = 0;
    while place < CHUNK {
        let (nibble, quarter, lane) = (place / 32, place / 8 % 4, place % 8);
        let byte = 4 * quarter + lane % 4 + 16 * (lane / 4);
        order[place] = 2 * byte + nibble;
        place += 1;
    }
    order
};

/// Adds a chunk's products to eight sums.
#[inline(always)]
fn add_chunk(totals: &mut [f32; 8], numbers: &[f32; CHUNK], x: &[f32; CHUNK], scale: f32) {
    let product = |group: usize, lane: usize| numbers[8 * group + lane] * x[8 * group + lane];
    for (lane, total) in totals.iter_mut().enumerate() {
        let half = |first: usize| {
            (product(first, lane) + product(first + 1, lane))
                + (product(first + 2, lane) + product(first + 3, lane))
        };
        *total += (half(0) + half(4)) * scale;
    }
}

#[inline(always)]
fn tree(lanes: [f32; 8]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
