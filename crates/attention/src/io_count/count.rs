//! What is counted, and the sums that say beforehand what it will be.

use ndarray::ArrayRef2;

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

    pub(super) fn check(self, sizes: Sizes) -> Result<(), AttentionError> {
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
        let (rows, columns) = (query_tile.min(sizes.seq), key_tile.min(sizes.kv_seq));
        memory::fits::<f64>([1, 1, rows, columns])
    }
}

impl IoCount {
    /// Elements moved in either direction.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.read.saturating_add(self.written)
    }

    /// What [`standard`](super::standard) moves.
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

    /// What [`flash1`](super::flash1) moves, with `c = ceil(m / key_tile)`.
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

    /// What [`flash2`](super::flash2) moves, with `r = ceil(n / query_tile)`.
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

    pub(super) fn new(
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
        for shape in [
            (seq, head_dim),
            (kv_seq, head_dim),
            (kv_seq, value_dim),
            (seq, value_dim),
        ] {
            memory::fits::<f64>([1, 1, shape.0, shape.1])?;
        }
        Ok(Self {
            seq,
            kv_seq,
            head_dim,
            value_dim,
        })
    }

    pub(super) fn scale(self) -> f64 {
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
