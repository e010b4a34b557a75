//! The shape of a token, and what all stores check against it.

use ndarray::ArrayRef4;

use crate::KvCacheError;

/// The sizes of a token's key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenShape {
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
}

impl TokenShape {
    /// Refuses keys and values, `[kv_heads, seq, features]`, of other tokens or of different numbers of them.
    pub(crate) fn check(self, k: [usize; 3], v: [usize; 3]) -> Result<(), KvCacheError> {
        let Self {
            n_kv_heads,
            head_dim,
            value_dim,
        } = self;
        let [k_heads, seq, k_dim] = k;
        if k_heads != n_kv_heads || k_dim != head_dim {
            return Err(KvCacheError::KeyShape {
                n_kv_heads,
                head_dim,
                got: k,
            });
        }
        if v != [n_kv_heads, seq, value_dim] {
            return Err(KvCacheError::ValueShape {
                n_kv_heads,
                seq,
                value_dim,
                got: v,
            });
        }
        Ok(())
    }
}

/// The shapes of one row, of keys and values for all of a batch.
pub(crate) fn of_rows<E>(
    batch: usize,
    k: &ArrayRef4<E>,
    v: &ArrayRef4<E>,
) -> Result<([usize; 3], [usize; 3]), KvCacheError> {
    let (keys, k_heads, seq, k_dim) = k.dim();
    let (values, v_heads, v_seq, v_dim) = v.dim();
    if keys != batch || values != batch {
        return Err(KvCacheError::Batch {
            expected: batch,
            keys,
            values,
        });
    }
    Ok(([k_heads, seq, k_dim], [v_heads, v_seq, v_dim]))
}

/// Refuses a list of sources that has not one for each sequence.
pub(crate) fn check_sources(batch: usize, got: usize) -> Result<(), KvCacheError> {
    if got != batch {
        return Err(KvCacheError::ReorderLen { batch, got });
    }
    Ok(())
}
