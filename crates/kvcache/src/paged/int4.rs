//! Pages of 4-bit integers with a step and a least value for each token and head.

use std::ops::Range;

use half::f16;
use ndarray::{Array4, ArrayView3, ArrayViewMut3, Axis, s};

use super::KeysValues;
use super::data::Pages;
use super::data::sealed::{PageArray, Store as _};
use super::float::copy_token;
use crate::KvCacheError;
use crate::affine::{Group, check, pack, unpack};
use crate::error::Largest;
use crate::memory::zeros;

/// The pages of one layer in 4 bits.
///
/// ```text
/// min   = min_d x_d, rounded down to f16           (for each token and head)
/// scale = (max_d x_d - min) / 15, rounded up to f16
/// x     = min + scale * code,  code = round((x - min) / scale) in 0..=15
/// ```
///
/// Attention does not read them where they lie: they are widened, a page or a sequence at a time, by
/// [`read_page`](Self::read_page) or [`PagedCache::gather`](super::PagedCache::gather).
///
/// # Shapes
///
/// - codes: `[n_pages, kv_heads, page_size, ceil(head_dim / 2)]` bytes, the even feature in the lower half
/// - scales and least values: `[n_pages, kv_heads, page_size]`
///
/// # Precision
///
/// A number is off by at most half its step, and the rounding of `f32`. Numbers above 65504 in
/// absolute value and NaN are refused.
pub type Int4Pages = Pages<Int4Array>;

/// Keys or values of the pages.
#[derive(Clone, Debug)]
pub struct Int4Array {
    codes: Array4<u8>,   // [n_pages, kv_heads, page_size, ceil(features / 2)]
    groups: Array4<f16>, // [n_pages, kv_heads, page_size, 2]: scale, least value
}

const BITS: u32 = 4;

impl Int4Pages {
    /// The first `n` places of a page, widened.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, n, head_dim]` and `[kv_heads, n, value_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Setting`] if there is no such page, or `n` is above `page_size`; [`KvCacheError::Size`] and
    /// [`KvCacheError::Allocation`] for the arrays.
    pub fn read_page(&self, page: usize, n: usize) -> Result<KeysValues<f32>, KvCacheError> {
        for (name, rule, got, end) in [
            ("page", "below n_pages", page, self.shape.n_pages),
            ("n", "at most page_size", n, self.shape.page_size + 1),
        ] {
            if got >= end {
                return Err(KvCacheError::Setting { name, rule, got });
            }
        }
        let heads = self.shape.n_kv_heads;
        let array = |features| Ok(zeros([1, heads, n, features])?.remove_axis(Axis(0)));
        let mut k = array(self.shape.head_dim)?;
        let mut v = array(self.shape.value_dim)?;
        self.read(page, 0..n, k.view_mut(), v.view_mut());
        Ok((k, v))
    }
}

impl PageArray for Int4Array {
    type Input = f32;

    const KIND: u64 = 17;

    fn new([n_pages, n_kv_heads, page_size, features]: [usize; 4]) -> Result<Self, KvCacheError> {
        Ok(Self {
            codes: zeros([n_pages, n_kv_heads, page_size, features.div_ceil(2)])?,
            groups: zeros([n_pages, n_kv_heads, page_size, 2])?,
        })
    }

    fn check(name: &'static str, x: ArrayView3<'_, f32>) -> Result<(), KvCacheError> {
        check(name, x, Largest::F16)
    }

    fn write(&mut self, page: usize, place: usize, x: ArrayView3<'_, f32>) {
        for (head, x) in x.outer_iter().enumerate() {
            for (token, x) in x.outer_iter().enumerate() {
                let place = place + token;
                let group = Group::of(x.iter().copied(), BITS);
                self.groups[[page, head, place, 0]] = group.scale;
                self.groups[[page, head, place, 1]] = group.min;
                let mut codes = self.codes.slice_mut(s![page, head, place, ..]);
                if let Some(codes) = codes.as_slice_mut() {
                    pack(x.iter().map(|&x| group.code(x, BITS)), BITS, codes);
                }
            }
        }
    }

    fn clear(&mut self, page: usize, places: Range<usize>) {
        let places = s![page, .., places, ..];
        self.codes.slice_mut(places).fill(0);
        self.groups.slice_mut(places).fill(f16::ZERO);
    }

    fn copy(&mut self, from: (usize, usize), to: (usize, usize)) {
        copy_token(&mut self.codes, from, to);
        copy_token(&mut self.groups, from, to);
    }

    fn read(&self, page: usize, places: Range<usize>, mut x: ArrayViewMut3<'_, f32>) {
        for (head, mut x) in x.outer_iter_mut().enumerate() {
            for (place, mut x) in places.clone().zip(x.outer_iter_mut()) {
                let group = Group {
                    scale: self.groups[[page, head, place, 0]],
                    min: self.groups[[page, head, place, 1]],
                };
                let codes = self.codes.slice(s![page, head, place, ..]);
                let codes = codes.to_slice().unwrap_or_default();
                for (i, x) in x.iter_mut().enumerate() {
                    *x = group.value(unpack(codes, i, BITS));
                }
            }
        }
    }

    fn take(&mut self, old: &Self, n: usize) {
        let pages = s![..n, .., .., ..];
        self.codes.slice_mut(pages).assign(&old.codes.slice(pages));
        self.groups
            .slice_mut(pages)
            .assign(&old.groups.slice(pages));
    }

    fn token_bytes(features: usize) -> Option<usize> {
        features.div_ceil(2).checked_add(2 * size_of::<f16>())
    }

    fn save(&self, page: usize, bytes: &mut Vec<u8>) {
        bytes.extend(self.codes.index_axis(Axis(0), page));
        for x in self.groups.index_axis(Axis(0), page) {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
    }

    fn load<'a>(&mut self, page: usize, bytes: &'a [u8]) -> Result<&'a [u8], KvCacheError> {
        let mut codes = self.codes.index_axis_mut(Axis(0), page);
        let (of_codes, rest) = bytes.split_at(codes.len().min(bytes.len()));
        codes.iter_mut().zip(of_codes).for_each(|(x, y)| *x = *y);
        let mut groups = self.groups.index_axis_mut(Axis(0), page);
        let (of_groups, rest) = rest.split_at((2 * groups.len()).min(rest.len()));
        for (x, bytes) in groups.iter_mut().zip(of_groups.chunks_exact(2)) {
            *x = f16::from_le_bytes([bytes[0], bytes[1]]);
        }
        self.check_page(page)?;
        Ok(rest)
    }

    fn bytes(&self) -> usize {
        self.codes.len() + self.groups.len() * size_of::<f16>()
    }
}

impl Int4Array {
    /// Refuses groups of a page that no numbers give.
    fn check_page(&self, page: usize) -> Result<(), KvCacheError> {
        let groups = self.groups.index_axis(Axis(0), page);
        (groups.rows().into_iter()).try_for_each(|group| {
            let (scale, min) = (group[0], group[1]);
            Group { scale, min }.check()
        })
    }
}
