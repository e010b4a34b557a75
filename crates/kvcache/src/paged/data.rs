//! What the pages of one layer must be able to do, whatever number type they have.

use std::fmt::Debug;
use std::ops::Range;

use ndarray::{ArrayView3, ArrayViewMut3};
use num_traits::Zero;

use crate::KvCacheError;

/// Sizes of the pages of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageShape {
    /// Pages of the pool.
    pub n_pages: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Tokens of a page.
    pub page_size: usize,
    /// Features of a key.
    pub head_dim: usize,
    /// Features of a value.
    pub value_dim: usize,
}

impl PageShape {
    pub(super) fn keys(self) -> [usize; 4] {
        [self.n_pages, self.n_kv_heads, self.page_size, self.head_dim]
    }

    pub(super) fn values(self) -> [usize; 4] {
        [
            self.n_pages,
            self.n_kv_heads,
            self.page_size,
            self.value_dim,
        ]
    }
}

/// The pages of one layer: [`FloatPages`](super::FloatPages), [`Int8Pages`](super::Int8Pages) or
/// [`Int4Pages`](super::Int4Pages). Sealed.
pub trait PageData: sealed::Store + Clone + Debug {}

impl<P: sealed::Store + Clone + Debug> PageData for P {}

pub(crate) mod sealed {
    use super::{ArrayView3, ArrayViewMut3, KvCacheError, PageShape, Range, Zero};

    /// What only this crate calls. Pages and places are in range, shapes fit.
    pub trait Store: Sized {
        /// What is written and read.
        type Input: Copy + Zero + 'static;

        /// The kind of pages, in files.
        const KIND: u64;

        /// Pages of zeros.
        fn new(shape: PageShape) -> Result<Self, KvCacheError>;

        /// Their sizes.
        fn shape(&self) -> PageShape;

        /// Refuses numbers that cannot be stored.
        fn check(
            k: ArrayView3<'_, Self::Input>,
            v: ArrayView3<'_, Self::Input>,
        ) -> Result<(), KvCacheError>;

        /// Writes tokens, `[kv_heads, tokens, features]`, from a place of a page on.
        fn write(
            &mut self,
            page: usize,
            place: usize,
            k: ArrayView3<'_, Self::Input>,
            v: ArrayView3<'_, Self::Input>,
        );

        /// Sets places of a page to zero.
        fn clear(&mut self, page: usize, places: Range<usize>);

        /// Copies a token, bit by bit.
        fn copy(&mut self, from: (usize, usize), to: (usize, usize));

        /// Reads places of a page, `[kv_heads, tokens, features]`.
        fn read(
            &self,
            page: usize,
            places: Range<usize>,
            k: ArrayViewMut3<'_, Self::Input>,
            v: ArrayViewMut3<'_, Self::Input>,
        );

        /// Other pages of the same sizes, with what the first of the old ones held.
        fn resized(&self, n_pages: usize) -> Result<Self, KvCacheError>;

        /// Bytes of one page in a file.
        fn page_bytes(shape: PageShape) -> Option<usize>;

        /// Adds a page to bytes.
        fn save_page(&self, page: usize, bytes: &mut Vec<u8>);

        /// Reads a page from as many bytes as [`page_bytes`](Self::page_bytes), and refuses what writing
        /// never makes.
        fn load_page(&mut self, page: usize, bytes: &[u8]) -> Result<(), KvCacheError>;

        /// Bytes of all arrays.
        fn bytes(&self) -> usize;
    }
}
