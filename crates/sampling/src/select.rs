//! The largest of many numbers, without sorting them all.

use llm_numerics::{Float, simd};

use crate::Scratch;

/// Running maxima of [`block_maxima`]: two registers of 8 lanes.
const LANES: usize = 16;

/// What one look at a row tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Extent<F> {
    /// The largest number, NaN ignored; `-inf` if there is none.
    pub(crate) max: F,
    /// True if there is a NaN.
    pub(crate) has_nan: bool,
}

/// The extent of a row; `maxima` gets the largest number of each block of `block` numbers, the last of which may be shorter.
///
/// `block` is a multiple of 16. Call it inside [`simd::vectorize`].
#[inline(always)]
fn look<F: Float>(row: &[F], block: usize, mut each: impl FnMut(F)) -> Extent<F> {
    let mut nans = [F::zero(); LANES];
    let mut max = F::neg_infinity();
    let larger = |a: F, b: F| if b > a { b } else { a };
    for block in row.chunks(block) {
        let mut lanes = [F::neg_infinity(); LANES];
        let mut take = |i: usize, x: F| {
            lanes[i] = larger(lanes[i], x);
            nans[i] = if x.is_nan() { F::one() } else { nans[i] };
        };
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (i, &x) in chunk.iter().enumerate() {
                take(i, x);
            }
        }
        for (i, &x) in rest.iter().enumerate() {
            take(i, x);
        }
        let top = lanes.into_iter().fold(F::neg_infinity(), larger);
        max = larger(max, top);
        each(top);
    }
    Extent {
        max,
        has_nan: nans.into_iter().any(|n| n != F::zero()),
    }
}

/// The extent of a row.
pub(crate) fn extent<F: Float>(row: &[F]) -> Extent<F> {
    simd::vectorize(
        #[inline(always)]
        || look(row, 4096, |_| ()),
    )
}

/// The extent of a row, and the largest number of each block in `maxima`.
pub(crate) fn block_maxima<F: Float>(row: &[F], block: usize, maxima: &mut Vec<F>) -> Extent<F> {
    maxima.clear();
    simd::vectorize(
        #[inline(always)]
        || look(row, block, |top| maxima.push(top)),
    )
}

/// A size of blocks for which the `k` largest of their maxima say much about the `k` largest of `n` numbers.
pub(crate) const fn block_size(n: usize, k: usize) -> Option<usize> {
    match n / k {
        512.. => Some(256),
        128.. => Some(64),
        32.. => Some(16),
        _ => None,
    }
}

/// The `k`-th largest of the maxima, `1 <= k <= maxima.len()`: at least `k` of the numbers are as large.
pub(crate) fn bound<F: Float>(maxima: &[F], k: usize, copy: &mut Vec<F>) -> F {
    copy.clear();
    copy.extend_from_slice(maxima);
    *copy
        .select_nth_unstable_by(k - 1, |a, b| descending(*a, *b))
        .1
}

/// Calls `take` with the index of each number that is at least `bound`, in order.
///
/// `maxima` are those of the blocks, so that most of them are passed over.
pub(crate) fn at_least<F: Float>(
    row: &[F],
    block: usize,
    maxima: &[F],
    bound: F,
    mut take: impl FnMut(usize),
) {
    for (i, &max) in maxima.iter().enumerate() {
        if max < bound {
            continue;
        }
        let start = i * block;
        let end = (start + block).min(row.len());
        for (j, &x) in row[start..end].iter().enumerate() {
            if x >= bound {
                take(start + j);
            }
        }
    }
}

/// The `k`-th largest number of a row without NaN, `1 <= k <= row.len()`.
pub(crate) fn kth_largest<F: Float>(row: &[F], k: usize, scratch: &mut Scratch<F>) -> F {
    let Scratch { maxima, values, .. } = scratch;
    let Some(block) = block_size(row.len(), k) else {
        return bound(row, k, values);
    };
    block_maxima(row, block, maxima);
    let bound = bound(maxima, k, values);
    values.clear();
    at_least(row, block, maxima, bound, |i| values.push(row[i]));
    *values
        .select_nth_unstable_by(k - 1, |a, b| descending(*a, *b))
        .1
}

/// One bit for each of at most 64 logits, set unless it is below `bound` or `-inf`: NaN stays.
///
/// Call it inside [`simd::vectorize`].
#[inline(always)]
pub(crate) fn stay<F: Float>(logits: &[F], bound: F) -> u64 {
    let least = F::min_value();
    let bound = if bound < least { least } else { bound };
    if let Ok(block) = logits.try_into() {
        return simd::at_least(block, bound);
    }
    let mut block = [F::neg_infinity(); 64];
    block[..logits.len()].copy_from_slice(logits);
    simd::at_least(&block, bound)
}

/// Largest first; there are no NaN.
pub(crate) fn descending<F: Float>(a: F, b: F) -> core::cmp::Ordering {
    b.partial_cmp(&a).unwrap_or(core::cmp::Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm_numerics::philox::Philox4x32;

    #[test]
    fn the_kth_largest_is_that_of_a_sort() {
        let random = Philox4x32::new(1);
        for (n, distinct) in [
            (1_usize, 9.0),
            (100, 9.0),
            (1000, 7.0),
            (5000, 1e6),
            (5001, 3.0),
        ] {
            let row: Vec<f32> = (0..n as u64)
                .map(|i| (random.uniform_f64(0, i) * distinct).floor() as f32)
                .collect();
            let mut sorted = row.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let mut scratch = Scratch::default();
            for k in [1, 2, 9, 10, 40, 99, 100, 157, 1000, 4999, 5001] {
                if k <= n {
                    assert_eq!(kth_largest(&row, k, &mut scratch), sorted[k - 1], "{n} {k}");
                }
            }
        }
    }

    #[test]
    fn bits_tell_what_stays() {
        const MASKED: f32 = f32::NEG_INFINITY;
        for n in [0, 1, 7, 8, 9, 63, 64] {
            let random = Philox4x32::new(2);
            let row: Vec<f32> = (0..n)
                .map(|i| random.uniform_f32(0, i))
                .map(|x| if x < 0.2 { MASKED } else { x })
                .collect();
            let mut row = row;
            if n > 3 {
                row[3] = f32::NAN;
            }
            for bound in [MASKED, 0.5, 2.0] {
                let bits = stay(&row, bound);
                for i in 0..64 {
                    let expected = row
                        .get(i)
                        .is_some_and(|&x| x.is_nan() || x >= bound && x > MASKED);
                    assert_eq!(bits >> i & 1 == 1, expected, "{n} {bound} {i}");
                }
            }
        }
    }

    #[test]
    fn nan_is_found_in_any_place() {
        let mut maxima = Vec::new();
        for place in [0, 15, 16, 255, 256, 300] {
            let mut row = vec![1.0_f64; 301];
            assert!(!block_maxima(&row, 256, &mut maxima).has_nan);
            row[place] = f64::NAN;
            assert!(block_maxima(&row, 256, &mut maxima).has_nan);
            assert!(extent(&row).has_nan);
            assert_eq!(maxima, [1.0, 1.0]);
        }
    }
}
