//! Pages of floating-point numbers, as attention reads them where they lie.

use std::ops::Range;

use ndarray::{Array4, ArrayRef4, ArrayView3, ArrayViewMut3, s};

use super::data::PageShape;
use super::data::sealed::Store;
use crate::KvCacheError;
use crate::element::Element;
use crate::memory::zeros;

/// The pages of one layer in `f32`, `f64`, `f16` or `bf16`. Bits are kept.
///
/// # Shapes
///
/// - keys: `[n_pages, kv_heads, page_size, head_dim]`, row-major
/// - values: `[n_pages, kv_heads, page_size, value_dim]`, row-major
#[derive(Clone, Debug)]
pub struct FloatPages<E> {
    k: Array4<E>,
    v: Array4<E>,
    shape: PageShape,
}

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

impl<E: Element> Store for FloatPages<E> {
    type Input = E;

    const KIND: u64 = E::CODE;

    fn new(shape: PageShape) -> Result<Self, KvCacheError> {
        Ok(Self {
            k: zeros(shape.keys())?,
            v: zeros(shape.values())?,
            shape,
        })
    }

    fn shape(&self) -> PageShape {
        self.shape
    }

    fn check(_: ArrayView3<'_, E>, _: ArrayView3<'_, E>) -> Result<(), KvCacheError> {
        Ok(())
    }

    fn write(&mut self, page: usize, place: usize, k: ArrayView3<'_, E>, v: ArrayView3<'_, E>) {
        let places = s![page, .., place..place + k.dim().1, ..];
        self.k.slice_mut(places).assign(&k);
        self.v.slice_mut(places).assign(&v);
    }

    fn clear(&mut self, page: usize, places: Range<usize>) {
        let places = s![page, .., places, ..];
        self.k.slice_mut(places).fill(E::zero());
        self.v.slice_mut(places).fill(E::zero());
    }

    fn copy(&mut self, from: (usize, usize), to: (usize, usize)) {
        copy_token(&mut self.k, from, to);
        copy_token(&mut self.v, from, to);
    }

    fn read(
        &self,
        page: usize,
        places: Range<usize>,
        mut k: ArrayViewMut3<'_, E>,
        mut v: ArrayViewMut3<'_, E>,
    ) {
        let places = s![page, .., places, ..];
        k.assign(&self.k.slice(places));
        v.assign(&self.v.slice(places));
    }

    fn resized(&self, n_pages: usize) -> Result<Self, KvCacheError> {
        let mut new = Self::new(PageShape {
            n_pages,
            ..self.shape
        })?;
        let kept = s![..n_pages.min(self.shape.n_pages), .., .., ..];
        new.k.slice_mut(kept).assign(&self.k.slice(kept));
        new.v.slice_mut(kept).assign(&self.v.slice(kept));
        Ok(new)
    }

    fn page_bytes(shape: PageShape) -> Option<usize> {
        let features = shape.head_dim.checked_add(shape.value_dim)?;
        shape
            .n_kv_heads
            .checked_mul(shape.page_size)?
            .checked_mul(features)?
            .checked_mul(size_of::<E>())
    }

    fn save_page(&self, page: usize, bytes: &mut Vec<u8>) {
        for array in [&self.k, &self.v] {
            for &x in array.slice(s![page, .., .., ..]) {
                x.write_to(bytes);
            }
        }
    }

    fn load_page(&mut self, page: usize, bytes: &[u8]) -> Result<(), KvCacheError> {
        let mut numbers = bytes.chunks_exact(size_of::<E>()).map(E::read_from);
        for array in [&mut self.k, &mut self.v] {
            let mut page = array.slice_mut(s![page, .., .., ..]);
            page.iter_mut().zip(&mut numbers).for_each(|(x, y)| *x = y);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        (self.k.len() + self.v.len()) * size_of::<E>()
    }
}

/// Copies one place of `[n_pages, kv_heads, page_size, features]` to another.
pub(super) fn copy_token<E: Copy>(array: &mut Array4<E>, from: (usize, usize), to: (usize, usize)) {
    if from == to {
        return;
    }
    let (_, n_kv_heads, page_size, features) = array.dim();
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
