//! T5's relative bias with real borders between the buckets, and a one-hot matrix in place of a gather.

use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3, Axis};

use crate::t5::{T5Config, T5Direction};

/// The smallest distance of each logarithmic bucket of a direction, as a real number.
///
/// ```text
/// border_k = e (max_distance / e)^(k / (n - e)),   k = 0 .. n - e
/// ```
///
/// with `n` buckets in the direction, of which `e = floor(n / 2)` hold one distance each.
#[must_use]
// ANCHOR: borders
pub fn borders(config: &T5Config) -> Vec<f64> {
    let (n, e) = sizes(config);
    let ratio = config.max_distance() as f64 / e as f64;
    (0..n - e)
        .map(|k| e as f64 * ratio.powf(k as f64 / (n - e) as f64))
        .map(|border| {
            // A border that is a whole number is one, whatever the rounding of the power.
            let whole = border.round();
            let is_whole = (border - whole).abs() <= 1e-11 * border;
            if is_whole { whole } else { border }
        })
        .collect()
}
// ANCHOR_END: borders

/// The bucket of a relative position: how many borders its distance has reached.
///
/// Source: Raffel et al., arXiv:1910.10683v4, section 2.1, in real numbers; transformers rounds.
#[must_use]
// ANCHOR: bucket
pub fn bucket(relative_position: i64, config: &T5Config) -> usize {
    let (n, e) = sizes(config);
    let is_split = config.direction() == T5Direction::Bidirectional;
    let first = if is_split && relative_position > 0 {
        n
    } else {
        0
    };
    let distance = if is_split || relative_position < 0 {
        (relative_position as f64).abs()
    } else {
        0.0
    };
    if distance < e as f64 {
        return first + distance as usize;
    }
    let reached = borders(config).iter().filter(|&&b| b <= distance).count();
    first + e + reached - 1
}
// ANCHOR_END: bucket

/// Which bucket each query and key has: 1 there, else 0.
///
/// # Shapes
///
/// - returns: `[seq * kv_seq, n_buckets]`
#[must_use]
pub fn one_hot(seq: usize, kv_seq: usize, past: usize, config: &T5Config) -> Array2<f64> {
    let mut matrix = Array2::zeros((seq * kv_seq, config.n_buckets()));
    for i in 0..seq {
        for j in 0..kv_seq {
            let relative = j as i64 - (i as i64 + past as i64);
            matrix[[i * kv_seq + j, bucket(relative, config)]] = 1.0;
        }
    }
    matrix
}

/// `bias = one_hot · table`, heads first.
///
/// # Shapes
///
/// - `table`: `[n_buckets, heads]`
/// - returns: `[heads, seq, kv_seq]`
#[must_use]
pub fn bias(
    table: &ArrayRef2<f64>,
    seq: usize,
    kv_seq: usize,
    past: usize,
    config: &T5Config,
) -> Array3<f64> {
    let rows = one_hot(seq, kv_seq, past, config).dot(table);
    Array3::from_shape_fn((table.ncols(), seq, kv_seq), |(h, i, j)| {
        rows[[i * kv_seq + j, h]]
    })
}

/// `dtable = one_hotᵀ · dbias`.
///
/// # Shapes
///
/// - `dbias`: `[heads, seq, kv_seq]`
/// - returns: `[n_buckets, heads]`
#[must_use]
pub fn backward(dbias: &ArrayRef3<f64>, past: usize, config: &T5Config) -> Array2<f64> {
    let (heads, seq, kv_seq) = dbias.dim();
    let mut rows = Array2::zeros((seq * kv_seq, heads));
    for (h, dbias) in dbias.axis_iter(Axis(0)).enumerate() {
        for ((i, j), &x) in dbias.indexed_iter() {
            rows[[i * kv_seq + j, h]] = x;
        }
    }
    one_hot(seq, kv_seq, past, config).t().dot(&rows)
}

/// Buckets of a direction, and how many of them hold a single distance.
fn sizes(config: &T5Config) -> (usize, usize) {
    let n = match config.direction() {
        T5Direction::Bidirectional => config.n_buckets() / 2,
        T5Direction::Causal => config.n_buckets(),
    };
    (n, n / 2)
}
