//! Quantized keys and values as numbers again: a whole sequence, or a piece in the caller's buffer.

use std::ops::Range;

use ndarray::{ArrayViewMut3, Axis};

use super::KiviCache;
use super::row::Strides;
use crate::KvCacheError;
use crate::memory::zeros;
use crate::paged::KeysValues;
use crate::token::TokenShape;

impl KiviCache {
    /// The keys and values of a sequence, widened.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, len, head_dim]` and `[kv_heads, len, value_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::Size`], and [`KvCacheError::Allocation`] if the allocator refuses.
    pub fn gather(&self, row: usize) -> Result<KeysValues<f32>, KvCacheError> {
        let len = self.row(row)?.len;
        let TokenShape {
            n_kv_heads,
            head_dim,
            value_dim,
        } = self.shape;
        let array = |features| Ok(zeros([1, n_kv_heads, len, features])?.remove_axis(Axis(0)));
        let (mut k, mut v) = (array(head_dim)?, array(value_dim)?);
        self.read(row, 0..len, k.view_mut(), v.view_mut())?;
        Ok((k, v))
    }

    /// Some tokens of a sequence, widened into buffers: attention can go through a long cache in pieces
    /// and merge their results, and needs memory for one piece.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, tokens.len(), head_dim]`
    /// - `v`: `[kv_heads, tokens.len(), value_dim]`
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::Row`] if there is no such row.
    /// - [`KvCacheError::ReadRange`] if the tokens end behind the sequence, or before they start.
    /// - [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`] for the buffers.
    pub fn read(
        &self,
        row: usize,
        tokens: Range<usize>,
        mut k: ArrayViewMut3<'_, f32>,
        mut v: ArrayViewMut3<'_, f32>,
    ) -> Result<(), KvCacheError> {
        let state = self.row(row)?;
        if tokens.start > tokens.end || tokens.end > state.len {
            return Err(KvCacheError::ReadRange {
                row,
                len: state.len,
                start: tokens.start,
                end: tokens.end,
            });
        }
        self.shape.check(k.dim().into(), v.dim().into())?;
        if k.dim().1 != tokens.len() {
            return Err(KvCacheError::KeyShape {
                n_kv_heads: self.shape.n_kv_heads,
                head_dim: self.shape.head_dim,
                got: k.dim().into(),
            });
        }
        let (shape, config) = (self.shape, self.config);
        let strides = Strides::new(shape, config);
        for ((head, token, feature), x) in k.indexed_iter_mut() {
            let channel = head * shape.head_dim + feature;
            *x = state.key(tokens.start + token, channel, strides, config);
        }
        for ((head, token, feature), x) in v.indexed_iter_mut() {
            let at = [tokens.start + token, head, feature];
            *x = state.value(at, shape, strides, config);
        }
        Ok(())
    }
}
