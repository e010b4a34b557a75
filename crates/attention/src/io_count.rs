//! The loops of both generations of `FlashAttention`, with a count of what they move between
//! slow and fast memory.
//!
//! To read and to count with, not to compute with: one head, `f64`, no mask. Each function is the
//! algorithm of its paper line by line, over arrays that are read and written through `load`
//! and `store` alone, which count.
//!
//! # The model
//!
//! A processor has much slow memory and a little fast memory. Only what lies in fast memory can
//! be computed with. `seq` queries and `kv_seq` keys of `head_dim` features, values of `value_dim`;
//! below `n`, `m`, `d`, `e`, and `r`, `c` tiles of queries and of keys.
//!
//! | | read | written |
//! |---|---|---|
//! | [`standard`] | `n d + m d` for the scores, `n m` for the softmax, `n m + m e` for the sum | `n m` scores, `n m` weights, `n e` |
//! | [`flash1`] | `m (d + e)` once, and for each of `c` tiles `n d` queries, `n e` results, `2 n` statistics | `n e + 2 n` to begin with, and as much for each of `c` tiles |
//! | [`flash2`] | `n d` once, and for each of `r` tiles `m (d + e)` | `n e`, and `n` log-sum-exps |
//!
//! [`IoCount::of_standard`], [`IoCount::of_flash1`] and [`IoCount::of_flash2`] compute these sums. A fast
//! memory of `M` elements holds tiles of `M / (4 d)` rows ([`Tiles::for_flash1`]), so that `c = 4 m d / M`: with
//! `n = m` and `d = e`, `FlashAttention` moves about `12 n^2 d^2 / M` elements, where the
//! standard form moves `4 n^2`: it gains where `3 d^2 < M`, as with `d = 64` and `M` of some 10^5.
//!
//! The second generation gives the outer loop to the queries. A tile's result and statistics
//! stay in fast memory until they are done: nothing is written twice or read back. What is read
//! again is the keys and values, `2 n^2 d / B` elements for tiles of `B` queries. (It was
//! made so because tiles of queries can be worked on at the same time; that traffic falls
//! from 12 to 8 parts is a gain beside it.)

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayRef2, Axis, s};

use crate::{AttentionError, memory};

mod count;

pub use count::{IoCount, Sizes, Tiles};

/// Attention that writes its scores and its weights to slow memory.
///
/// ```text
/// S = scale Q K^T,   P = softmax(S),   O = P V
/// ```
///
/// Each is one pass: read, compute, write. Each element is counted once for a pass, as if fast memory
/// were large enough for a product to read its factors once.
///
/// # Shapes
///
/// - `q`: `[seq, head_dim]`, `k`: `[kv_seq, head_dim]`, `v`: `[kv_seq, value_dim]`
/// - returns: `[seq, value_dim]`
///
/// # Errors
///
/// - [`AttentionError::MatrixShape`] if `k` or `v` does not fit.
/// - [`AttentionError::TooLarge`] if the result or the scores do not fit into memory.
///
/// # Precision
///
/// Sums in `f64`, by `ndarray`.
///
/// # Example
///
/// ```
/// use llm_attention::io_count::{self, IoCount};
/// use ndarray::Array2;
///
/// let q = Array2::ones((3, 4));
/// let k = Array2::ones((5, 4));
/// let (out, io) = io_count::standard(&q, &k, &k)?;
/// assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-15));
/// assert_eq!(io, IoCount { read: 12 + 20 + 15 + 15 + 20, written: 15 + 15 + 12 });
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao et al., `FlashAttention`, arXiv:2205.14135v2, algorithm 0.
pub fn standard(
    q: &ArrayRef2<f64>,
    k: &ArrayRef2<f64>,
    v: &ArrayRef2<f64>,
) -> Result<(Array2<f64>, IoCount), AttentionError> {
    let sizes = Sizes::new(q, k, v)?;
    let (n, m) = (sizes.seq, sizes.kv_seq);
    let io = std::cell::Cell::default();
    let (q, k, v) = (Slow::new(q, &io), Slow::new(k, &io), Slow::new(v, &io));
    let mut scores = Slow::empty(n, m, &io)?;
    let mut weights = Slow::empty(n, m, &io)?;
    let mut out = Slow::empty(n, sizes.value_dim, &io)?;

    let s = sizes.scale() * q.load(0..n).dot(&k.load(0..m).t());
    scores.store(0..n, &s);

    let mut p = scores.load(0..n);
    for mut row in p.rows_mut() {
        let max = row.fold(f64::NEG_INFINITY, |max, &x| max.max(x));
        row.mapv_inplace(|x| (x - max).exp());
        let total = row.sum();
        row /= total;
    }
    weights.store(0..n, &p);

    let o = weights.load(0..n).dot(&v.load(0..m));
    out.store(0..n, &o);
    Ok((out.array, io.get()))
}

