//! Products of a few rows with a few others, multiplied and added in one step.
//!
//! Where the processor has an instruction for it, a product is not rounded before it is added: half as many instructions, and a
//! decode step of attention that waits for the memory instead of the arithmetic. The price is that the last bit depends on whether
//! the processor has it.
#![allow(
    clippy::needless_range_loop,
    reason = "the loops run over several arrays at once"
)]

use crate::Float;

use super::rows::{self, LANES, chunks};

/// [`dots`](super::dots) with products that are not rounded before they are added, where the processor can do that for `F`.
///
/// The order of the sums is the same, whatever `A` and `B` are. Call it inside [`vectorize`](super::vectorize).
///
/// # Precision
///
/// At most one rounding for each element instead of two. The same bits for any number of threads, but not on every processor: x86 with FMA
/// fuses `f32`, others round twice.
///
/// # Example
///
/// ```
/// use llm_numerics::simd;
///
/// let (a, b) = ([[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0]);
/// let products = simd::dots_fused([&a[0], &a[1]], [&b]);
/// assert_eq!(products, [[17.0], [39.0]]);
/// ```
#[inline(always)]
#[must_use]
pub fn dots_fused<F: Float, const A: usize, const B: usize>(
    a: [&[F]; A],
    b: [&[F]; B],
) -> [[F; B]; A] {
    F::dots_fused(a, b)
}

/// Adds weighted sums of `B` rows to `A` rows that lie one behind the other:
/// `sums[i] += sum_j weights[i][j] b_j`, one `j` after the other.
///
/// Elements beyond the length of the shortest row are ignored. Call it inside
/// [`vectorize`](super::vectorize).
///
/// # Precision
///
/// As [`dots_fused`]. The bits do not depend on how many rows are added at once.
///
/// # Example
///
/// ```
/// use llm_numerics::simd;
///
/// let mut sums = [1.0, 0.0, 0.0, 0.0]; // two rows
/// simd::add_weighted_fused(&mut sums, [[2.0, 10.0], [1.0, 0.0]], [&[1.0, 2.0], &[3.0, 4.0]]);
/// assert_eq!(sums, [33.0, 44.0, 1.0, 2.0]);
/// ```
#[inline(always)]
pub fn add_weighted_fused<F: Float, const A: usize, const B: usize>(
    sums: &mut [F],
    weights: [[F; B]; A],
    b: [&[F]; B],
) {
    F::add_weighted_fused(sums, weights, b);
}

/// What [`Float::dots_fused`] does for `f32`.
#[inline(always)]
pub(crate) fn dots_f32<const A: usize, const B: usize>(
    a: [&[f32]; A],
    b: [&[f32]; B],
) -> [[f32; B]; A] {
    #[cfg(all(feature = "fast", target_arch = "x86_64"))]
    if let Some(v3) = pulp::x86::V3::try_new() {
        return x86::dots(v3, a, b);
    }
    rows::dots(a, b)
}

/// What [`Float::add_weighted_fused`] does for `f32`.
#[inline(always)]
pub(crate) fn add_weighted_f32<const A: usize, const B: usize>(
    sums: &mut [f32],
    weights: [[f32; B]; A],
    b: [&[f32]; B],
) {
    #[cfg(all(feature = "fast", target_arch = "x86_64"))]
    if let Some(v3) = pulp::x86::V3::try_new() {
        return x86::add_weighted(v3, sums, weights, b);
    }
    add_weighted(sums, weights, b);
}

