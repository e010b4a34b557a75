//! Pages of floating-point numbers, as attention reads them where they lie.

use std::ops::Range;

use ndarray::{Array4, ArrayRef4, ArrayView3, ArrayViewMut3, Axis, s};

use super::data::Pages;
use super::data::sealed::PageArray;
use crate::KvCacheError;
use crate::element::Element;
use crate::memory::zeros;

/// The pages of one layer in `f32`, `f64`, `f16` or `bf16`. Bits are kept.
///
/// # Shapes
///
/// - keys: `[n_pages, kv_heads, page_size, head_dim]`, row-major
/// - values: `[n_pages, kv_heads, page_size, value_dim]`, row-major
pub type FloatPages<E> = Pages<Array4<E>>;

impl<E> FloatPages<E> {
    /// The keys of all pages.
    #[must_use]
    pub fn k(&self) -> &ArrayRef4<E> {
        &self.k
    }

    /// The values of all pages.
    #[must_use]
    pub fn v(&self) -> &ArrayRef4<E> {
        &self.v
    }
}

impl<E: Element> PageArray for Array4<E> {
    type Input = E;

    const KIND: u64 = E::CODE;

    fn new(shape: [usize; 4]) -> Result<Self, KvCacheError> {
        zeros(shape)
    }

    fn check(_: &'static str, _: ArrayView3<'_, E>) -> Result<(), KvCacheError> {
        Ok(())
    }

    fn write(&mut self, page: usize, place: usize, x: ArrayView3<'_, E>) {
        self.slice_mut(s![page, .., place..place + x.dim().1, ..])
            .assign(&x);
    }

    fn clear(&mut self, page: usize, places: Range<usize>) {
        self.slice_mut(s![page, .., places, ..]).fill(E::zero());
    }

    fn copy(&mut self, from: (usize, usize), to: (usize, usize)) {
        copy_token(self, from, to);
    }

    fn read(&self, page: usize, places: Range<usize>, mut x: ArrayViewMut3<'_, E>) {
        x.assign(&self.slice(s![page, .., places, ..]));
    }

    fn take(&mut self, old: &Self, n_pages: usize) {
        let pages = s![..n_pages, .., .., ..];
        self.slice_mut(pages).assign(&old.slice(pages));
    }

    fn token_bytes(features: usize) -> Option<usize> {
        features.checked_mul(size_of::<E>())
    }

    fn save(&self, page: usize, bytes: &mut Vec<u8>) {
        for &x in self.index_axis(Axis(0), page) {
            x.write_to(bytes);
        }
    }

    fn load<'a>(&mut self, page: usize, bytes: &'a [u8]) -> Result<&'a [u8], KvCacheError> {
        let mut page = self.index_axis_mut(Axis(0), page);
        let (numbers, rest) = bytes.split_at((size_of::<E>() * page.len()).min(bytes.len()));
        for (x, bytes) in page.iter_mut().zip(numbers.chunks_exact(size_of::<E>())) {
            *x = E::read_from(bytes);
        }
        Ok(rest)
    }

    fn bytes(&self) -> usize {
        self.len() * size_of::<E>()
    }
}

/// Copies one place of `[n_pages, kv_heads, page_size, features]` to another.
pub(super) fn copy_token<E: Copy>(array: &mut Array4<E>, from: (usize, usize), to: (usize, usize)) {
    let (_, n_kv_heads, page_size, features) = array.dim();
    if from == to || features == 0 {
        return; // without features there may be any number of heads
    }
    let Some(data) = array.as_slice_mut() else {
        return; // row-major by construction
    };
    for head in 0..n_kv_heads {
        let at = |(page, place): (usize, usize)| {
            ((page * n_kv_heads + head) * page_size + place) * features
        };
        data.copy_within(at(from)..at(from) + features, at(to));
    }
}