/// `FlashAttention`, first generation: keys in the outer loop, queries in the inner.
///
/// Each tile of keys passes over all queries, and brings their results up to date: the result so far
/// and its statistics, the maximum `m` and the sum `l`, are read and written again each time. With the
/// scores `S` of a tile, their row maxima `m'`, `P = e^(S - m')` and its row sums `l'`:
///
/// ```text
/// m_new = max(m, m')
/// l_new = e^(m - m_new) l + e^(m' - m_new) l'
/// O = (l e^(m - m_new) O + e^(m' - m_new) P V) / l_new
/// ```
///
/// # Shapes
///
/// As [`standard`].
///
/// # Errors
///
/// As [`standard`]; also [`AttentionError::Tile`] if a tile has no rows.
///
/// # Precision
///
/// As [`standard`].
///
/// # Example
///
/// ```
/// use llm_attention::io_count::{self, IoCount, Tiles};
/// use ndarray::Array2;
///
/// let x = Array2::ones((8, 2));
/// let tiles = Tiles { query_tile: 2, key_tile: 4 };
/// let (out, io) = io_count::flash1(&x, &x, &x, tiles)?;
/// assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-15));
/// // Keys and values once; queries, results and statistics for two tiles of keys.
/// assert_eq!(io.read, 32 + 2 * (16 + 16 + 16));
/// // Results and statistics at first, and for two tiles.
/// assert_eq!(io.written, 3 * (16 + 16));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao et al., `FlashAttention`, arXiv:2205.14135v2, algorithm 1.
pub fn flash1(
    q: &ArrayRef2<f64>,
    k: &ArrayRef2<f64>,
    v: &ArrayRef2<f64>,
    tile: Tiles,
) -> Result<(Array2<f64>, IoCount), AttentionError> {
    let sizes = Sizes::new(q, k, v)?;
    tile.check(sizes)?;
    let (n, e) = (sizes.seq, sizes.value_dim);
    let io = std::cell::Cell::default();
    let (q, k, v) = (Slow::new(q, &io), Slow::new(k, &io), Slow::new(v, &io));
    let mut out = Slow::empty(n, e, &io)?;
    let mut sums = Slow::empty(n, 1, &io)?;
    let mut maxima = Slow::empty(n, 1, &io)?;
    out.store(0..n, &Array2::zeros((n, e)));
    sums.store(0..n, &Array2::zeros((n, 1)));
    maxima.store(0..n, &Array2::from_elem((n, 1), f64::NEG_INFINITY));

    // ANCHOR: keys_outside
    for keys in tiles(sizes.kv_seq, tile.key_tile) {
        let (k, v) = (k.load(keys.clone()), v.load(keys));
        for queries in tiles(n, tile.query_tile) {
            let q = q.load(queries.clone());
            let (o, l) = (out.load(queries.clone()), sums.load(queries.clone()));
            let m = maxima.load(queries.clone());

            let s = sizes.scale() * q.dot(&k.t());
            let m_tile = row_maxima(&s);
            let p = (&s - &m_tile).exp();
            let l_tile = p.sum_axis(Axis(1)).insert_axis(Axis(1));

            let m_new = larger(&m, &m_tile);
            let (old, new) = ((&m - &m_new).exp(), (&m_tile - &m_new).exp());
            let l_new = &old * &l + &new * &l_tile;
            let o = (&l * &old * &o + &new * &p.dot(&v)) / &l_new;

            out.store(queries.clone(), &o);
            sums.store(queries.clone(), &l_new);
            maxima.store(queries, &m_new);
        }
    }
    // ANCHOR_END: keys_outside
    Ok((out.array, io.get()))
}

