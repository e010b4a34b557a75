//! Products of a few rows with a few others: each loaded element serves several of them.
//!
//! With one query at a time attention waits for the arithmetic, not for the memory that it reads.
#![allow(
    clippy::needless_range_loop,
    reason = "the loops run over several arrays at once"
)]

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
    let (a_chunks, a_rest) = chunks(a, n);
    let (b_chunks, b_rest) = chunks(b, n);
    let mut lanes = [[[F::zero(); LANES]; B]; A];
    for chunk in 0..n / LANES {
        for i in 0..A {
            let a = a_chunks[i][chunk];
            for j in 0..B {
                let b = b_chunks[j][chunk];
                for l in 0..LANES {
                    lanes[i][j][l] += a[l] * b[l];
                }
            }
        }
    }
    let mut products = [[F::zero(); B]; A];
    for i in 0..A {
        for j in 0..B {
            let lanes = &mut lanes[i][j];
            for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest[i].iter().zip(b_rest[j])) {
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
            products[i][j] = lanes[0];
        }
    }
    products
}

/// The first `n` elements of each row in chunks, all of the same number, and the rest of them.
///
/// Written with loops: closures over arrays are not always compiled into their caller, which then has no vector
/// instructions.
#[inline(always)]
#[allow(clippy::type_complexity, reason = "two lists of slices")]
fn chunks<F, const N: usize>(rows: [&[F]; N], n: usize) -> ([&[[F; LANES]]; N], [&[F]; N]) {
    let (mut all, mut rests) = ([&[][..]; N], [&[][..]; N]);
    for i in 0..N {
        let (chunks, rest) = rows[i][..n].as_chunks::<LANES>();
        (all[i], rests[i]) = (&chunks[..n / LANES], rest);
    }
    (all, rests)
}

/// Adds weighted sums of `B` rows to `A` rows that lie one behind the other:
/// `sums[i] += sum_j weights[i][j] b_j`, one `j` after the other.
///
/// Elements beyond the length of the shortest row are ignored. Call it inside
/// [`vectorize`](super::vectorize).
///
/// # Example
///
/// ```
/// use llm_numerics::simd;
///
/// let mut sums = [1.0, 0.0, 0.0, 0.0]; // two rows
/// simd::add_weighted(&mut sums, [[2.0, 10.0], [1.0, 0.0]], [&[1.0, 2.0], &[3.0, 4.0]]);
/// assert_eq!(sums, [33.0, 44.0, 1.0, 2.0]);
/// ```
#[inline(always)]
pub fn add_weighted<F: Float, const A: usize, const B: usize>(
    sums: &mut [F],
    weights: [[F; B]; A],
    b: [&[F]; B],
) {
    let width = sums.len().checked_div(A).unwrap_or(0);
    let n = b.iter().map(|row| row.len()).min().unwrap_or(0).min(width);
    let (b_chunks, b_rest) = chunks(b, n);
    for chunk in 0..n / LANES {
        for i in 0..A {
            let Some(in_memory) = sums[i * width + chunk * LANES..].first_chunk_mut::<LANES>()
            else {
                continue; // cannot be: the width is at least n
            };
            let mut sum = *in_memory;
            for j in 0..B {
                let b = b_chunks[j][chunk];
                for l in 0..LANES {
                    sum[l] += weights[i][j] * b[l];
                }
            }
            *in_memory = sum;
        }
    }
    for i in 0..A {
        let sums = &mut sums[i * width..][n - n % LANES..n];
        for j in 0..B {
            for (sum, &b) in sums.iter_mut().zip(b_rest[j]) {
                *sum += weights[i][j] * b;
            }
        }
    }
}
