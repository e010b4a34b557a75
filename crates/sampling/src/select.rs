//! The largest of many numbers, without sorting them all.

use llm_numerics::{Float, simd};

use crate::Scratch;

/// Running maxima of [`block_maxima`]: two registers of 8 lanes.
const LANES: usize = 16;

/// Fills `maxima` with the largest number of each block of `block` numbers, the last of which may be shorter; true if there is a NaN.
///
/// `block` is a multiple of 16. NaN is ignored in the maxima.
pub(crate) fn block_maxima<F: Float>(row: &[F], block: usize, maxima: &mut Vec<F>) -> bool {
    maxima.clear();
    simd::vectorize(
        #[inline(always)]
        || {
            let mut nans = [0_u32; LANES];
            for block in row.chunks(block) {
                let mut lanes = [F::neg_infinity(); LANES];
                let (chunks, rest) = block.as_chunks::<LANES>();
                for chunk in chunks {
                    for i in 0..LANES {
                        let x = chunk[i];
                        lanes[i] = if x > lanes[i] { x } else { lanes[i] };
                        nans[i] |= u32::from(x.is_nan());
                    }
                }
                for (i, &x) in rest.iter().enumerate() {
                    lanes[i] = if x > lanes[i] { x } else { lanes[i] };
                    nans[i] |= u32::from(x.is_nan());
                }
                let larger = |a: F, b: F| if b > a { b } else { a };
                maxima.push(lanes.into_iter().fold(F::neg_infinity(), larger));
            }
            nans.into_iter().any(|n| n != 0)
        },
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
    fn nan_is_found_in_any_place() {
        let mut maxima = Vec::new();
        for place in [0, 15, 16, 255, 256, 300] {
            let mut row = vec![1.0_f64; 301];
            assert!(!block_maxima(&row, 256, &mut maxima));
            row[place] = f64::NAN;
            assert!(block_maxima(&row, 256, &mut maxima));
            assert_eq!(maxima, [1.0, 1.0]);
        }
    }
}
