//! The loops of both generations of `FlashAttention`, with a count of what they move between
//! slow and fast memory.
//!
//! To read and to count with, not to compute with: one head, `f64`, no mask. Each function is the
//! algorithm of its paper line by line, over arrays that can be read and written only
//! through [`Slow`](self#the-model)'s `load` and `store`, which count.
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

/// Elements that were moved between slow and fast memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IoCount {
    /// From slow memory to fast.
    pub read: usize,
    /// From fast memory to slow.
    pub written: usize,
}

/// The sizes of one head's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// Queries.
    pub seq: usize,
    /// Keys.
    pub kv_seq: usize,
    /// Features of queries and keys.
    pub head_dim: usize,
    /// Features of values.
    pub value_dim: usize,
}

/// How many rows of queries and of keys are in fast memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Rows of queries, `B_r` in the papers.
    pub query_tile: usize,
    /// Rows of keys and of values, `B_c` in the papers.
    pub key_tile: usize,
}

impl Tiles {
    /// The tiles of the first paper for a fast memory of `memory` elements.
    ///
    /// ```text
    /// key_tile = ceil(memory / (4 head_dim)),   query_tile = min(key_tile, head_dim)
    /// ```
    ///
    /// At least 1 each. Keys, values, queries and results fill the memory, and the scores of a tile take a
    /// quarter more at most; the paper leaves such constants out.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_attention::io_count::Tiles;
    ///
    /// let tiles = Tiles::for_flash1(64 * 1024, 64);
    /// assert_eq!((tiles.query_tile, tiles.key_tile), (64, 256));
    /// ```
    ///
    /// Source: Dao et al., arXiv:2205.14135v2, algorithm 1, line 1.
    #[must_use]
    pub fn for_flash1(memory: usize, head_dim: usize) -> Self {
        let key_tile = memory.div_ceil(head_dim.saturating_mul(4).max(1)).max(1);
        Self {
            query_tile: key_tile.min(head_dim).max(1),
            key_tile,
        }
    }

    /// The same with both exchanged: the outer loop, which is that of the queries now, gets the large tile.
    ///
    /// The second paper leaves tile sizes to tuning. With those of the first, `head_dim` queries at
    /// most, keys and values would be read `seq / head_dim` times however much memory there is.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_attention::io_count::Tiles;
    ///
    /// let tiles = Tiles::for_flash2(64 * 1024, 64);
    /// assert_eq!((tiles.query_tile, tiles.key_tile), (256, 64));
    /// ```
    #[must_use]
    pub fn for_flash2(memory: usize, head_dim: usize) -> Self {
        let first = Self::for_flash1(memory, head_dim);
        Self {
            query_tile: first.key_tile,
            key_tile: first.query_tile,
        }
    }

    fn check(self) -> Result<(), AttentionError> {
        let Self {
            query_tile,
            key_tile,
        } = self;
        if query_tile == 0 || key_tile == 0 {
            return Err(AttentionError::Tile {
                query_tile,
                key_tile,
            });
        }
        Ok(())
    }
}

