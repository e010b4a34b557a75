//! The abnormal float with four bits: values with the least mean error of normal numbers that were scaled in blocks.

use crate::QuantError;
use crate::four_bit::check_block;

/// Intervals of the table of the distribution on `[0, 1]`.
const STEPS: usize = 2048;
/// Intervals of the largest magnitude over which is averaged, and where they end: beyond 8 there is nothing left.
const MAXIMA: usize = 400;
const LAST: f64 = 8.0;

/// Which numbers are taken for 0 where the values are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ZeroCell {
    /// None but 0 itself: the values of the paper, and of bitsandbytes. They are not the best ones, because numbers near 0 are taken for it.
    Empty,
    /// Those that are nearest to it, as when numbers are quantized.
    Nearest,
}

/// The sixteen values of AF4 for a block size, ascending.
///
/// A normal number, divided by the largest magnitude of its block of `B`, has a distribution `F` that depends on `B`: with probability `1/B` it is ±1, and otherwise
/// normal within that magnitude. AF4 has the values with the least mean of `|x - value|` under `F`, among those with -1, 0 and 1, seven below 0 and eight above: each
/// other value is the median of its cell.
///
/// ```text
/// F(v_k) = (F(m_k-1) + F(m_k)) / 2,   m_k = (v_k + v_k+1) / 2,   beside 0 instead: m = 0 (empty) or v/2 (nearest)
/// ```
///
/// # Errors
///
/// [`QuantError::Block`] if `block` is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
///
/// # Precision
///
/// About 1e-7 in each value.
///
/// # Example
///
/// ```
/// use llm_quant::af4::{self, ZeroCell};
///
/// let code = af4::code(64, ZeroCell::Empty)?;
/// assert_eq!((code[0], code[7], code[15]), (-1.0, 0.0, 1.0));
/// assert!((code[14] - 0.724_248_63).abs() < 1e-6);
/// // In larger blocks most numbers are smaller beside the largest one.
/// assert!(af4::code(4096, ZeroCell::Empty)?[8] < code[8]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Yoshida 2023, arXiv:2306.06965v2; bitsandbytes 0.50.2, `get_4bit_type("af4")`, for blocks of 64.
pub fn code(block: usize, zero: ZeroCell) -> Result<[f32; 16], QuantError> {
    check_block(block)?;
    let table = Table::new(block);
    let (below, above) = (table.side(7, zero), table.side(8, zero));
    Ok(core::array::from_fn(|i| match i {
        0..7 => -below[6 - i] as f32,
        7 => 0.0,
        _ => above[i - 8] as f32,
    }))
}

/// `F - 1/2` on `[0, 1]`, up to a factor and without what is at 1; it has the same values with a sign below 0.
struct Table(Vec<f64>);

impl Table {
    fn new(block: usize) -> Self {
        let n = block as f64;
        let mut sums = vec![0.0; STEPS + 1];
        let mut within = vec![0.0; STEPS + 1];
        for k in 1..=MAXIMA {
            let m = LAST * k as f64 / MAXIMA as f64;
            // The area below the density from 0 to x, by the rule of Simpson.
            let density = |half_steps: usize| {
                let x = half_steps as f64 / (2 * STEPS) as f64;
                (-0.5 * (x * m).powi(2)).exp()
            };
            let mut left = density(0);
            for i in 0..STEPS {
                let right = density(2 * i + 2);
                let area = (left + 4.0 * density(2 * i + 1) + right) / (6 * STEPS) as f64;
                within[i + 1] = within[i] + area;
                left = right;
            }
            // P(|z| < m), and from it the density of the largest magnitude of n, up to a factor.
            let inside = 2.0 * m * within[STEPS] / (2.0 * core::f64::consts::PI).sqrt();
            let weight = inside.powf(n - 1.0) * density(2 * STEPS);
            for (sum, part) in sums.iter_mut().zip(&within) {
                *sum += weight * part / (2.0 * within[STEPS]);
            }
        }
        // A factor, as for the one of n numbers that is the largest, would change none of the values.
        Self(sums)
    }

    fn at(&self, x: f64) -> f64 {
        let place = (x * STEPS as f64).clamp(0.0, STEPS as f64);
        let i = (place as usize).min(STEPS - 1);
        self.0[i] + (self.0[i + 1] - self.0[i]) * (place - i as f64)
    }

    /// The number with that probability; above 1 where there is none.
    fn inverse(&self, p: f64) -> f64 {
        let i = self.0.partition_point(|&q| q < p);
        if i > STEPS {
            return 2.0;
        }
        let Some(before) = i.checked_sub(1) else {
            return 0.0;
        };
        let step = (p - self.0[before]) / (self.0[i] - self.0[before]);
        (before as f64 + step) / STEPS as f64
    }

    /// `n` values above 0, the last of which is 1: the first one is found by halving, the others follow from it.
    fn side(&self, n: usize, zero: ZeroCell) -> Vec<f64> {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let first = (low + high) / 2.0;
            // Larger first values make all others larger.
            if self
                .follow(first, n, zero)
                .last()
                .is_some_and(|&last| last < 1.0)
            {
                low = first;
            } else {
                high = first;
            }
        }
        let mut values = self.follow((low + high) / 2.0, n, zero);
        values[n - 1] = 1.0;
        values
    }

    /// From the first value on, each so that the one before is the median of its cell.
    fn follow(&self, first: f64, n: usize, zero: ZeroCell) -> Vec<f64> {
        let mut values = vec![first];
        let mut bound = match zero {
            ZeroCell::Empty => 0.0,
            ZeroCell::Nearest => first / 2.0,
        };
        while values.len() < n {
            let value = values[values.len() - 1];
            // Beyond the end there is nothing to be in the middle of.
            let next = if value < 1.0 {
                bound = self.inverse(2.0 * self.at(value) - self.at(bound));
                2.0 * bound - value
            } else {
                2.0
            };
            values.push(next);
        }
        values
    }
}
