//! Products of a few rows with a few others: each loaded element serves several of them.
//!
//! With one query at a time attention waits for the arithmetic, not for the memory that it reads.

use crate::Float;

/// Running sums of an inner product: one register of eight lanes.
const LANES: usize = 8;

/// The inner products of `A` rows with `B` rows: `out[i][j] = <a_i, b_j>`.
///
/// Each product is summed in one order, whatever `A` and `B` are: eight running sums, then a tree
/// over them. Elements beyond the length of the shortest row are ignored. Call it inside
/// [`vectorize`](super::vectorize).
///
/// # Example
///
/// ```
/// use llm_numerics::simd;
///
/// let (a, b) = ([[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0]);
/// let products = simd::dots([&a[0], &a[1]], [&b]);
/// assert_eq!(products, [[17.0], [39.0]]);
/// ```
#[inline(always)]
#[must_use]
pub fn dots<F: Float, const A: usize, const B: usize>(a: [&[F]; A], b: [&[F]; B]) -> [[F; B]; A] {
    let n = a.iter().chain(&b).map(|row| row.len()).min().unwrap_or(0);
    let a = a.map(|row| row[..n].as_chunks::<LANES>());
    let b = b.map(|row| row[..n].as_chunks::<LANES>());
    let mut lanes = [[[F::zero(); LANES]; B]; A];
    for chunk in 0..n / LANES {
        let b: [[F; LANES]; B] = std::array::from_fn(|j| b[j].0[chunk]);
        for (lanes, a) in lanes.iter_mut().zip(&a) {
            let a = a.0[chunk];
            for (lanes, b) in lanes.iter_mut().zip(&b) {
                for l in 0..LANES {
                    lanes[l] += a[l] * b[l];
                }
            }
        }
    }
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let mut lanes = lanes[i][j];
            for (lane, (&a, &b)) in lanes.iter_mut().zip(a[i].1.iter().zip(b[j].1)) {
                *lane += a * b;
            }
            let mut width = LANES / 2;
            while width > 0 {
                for l in 0..width {
                    let other = lanes[l + width];
                    lanes[l] += other;
                }
                width /= 2;
            }
            lanes[0]
        })
    })
}

/// Adds weighted sums of `B` rows to `A` rows: `sums_i += sum_j weights[i][j] b_j`, one `j` after
/// the other.
///
/// Elements beyond the length of the shortest row are ignored. Call it inside
/// [`vectorize`](super::vectorize).
///
/// # Example
///
/// ```
/// use llm_numerics::simd;
///
/// let mut sum = [1.0, 0.0];
/// simd::add_weighted([&mut sum], [[2.0, 10.0]], [&[1.0, 2.0], &[3.0, 4.0]]);
/// assert_eq!(sum, [33.0, 44.0]);
/// ```
#[inline(always)]
pub fn add_weighted<F: Float, const A: usize, const B: usize>(
    sums: [&mut [F]; A],
    weights: [[F; B]; A],
    b: [&[F]; B],
) {
    let shortest = b.iter().map(|row| row.len()).min().unwrap_or(0);
    let n = (sums.iter().map(|row| row.len()).min()).map_or(0, |n| n.min(shortest));
    let b = b.map(|row| row[..n].as_chunks::<LANES>());
    let mut sums = sums.map(|row| row[..n].as_chunks_mut::<LANES>());
    for chunk in 0..n / LANES {
        let b: [[F; LANES]; B] = std::array::from_fn(|j| b[j].0[chunk]);
        for (sums, weights) in sums.iter_mut().zip(&weights) {
            let mut sum = sums.0[chunk];
            for (&weight, b) in weights.iter().zip(&b) {
                for l in 0..LANES {
                    sum[l] += weight * b[l];
                }
            }
            sums.0[chunk] = sum;
        }
    }
    for (sums, weights) in sums.iter_mut().zip(&weights) {
        for (&weight, b) in weights.iter().zip(&b) {
            for (sum, &b) in sums.1.iter_mut().zip(b.1) {
                *sum += weight * b;
            }
        }
    }
}