impl IoCount {
    /// Elements moved in either direction.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.read.saturating_add(self.written)
    }

    /// What [`standard`] moves.
    ///
    /// ```text
    /// read = n d + m d + 2 n m + m e,   written = 2 n m + n e
    /// ```
    ///
    /// # Example
    ///
    /// ```
    /// use llm_attention::io_count::{IoCount, Sizes, Tiles};
    ///
    /// // 4096 tokens in a head of 64, and room for 64 Ki numbers in fast memory.
    /// let sizes = Sizes { seq: 4096, kv_seq: 4096, head_dim: 64, value_dim: 64 };
    /// let standard = IoCount::of_standard(sizes).total();
    /// let flash1 = IoCount::of_flash1(sizes, Tiles::for_flash1(1 << 16, 64)).total();
    /// let flash2 = IoCount::of_flash2(sizes, Tiles::for_flash2(1 << 16, 64)).total();
    /// assert_eq!(standard, 4 * 4096 * 4096 + 4 * 4096 * 64);
    /// assert!(standard > 4 * flash1 && flash1 > flash2);
    /// ```
    #[must_use]
    pub const fn of_standard(sizes: Sizes) -> Self {
        let [n, m, d, e] = sizes.numbers();
        let pairs = n.saturating_mul(m);
        Self {
            read: sum(&[product(n, d), product(m, d), pairs, pairs, product(m, e)]),
            written: sum(&[pairs, pairs, product(n, e)]),
        }
    }

    /// What [`flash1`] moves, with `c = ceil(m / key_tile)`.
    ///
    /// ```text
    /// read = m (d + e) + c n (d + e + 2),   written = (c + 1) n (e + 2)
    /// ```
    ///
    /// # Example
    ///
    /// See [`of_standard`](Self::of_standard).
    #[must_use]
    pub const fn of_flash1(sizes: Sizes, tiles: Tiles) -> Self {
        let [n, m, d, e] = sizes.numbers();
        let passes = count(m, tiles.key_tile);
        let both = d.saturating_add(e);
        let kept = product(n, e.saturating_add(2));
        Self {
            read: sum(&[
                product(m, both),
                product(passes, product(n, both.saturating_add(2))),
            ]),
            written: product(passes.saturating_add(1), kept),
        }
    }

    /// What [`flash2`] moves, with `r = ceil(n / query_tile)`.
    ///
    /// ```text
    /// read = n d + r m (d + e),   written = n (e + 1)
    /// ```
    ///
    /// # Example
    ///
    /// See [`of_standard`](Self::of_standard).
    #[must_use]
    pub const fn of_flash2(sizes: Sizes, tiles: Tiles) -> Self {
        let [n, m, d, e] = sizes.numbers();
        let passes = count(n, tiles.query_tile);
        Self {
            read: sum(&[
                product(n, d),
                product(passes, product(m, d.saturating_add(e))),
            ]),
            written: product(n, e.saturating_add(1)),
        }
    }
}

impl Sizes {
    const fn numbers(self) -> [usize; 4] {
        [self.seq, self.kv_seq, self.head_dim, self.value_dim]
    }

    fn new(
        q: &ArrayRef2<f64>,
        k: &ArrayRef2<f64>,
        v: &ArrayRef2<f64>,
    ) -> Result<Self, AttentionError> {
        let ((seq, head_dim), (kv_seq, value_dim)) = (q.dim(), (k.nrows(), v.ncols()));
        for (name, expected, array) in [("k", [kv_seq, head_dim], k), ("v", [kv_seq, value_dim], v)]
        {
            let got = array.dim().into();
            if got != expected {
                return Err(AttentionError::MatrixShape {
                    name,
                    expected,
                    got,
                });
            }
        }
        memory::fits::<f64>([1, 1, seq, value_dim])?;
        Ok(Self {
            seq,
            kv_seq,
            head_dim,
            value_dim,
        })
    }

    fn scale(self) -> f64 {
        1.0 / (self.head_dim.max(1) as f64).sqrt()
    }
}

const fn product(a: usize, b: usize) -> usize {
    a.saturating_mul(b)
}

const fn sum(terms: &[usize]) -> usize {
    let (mut sum, mut i) = (0_usize, 0);
    while i < terms.len() {
        sum = sum.saturating_add(terms[i]);
        i += 1;
    }
    sum
}

/// How many tiles cover a length. A tile of no rows, which the functions refuse, counts as one of 1.
const fn count(length: usize, tile: usize) -> usize {
    length.div_ceil(if tile == 0 { 1 } else { tile })
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
    tile.check()?;
    let (n, e) = (sizes.seq, sizes.value_dim);
    let io = std::cell::Cell::default();
    let (q, k, v) = (Slow::new(q, &io), Slow::new(k, &io), Slow::new(v, &io));
    let mut out = Slow::empty(n, e, &io)?;
    let mut sums = Slow::empty(n, 1, &io)?;
    let mut maxima = Slow::empty(n, 1, &io)?;
    out.store(0..n, &Array2::zeros((n, e)));
    sums.store(0..n, &Array2::zeros((n, 1)));
    maxima.store(0..n, &Array2::from_elem((n, 1), f64::NEG_INFINITY));

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
    tile.check()?;
    let (n, e) = (sizes.seq, sizes.value_dim);
    let io = std::cell::Cell::default();
    let (q, k, v) = (Slow::new(q, &io), Slow::new(k, &io), Slow::new(v, &io));
    let mut out = Slow::empty(n, e, &io)?;
    let mut lse = Slow::empty(n, 1, &io)?;

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
