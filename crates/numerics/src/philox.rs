//! Philox 4x32-10: random numbers as a function of a key and a counter.

/// The Philox 4x32-10 generator: a keyed bijection of 128-bit counters.
///
/// It has no state that moves: draw `i` of stream `s` is a pure function of
/// `(key, s, i)`. So a draw is the same on every device, for every batch packing
/// and for any number of threads.
///
/// Ten rounds of
///
/// ```text
/// (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))
/// (k0, k1)         <- (k0 + W0, k1 + W1)
/// ```
///
/// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
///
/// # Example
///
/// ```
/// use llm_numerics::philox::Philox4x32;
///
/// let random = Philox4x32::new(42);
/// let u = random.uniform_f64(0, 7);
/// assert!((0.0..1.0).contains(&u));
/// assert_eq!(u, Philox4x32::new(42).uniform_f64(0, 7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox4x32 {
    key: [u32; 2],
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

impl Philox4x32 {
    /// The generator with this key (the "seed").
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self {
            key: [key as u32, (key >> 32) as u32],
        }
    }

    /// The four words that belong to a counter.
    #[must_use]
    pub const fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = counter;
        let [mut k0, mut k1] = self.key;
        let mut round = 0;
        while round < ROUNDS {
            let p0 = c0 as u64 * MULTIPLIERS[0] as u64;
            let p1 = c2 as u64 * MULTIPLIERS[1] as u64;
            (c0, c1, c2, c3) = (
                (p1 >> 32) as u32 ^ c1 ^ k0,
                p1 as u32,
                (p0 >> 32) as u32 ^ c3 ^ k1,
                p0 as u32,
            );
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
            round += 1;
        }
        [c0, c1, c2, c3]
    }

    /// Word `index` of a stream: word `index % 4` of the block whose counter is
    /// `(index / 4, stream)`, low words first.
    #[must_use]
    pub const fn u32_at(&self, stream: u64, index: u64) -> u32 {
        self.block_at(stream, index / 4)[(index % 4) as usize]
    }

    /// Words `4 block` to `4 block + 3` of a stream: four calls of [`u32_at`](Self::u32_at) in one.
    #[must_use]
    pub const fn block_at(&self, stream: u64, block: u64) -> [u32; 4] {
        self.block([
            block as u32,
            (block >> 32) as u32,
            stream as u32,
            (stream >> 32) as u32,
        ])
    }

    /// Uniform in `[0, 1)` with 24 bits: the word's upper bits times 2^-24.
    #[must_use]
    pub fn uniform_f32(&self, stream: u64, index: u64) -> f32 {
        (self.u32_at(stream, index) >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in `[0, 1)` with 53 bits, from words `2 index` and `2 index + 1`.
    #[must_use]
    pub fn uniform_f64(&self, stream: u64, index: u64) -> f64 {
        let index = index.wrapping_mul(2);
        let low = u64::from(self.u32_at(stream, index));
        let high = u64::from(self.u32_at(stream, index.wrapping_add(1)));
        ((high << 32 | low) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in `0..n`, or 0 if `n` is 0: the upper half of `word * n`.
    ///
    /// # Precision
    ///
    /// The probabilities of two results differ by less than `n / 2^32`, relatively.
    #[must_use]
    pub const fn below(&self, stream: u64, index: u64, n: u32) -> u32 {
        ((self.u32_at(stream, index) as u64 * n as u64) >> 32) as u32
    }

    /// Standard normal by the Box-Muller transform of two uniform draws, `2 index`
    /// and `2 index + 1` of [`uniform_f64`](Self::uniform_f64).
    #[must_use]
    pub fn normal_f64(&self, stream: u64, index: u64) -> f64 {
        let index = index.wrapping_mul(2);
        let radius = 1.0 - self.uniform_f64(stream, index); // in (0, 1]
        let turn = self.uniform_f64(stream, index.wrapping_add(1));
        (-2.0 * radius.ln()).sqrt() * (core::f64::consts::TAU * turn).cos()
    }
}