/// `FlashAttention`, second generation: queries in the outer loop, keys in the inner.
///
/// A tile of queries stays in fast memory with its result and statistics while all keys pass by.
/// The result is divided by its sum once, at the end, and only then written, with one number for
/// the backward instead of two:
///
/// ```text
/// m_new = max(m, rowmax(S)),   P = e^(S - m_new)
/// l = e^(m - m_new) l + rowsum(P),   O = e^(m - m_new) O + P V
/// after the last:   O = O / l,   lse = m + ln l
/// ```
///
/// # Shapes
///
/// As [`standard`]; returns the log-sum-exps too: `[seq]`.
///
/// # Errors
///
/// As [`flash1`].
///
/// # Precision
///
/// As [`standard`].
///
/// # Example
///
/// ```
/// use llm_attention::io_count::{self, IoCount, Tiles};
/// use ndarray::Array2;
///
/// let x = Array2::ones((8, 2));
/// let tiles = Tiles { query_tile: 4, key_tile: 2 };
/// let (out, lse, io) = io_count::flash2(&x, &x, &x, tiles)?;
/// assert!(out.iter().all(|x| (x - 1.0).abs() < 1e-15));
/// assert!((lse[0] - (8_f64.ln() + 2_f64.sqrt())).abs() < 1e-15);
/// // Queries once; keys and values for two tiles of queries. Results and lse once.
/// assert_eq!(io, IoCount { read: 16 + 2 * 32, written: 16 + 8 });
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 1.
pub fn flash2(
    q: &ArrayRef2<f64>,
    k: &ArrayRef2<f64>,
    v: &ArrayRef2<f64>,
    tile: Tiles,
) -> Result<(Array2<f64>, Array1<f64>, IoCount), AttentionError> {
    let sizes = Sizes::new(q, k, v)?;
    tile.check(sizes)?;
    let (n, e) = (sizes.seq, sizes.value_dim);
    let io = std::cell::Cell::default();
    let (q, k, v) = (Slow::new(q, &io), Slow::new(k, &io), Slow::new(v, &io));
    let mut out = Slow::empty(n, e, &io)?;
    let mut lse = Slow::empty(n, 1, &io)?;

    // ANCHOR: queries_outside
    for queries in tiles(n, tile.query_tile) {
        let q = q.load(queries.clone());
        let mut o = Array2::zeros((q.nrows(), e));
        let mut l = Array2::<f64>::zeros((q.nrows(), 1));
        let mut m = Array2::from_elem((q.nrows(), 1), f64::NEG_INFINITY);

        for keys in tiles(sizes.kv_seq, tile.key_tile) {
            let (k, v) = (k.load(keys.clone()), v.load(keys));
            let s = sizes.scale() * q.dot(&k.t());
            let m_new = larger(&m, &row_maxima(&s));
            let p = (&s - &m_new).exp();
            let old = (&m - &m_new).exp();
            l = &old * &l + p.sum_axis(Axis(1)).insert_axis(Axis(1));
            o = &old * &o + p.dot(&v);
            m = m_new;
        }

        if sizes.kv_seq > 0 {
            o /= &l; // without keys both are zero
        }
        out.store(queries.clone(), &o);
        lse.store(queries, &(m + l.ln()));
    }
    // ANCHOR_END: queries_outside
    let lse = lse.array.into_iter().collect();
    Ok((out.array, lse, io.get()))
}

/// The largest of each row: `[rows, 1]`.
fn row_maxima(s: &Array2<f64>) -> Array2<f64> {
    let largest = s.map_axis(Axis(1), |row| {
        row.fold(f64::NEG_INFINITY, |max, &x| max.max(x))
    });
    largest.insert_axis(Axis(1))
}

fn larger(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    let mut larger = a.clone();
    larger.zip_mut_with(b, |a, &b| *a = a.max(b));
    larger
}

/// An array in slow memory. What is read and written is counted.
struct Slow<'a> {
    array: Array2<f64>,
    io: &'a std::cell::Cell<IoCount>,
}

impl<'a> Slow<'a> {
    fn new(array: &ArrayRef2<f64>, io: &'a std::cell::Cell<IoCount>) -> Self {
        let array = array.to_owned(); // the caller's array, not a move to fast memory
        Self { array, io }
    }

    /// An array that is allocated, and written when it is stored to.
    fn empty(
        rows: usize,
        columns: usize,
        io: &'a std::cell::Cell<IoCount>,
    ) -> Result<Self, AttentionError> {
        memory::fits::<f64>([1, 1, rows, columns])?;
        let array = Array2::from_elem((rows, columns), f64::NAN);
        Ok(Self { array, io })
    }

    fn load(&self, rows: Range<usize>) -> Array2<f64> {
        let tile = self.array.slice(s![rows, ..]).to_owned();
        let mut io = self.io.get();
        io.read = io.read.saturating_add(tile.len());
        self.io.set(io);
        tile
    }

    fn store(&mut self, rows: Range<usize>, tile: &ArrayRef2<f64>) {
        let mut io = self.io.get();
        io.written = io.written.saturating_add(tile.len());
        self.io.set(io);
        self.array.slice_mut(s![rows, ..]).assign(tile);
    }
}

/// The rows of each tile.
fn tiles(length: usize, tile: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(tile)
        .map(move |start| start..length.min(start.saturating_add(tile)))
}