/// [`add_weighted_fused`] in two roundings, on any processor.
#[inline(always)]
pub(crate) fn add_weighted<F: Float, const A: usize, const B: usize>(
    sums: &mut [F],
    weights: [[F; B]; A],
    b: [&[F]; B],
) {
    let (n, width) = common(sums, A, &b);
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

/// The leading elements that every row of `b` and of the sums has, and how long a row of the sums is.
#[inline(always)]
fn common<F, const B: usize>(sums: &[F], n_sums: usize, b: &[&[F]; B]) -> (usize, usize) {
    let width = sums.len().checked_div(n_sums).unwrap_or(0);
    let n = b.iter().map(|row| row.len()).min().unwrap_or(0).min(width);
    (n, width)
}

#[cfg(all(feature = "fast", target_arch = "x86_64"))]
mod x86 {
    use core::arch::x86_64::{__m128, __m256};

    use pulp::cast;
    use pulp::x86::V3;

    use super::{LANES, chunks, common};

    /// The products of four sums that are left to do together.
    const SUMS: usize = 4;

    #[inline(always)]
    pub(super) fn dots<const A: usize, const B: usize>(
        v3: V3,
        a: [&[f32]; A],
        b: [&[f32]; B],
    ) -> [[f32; B]; A] {
        let n = a.iter().chain(&b).map(|row| row.len()).min().unwrap_or(0);
        let (a_chunks, a_rest) = chunks(a, n);
        let (b_chunks, b_rest) = chunks(b, n);
        let mut lanes = [[v3.avx._mm256_setzero_ps(); B]; A];
        for chunk in 0..n / LANES {
            let mut of_b = [v3.avx._mm256_setzero_ps(); B];
            for j in 0..B {
                of_b[j] = cast(b_chunks[j][chunk]);
            }
            for i in 0..A {
                let a = cast(a_chunks[i][chunk]);
                for j in 0..B {
                    lanes[i][j] = v3.fma._mm256_fmadd_ps(a, of_b[j], lanes[i][j]);
                }
            }
        }
        if n % LANES > 0 {
            for i in 0..A {
                let a = padded(a_rest[i]);
                for j in 0..B {
                    lanes[i][j] = v3.fma._mm256_fmadd_ps(a, padded(b_rest[j]), lanes[i][j]);
                }
            }
        }
        let mut products = [[0.0; B]; A];
        let sums = lanes.as_flattened().chunks(SUMS);
        for (lanes, products) in sums.zip(products.as_flattened_mut().chunks_mut(SUMS)) {
            let mut four = [v3.avx._mm256_setzero_ps(); SUMS];
            four[..lanes.len()].copy_from_slice(lanes);
            products.copy_from_slice(&trees(v3, four)[..products.len()]);
        }
        products
    }

    /// The tree over the eight lanes of each of four sums: a half to the other, a quarter to the other, and the last two.
    #[inline(always)]
    fn trees(v3: V3, sums: [__m256; SUMS]) -> [f32; SUMS] {
        let sse = v3.sse;
        let mut halves = [sse._mm_setzero_ps(); SUMS];
        for (half, sum) in halves.iter_mut().zip(sums) {
            let [low, high]: [__m128; 2] = cast(sum);
            *half = sse._mm_add_ps(low, high);
        }
        let [a, b, c, d] = halves;
        let quarter = |x, y| sse._mm_add_ps(sse._mm_movelh_ps(x, y), sse._mm_movehl_ps(y, x));
        let (ab, cd) = (quarter(a, b), quarter(c, d)); // lanes a a b b, c c d d
        let first = sse._mm_shuffle_ps::<0b10_00_10_00>(ab, cd);
        let second = sse._mm_shuffle_ps::<0b11_01_11_01>(ab, cd);
        cast(sse._mm_add_ps(first, second))
    }

    #[inline(always)]
    pub(super) fn add_weighted<const A: usize, const B: usize>(
        v3: V3,
        sums: &mut [f32],
        weights: [[f32; B]; A],
        b: [&[f32]; B],
    ) {
        let (n, width) = common(sums, A, &b);
        let (b_chunks, b_rest) = chunks(b, n);
        let mut of_sums = [[v3.avx._mm256_setzero_ps(); B]; A];
        for i in 0..A {
            for j in 0..B {
                of_sums[i][j] = v3.avx._mm256_set1_ps(weights[i][j]);
            }
        }
        let weights = of_sums;
        let mut rows = sums.chunks_exact_mut(width.max(1));
        let rows: [&mut [f32]; A] = core::array::from_fn(|_| rows.next().unwrap_or_default());
        let parts = rows.map(|row| row[..n].as_chunks_mut::<LANES>());
        for chunk in 0..n / LANES {
            for i in 0..A {
                let in_memory = &mut parts[i].0[chunk];
                let mut sum = cast(*in_memory);
                for j in 0..B {
                    sum = v3
                        .fma
                        ._mm256_fmadd_ps(weights[i][j], cast(b_chunks[j][chunk]), sum);
                }
                *in_memory = cast(sum);
            }
        }
        if n % LANES > 0 {
            for i in 0..A {
                let in_memory = &mut *parts[i].1;
                let mut sum = padded(in_memory);
                for j in 0..B {
                    sum = v3
                        .fma
                        ._mm256_fmadd_ps(weights[i][j], padded(b_rest[j]), sum);
                }
                let sum: [f32; LANES] = cast(sum);
                in_memory.copy_from_slice(&sum[..n % LANES]);
            }
        }
    }

    /// Fewer than eight elements, and zeros.
    #[inline(always)]
    fn padded(rest: &[f32]) -> __m256 {
        let mut lanes = [0.0; LANES];
        lanes[..rest.len()].copy_from_slice(rest);
        cast(lanes)
    }
}
