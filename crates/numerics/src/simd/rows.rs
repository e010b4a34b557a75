//! Products of a few rows with a few others: each loaded element serves several of them.
//!
//! With one query at a time attention waits for the arithmetic, not for the memory that it reads.
#![allow(
    clippy::needless_range_loop,
    reason = "the loops run over several arrays at once"
)]

use crate::Float;

/// Running sums of an inner product: one register of eight lanes.
pub(super) const LANES: usize = 8;

/// The inner products of `A` rows with `B` rows: `out[i][j] = <a_i, b_j>`.
///
/// Each product is summed in one order, whatever `A` and `B` are and on every processor: eight running sums, then a tree
/// over them; [`dots_fused`](super::dots_fused) is faster where the last bit may depend on the processor. Elements beyond the length of the shortest row are ignored. Call it inside
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
pub(super) fn chunks<F, const N: usize>(
    rows: [&[F]; N],
    n: usize,
) -> ([&[[F; LANES]]; N], [&[F]; N]) {
    let (mut all, mut rests) = ([&[][..]; N], [&[][..]; N]);
    for i in 0..N {
        let (chunks, rest) = rows[i][..n].as_chunks::<LANES>();
        (all[i], rests[i]) = (&chunks[..n / LANES], rest);
    }
    (all, rests)
}
