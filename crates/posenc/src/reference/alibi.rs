//! ALiBi as the authors' code and the libraries state it: a recursion for the slopes, loops for the rest.

use ndarray::{Array1, Array2, Array3, Array4, ArrayRef1, ArrayRef2, ArrayRef3};

use crate::alibi::{AlibiOrigin, AlibiRounding};

/// The slopes: a geometric series for a power of two, else that of the power below, filled up with
/// every other slope of the power above.
///
/// Nothing is checked; no heads give no slopes.
///
/// # Shapes
///
/// - returns: `[n_heads]`
///
/// Source: Press et al., arXiv:2108.12409v2, section 3 and footnote on other numbers of heads; the
/// `max_bias` of MPT and llama.cpp in place of the 8.
#[must_use]
// ANCHOR: slopes
pub fn slopes(n_heads: usize, max_bias: f64) -> Array1<f64> {
    if n_heads == 0 {
        return Array1::zeros(0);
    }
    if n_heads.is_power_of_two() {
        // The first slope is also the ratio.
        let ratio = 2_f64.powf(-max_bias / n_heads as f64);
        return (1..=n_heads).map(|i| ratio.powf(i as f64)).collect();
    }
    let above = n_heads.next_power_of_two();
    let below = above / 2;
    let between = slopes(above, max_bias);
    let filling = between.iter().step_by(2).take(n_heads - below);
    slopes(below, max_bias)
        .iter()
        .chain(filling)
        .copied()
        .collect()
}
// ANCHOR_END: slopes

/// What the slopes are multiplied with.
///
/// # Shapes
///
/// - returns: `[seq, kv_seq]`
#[must_use]
pub fn distances(seq: usize, kv_seq: usize, origin: AlibiOrigin) -> Array2<f64> {
    let mut distances = Array2::zeros((seq, kv_seq));
    for i in 0..seq {
        let query = (i + kv_seq) as f64 - seq as f64;
        for j in 0..kv_seq {
            let key = j as f64;
            distances[[i, j]] = match origin {
                AlibiOrigin::KeyIndex => key,
                AlibiOrigin::LastKeyZero => key - (kv_seq as f64 - 1.0),
                AlibiOrigin::AbsoluteDistance => -(query - key).abs(),
                AlibiOrigin::SignedDistance => key - query,
                AlibiOrigin::PastDistance if key > query => 0.0,
                AlibiOrigin::PastDistance => key - query,
            };
        }
    }
    distances
}

/// `bias[h, i, j] = slopes[h] distances[i, j]`.
///
/// # Shapes
///
/// - `slopes`: `[heads]`
/// - returns: `[heads, seq, kv_seq]`
#[must_use]
pub fn bias(
    slopes: &ArrayRef1<f64>,
    seq: usize,
    kv_seq: usize,
    origin: AlibiOrigin,
) -> Array3<f64> {
    let distances = distances(seq, kv_seq, origin);
    Array3::from_shape_fn((slopes.len(), seq, kv_seq), |(h, i, j)| {
        slopes[h] * distances[[i, j]]
    })
}

/// The gradient for the slopes of [`bias`]: `dslopes[h] = sum_ij dbias[h, i, j] distances[i, j]`.
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`
/// - returns: `[heads]`
#[must_use]
pub fn backward(dbias: &ArrayRef3<f64>, origin: AlibiOrigin) -> Array1<f64> {
    let (_, seq, kv_seq) = dbias.dim();
    let distances = distances(seq, kv_seq, origin);
    dbias
        .outer_iter()
        .map(|dbias| (&dbias * &distances).sum())
        .collect()
}

/// The running sum of the mask, minus 1, times the mask.
///
/// # Shapes
///
/// - `mask`: `[batch, kv_seq]`
/// - returns: `[batch, kv_seq]`
#[must_use]
pub fn key_positions(mask: &ArrayRef2<bool>) -> Array2<f64> {
    let mask = mask.mapv(|is_token| f64::from(u8::from(is_token)));
    let mut sums = mask.clone();
    sums.accumulate_axis_inplace(ndarray::Axis(1), |before, here| *here += before);
    (sums - 1.0) * mask
}

/// `bias[b, h, 0, j] = slopes[h] key_positions[b, j]`, rounded as asked (to bfloat16 or not at all).
///
/// # Shapes
///
/// - `slopes`: `[heads]`, `key_positions`: `[batch, kv_seq]`
/// - returns: `[batch, heads, 1, kv_seq]`
#[must_use]
pub fn bias_at(
    slopes: &ArrayRef1<f64>,
    key_positions: &ArrayRef2<f64>,
    rounding: AlibiRounding,
) -> Array4<f64> {
    let round = |x: f64| match rounding {
        AlibiRounding::Product => x,
        AlibiRounding::Bfloat16 => to_bfloat16(x),
    };
    let (batch, kv_seq) = key_positions.dim();
    Array4::from_shape_fn((batch, slopes.len(), 1, kv_seq), |(b, h, _, j)| {
        round(round(slopes[h]) * round(key_positions[[b, j]]))
    })
}

/// The nearest number with 8 significant bits; of two equally near ones, the even one.
fn to_bfloat16(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    // The last of 8 bits is worth 2^(exponent - 7). Below 2^-126 the bits get fewer.
    let mut unit = 2_f64.powi(-133);
    while unit * 256.0 <= x.abs() {
        unit *= 2.0;
    }
    (x / unit).round_ties_even() * unit
}
