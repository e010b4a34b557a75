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

/// The pages of one layer: an array of keys and one of values.
#[derive(Clone, Debug)]
pub struct Pages<A> {
    pub(super) k: A,
    pub(super) v: A,
    pub(super) shape: PageShape,
}

/// The pages of one layer: [`FloatPages`](super::FloatPages), [`Int8Pages`](super::Int8Pages) or
/// [`Int4Pages`](super::Int4Pages). Sealed.
pub trait PageData: sealed::Store + Clone + Debug {}

impl<A: sealed::PageArray> PageData for Pages<A> {}

impl<A: sealed::PageArray> sealed::Store for Pages<A> {
    type Input = A::Input;

    const KIND: u64 = A::KIND;

    fn new(shape: PageShape) -> Result<Self, KvCacheError> {
        Ok(Self {
            k: A::new(shape.keys())?,
            v: A::new(shape.values())?,
            shape,
        })
    }

    fn shape(&self) -> PageShape {
        self.shape
    }

    fn check(k: ArrayView3<'_, A::Input>, v: ArrayView3<'_, A::Input>) -> Result<(), KvCacheError> {
        A::check("k", k)?;
        A::check("v", v)
    }

    fn write(
        &mut self,
        page: usize,
        place: usize,
        k: ArrayView3<'_, A::Input>,
        v: ArrayView3<'_, A::Input>,
    ) {
        self.k.write(page, place, k);
        self.v.write(page, place, v);
    }

    fn clear(&mut self, page: usize, places: Range<usize>) {
        self.k.clear(page, places.clone());
        self.v.clear(page, places);
    }

    fn copy(&mut self, from: (usize, usize), to: (usize, usize)) {
        self.k.copy(from, to);
        self.v.copy(from, to);
    }

    fn read(
        &self,
        page: usize,
        places: Range<usize>,
        k: ArrayViewMut3<'_, A::Input>,
        v: ArrayViewMut3<'_, A::Input>,
    ) {
        self.k.read(page, places.clone(), k);
        self.v.read(page, places, v);
    }

    fn resized(&self, n_pages: usize) -> Result<Self, KvCacheError> {
        let mut new = Self::new(PageShape {
            n_pages,
            ..self.shape
        })?;
        let kept = n_pages.min(self.shape.n_pages);
        new.k.take(&self.k, kept);
        new.v.take(&self.v, kept);
        Ok(new)
    }

    fn page_bytes(shape: PageShape) -> Option<usize> {
        let of_token =
            A::token_bytes(shape.head_dim)?.checked_add(A::token_bytes(shape.value_dim)?)?;
        shape
            .n_kv_heads
            .checked_mul(shape.page_size)?
            .checked_mul(of_token)
    }

    fn save_page(&self, page: usize, bytes: &mut Vec<u8>) {
        self.k.save(page, bytes);
        self.v.save(page, bytes);
    }

    fn load_page(&mut self, page: usize, bytes: &[u8]) -> Result<(), KvCacheError> {
        let rest = self.k.load(page, bytes)?;
        self.v.load(page, rest)?;
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.k.bytes() + self.v.bytes()
    }
}

pub(crate) mod sealed {
    use super::{ArrayView3, ArrayViewMut3, Debug, KvCacheError, PageShape, Range, Zero};

    /// Keys or values of all pages of a layer, `[n_pages, kv_heads, page_size, features]`. Pages and places are in range, shapes fit.
    pub trait PageArray: Sized + Clone + Debug {
        /// What is written and read.
        type Input: Copy + Zero + 'static;

        /// The kind of pages, in files.
        const KIND: u64;

        /// Zeros.
        fn new(shape: [usize; 4]) -> Result<Self, KvCacheError>;

        /// Refuses numbers that cannot be stored.
        fn check(name: &'static str, x: ArrayView3<'_, Self::Input>) -> Result<(), KvCacheError>;

        /// Writes tokens, `[kv_heads, tokens, features]`, from a place of a page on.
        fn write(&mut self, page: usize, place: usize, x: ArrayView3<'_, Self::Input>);

        /// Sets places of a page to zero.
        fn clear(&mut self, page: usize, places: Range<usize>);

        /// Copies a token, bit by bit.
        fn copy(&mut self, from: (usize, usize), to: (usize, usize));

        /// Reads places of a page, `[kv_heads, tokens, features]`.
        fn read(&self, page: usize, places: Range<usize>, x: ArrayViewMut3<'_, Self::Input>);

        /// Takes over the first pages of others of the same sizes.
        fn take(&mut self, old: &Self, n_pages: usize);

        /// Bytes of a token and head in a file.
        fn token_bytes(features: usize) -> Option<usize>;

        /// Adds a page to bytes.
        fn save(&self, page: usize, bytes: &mut Vec<u8>);

        /// Reads a page, refuses what writing never makes, and returns the bytes that are left.
        fn load<'a>(&mut self, page: usize, bytes: &'a [u8]) -> Result<&'a [u8], KvCacheError>;

        /// Bytes of all arrays.
        fn bytes(&self) -> usize;
    }

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
