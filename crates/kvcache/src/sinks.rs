//! Sinks and a window: the first tokens of a sequence stay, the newest stay, those between go.

use ndarray::{Array3, ArrayRef3, ArrayRef4, ArrayViewMut3, Axis, concatenate, s};
use num_traits::Zero;

use crate::contiguous::ContiguousCache;
use crate::ring::{RingCache, RingConfig};
use crate::{KvCacheError, token};

/// The first `n_sinks` tokens of each sequence and the newest `window + slack`.
///
/// Models put much attention on their first tokens, whatever those say; without them a window
/// alone makes nonsense. What is between is forgotten, and positions are counted *in the cache*:
/// the sinks have 0 to `n_sinks - 1`, and the window follows at once. So keys need the rotation of
/// their place in the cache, which changes. There are two ways, and this crate rotates in neither
/// of them: the caller's closure does.
///
/// - Append keys **before** their rotation, and read them with [`keys_by_place`](Self::keys_by_place),
///   which asks for the rotation of the places `0, 1, …`.
/// - Append keys rotated by the position that they have in the sequence, and read them with
///   [`keys_with_moved_sinks`](Self::keys_with_moved_sinks): only distances count, so it is enough to turn the sinks
///   by the number of tokens that were forgotten. The query keeps its position in the sequence.
///
/// With slack, a row holds up to `window + slack` tokens behind its sinks, and all functions return all of them: more
/// than a query may see. So attention needs a mask by position then: a query at position `p` of the sequence sees the
/// sinks and the keys from `p + 1 - window` to `p`, and [`positions`](Self::positions) says which those are.
///
/// # Invariants
///
/// - A row holds tokens `0 .. min(n_sinks, seen)` and those of its ring.
/// - A call that returns an error has changed nothing.
///
/// # Example
///
/// ```
/// use llm_kvcache::ring::RingConfig;
/// use llm_kvcache::sinks::SinkCache;
/// use ndarray::{Array3, array};
///
/// // One sink, a window of two, for one sequence and one head of one feature.
/// let mut cache = SinkCache::<f32>::new(1, &RingConfig::new(1, 1, 2, 1))?;
/// let k = Array3::from_shape_fn([1, 5, 1], |(_, t, _)| t as f32);
/// cache.append(0, &k, &k)?;
/// assert_eq!(cache.positions(0)?, [0, 3, 4]);
/// assert_eq!(cache.forgotten(0)?, 2);
///
/// // A "rotation" that can be read: it adds the place.
/// let keys = cache.keys_by_place(0, |mut keys| {
///     for (place, mut key) in keys.axis_iter_mut(ndarray::Axis(1)).enumerate() {
///         key += 10.0 * place as f32;
///     }
/// })?;
/// assert_eq!(keys, array![[[0.0], [13.0], [24.0]]]);
/// # Ok::<(), llm_kvcache::KvCacheError>(())
/// ```
///
/// Source: Xiao et al., `StreamingLLM`, arXiv:2309.17453v4, section 3.2.
#[derive(Clone, Debug)]
pub struct SinkCache<E> {
    sinks: ContiguousCache<E>, // n_sinks tokens
    ring: RingCache<E>,        // what follows them
}

impl<E: Copy + Zero> SinkCache<E> {
    /// An empty cache with all its memory: sinks, and a ring for what follows them. `n_sinks` may be 0.
    ///
    /// # Errors
    ///
    /// As [`RingCache::new`].
    pub fn new(n_sinks: usize, config: &RingConfig) -> Result<Self, KvCacheError> {
        let RingConfig {
            batch,
            n_kv_heads,
            head_dim,
            value_dim,
            ..
        } = *config;
        Ok(Self {
            ring: RingCache::new(config)?,
            sinks: ContiguousCache::new(batch, n_kv_heads, n_sinks, head_dim, value_dim)?,
        })
    }

    /// Adds tokens to one sequence.
    ///
    /// # Shapes
    ///
    /// - `k`: `[kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`], [`KvCacheError::KeyShape`], [`KvCacheError::ValueShape`] and
    /// [`KvCacheError::Seen`].
    pub fn append(
        &mut self,
        row: usize,
        k: &ArrayRef3<E>,
        v: &ArrayRef3<E>,
    ) -> Result<(), KvCacheError> {
        self.check_append(row, k.dim().into(), v.dim().into())?;
        self.write(row, k, v)
    }

    /// Adds as many tokens to every sequence, or none to any.
    ///
    /// # Shapes
    ///
    /// - `k`: `[batch, kv_heads, seq, head_dim]`, any strides, `seq` may be 0
    /// - `v`: `[batch, kv_heads, seq, value_dim]`, any strides
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Batch`], and those of [`append`](Self::append).
    pub fn append_all(&mut self, k: &ArrayRef4<E>, v: &ArrayRef4<E>) -> Result<(), KvCacheError> {
        let (k_shape, v_shape) = token::of_rows(self.batch(), k, v)?;
        for row in 0..self.batch() {
            self.check_append(row, k_shape, v_shape)?;
        }
        for (row, (k, v)) in k.outer_iter().zip(v.outer_iter()).enumerate() {
            self.write(row, &k, &v)?;
        }
        Ok(())
    }

    /// The keys of one sequence, in order, rotated by the closure as tokens `0 .. kv_seq`.
    ///
    /// The keys were appended before their rotation. The closure gets all of them, and turns the
    /// key at index `i` to position `i`. The next query has position `kv_seq - 1` if its own key is among
    /// them.
    ///
    /// # Shapes
    ///
    /// - closure: `[kv_heads, kv_seq, head_dim]`
    /// - returns: the same
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn keys_by_place(
        &self,
        row: usize,
        rotate: impl FnOnce(ArrayViewMut3<'_, E>),
    ) -> Result<Array3<E>, KvCacheError> {
        let mut keys = self.stored_keys(row)?;
        rotate(keys.view_mut());
        Ok(keys)
    }

    /// The keys of one sequence, in order, with the sinks turned on by the closure.
    ///
    /// The keys were appended with the rotation of their position in the sequence, and so are the
    /// queries. The closure gets the sinks alone and the number of positions to move them up by,
    /// which is [`forgotten`](Self::forgotten): then they are as far from the window as if nothing had been between.
    /// The work does not grow with the window.
    ///
    /// # Shapes
    ///
    /// - closure: `[kv_heads, sinks, head_dim]` and the distance
    /// - returns: `[kv_heads, kv_seq, head_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn keys_with_moved_sinks(
        &self,
        row: usize,
        rotate: impl FnOnce(ArrayViewMut3<'_, E>, usize),
    ) -> Result<Array3<E>, KvCacheError> {
        let mut keys = self.stored_keys(row)?;
        let n_sinks = self.sinks.len(row)?;
        rotate(keys.slice_mut(s![.., ..n_sinks, ..]), self.forgotten(row)?);
        Ok(keys)
    }

    /// The keys of one sequence as they were appended, in order.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, head_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn stored_keys(&self, row: usize) -> Result<Array3<E>, KvCacheError> {
        let [older, newer] = self.ring.key_parts(row)?;
        let sinks = self.sinks.keys(row)?;
        // The parts differ only in their second axis, so that this cannot fail.
        Ok(concatenate(Axis(1), &[sinks, older, newer]).unwrap_or_else(|_| sinks.to_owned()))
    }

    /// The values of one sequence, in order.
    ///
    /// # Shapes
    ///
    /// - returns: `[kv_heads, kv_seq, value_dim]`
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn values(&self, row: usize) -> Result<Array3<E>, KvCacheError> {
        let [older, newer] = self.ring.value_parts(row)?;
        let sinks = self.sinks.values(row)?;
        Ok(concatenate(Axis(1), &[sinks, older, newer]).unwrap_or_else(|_| sinks.to_owned()))
    }

    /// Positions in the sequence of the tokens that are held.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn positions(&self, row: usize) -> Result<Vec<usize>, KvCacheError> {
        let n_sinks = self.n_sinks();
        let first = n_sinks + self.ring.first_position(row)?;
        let end = n_sinks + self.ring.seen(row)?;
        Ok((0..self.sinks.len(row)?).chain(first..end).collect())
    }

    /// Tokens between the sinks and the window that are no longer held.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn forgotten(&self, row: usize) -> Result<usize, KvCacheError> {
        self.ring.first_position(row)
    }

    /// Tokens that a sequence has seen: the position of the next.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn seen(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.sinks.len(row)? + self.ring.seen(row)?)
    }

    /// Tokens that a sequence holds.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Row`] if there is no such row.
    pub fn len(&self, row: usize) -> Result<usize, KvCacheError> {
        Ok(self.sinks.len(row)? + self.ring.len(row)?)
    }

    /// Keeps the tokens before position `seen`, as after a rejected guess.
    ///
    /// # Errors
    ///
    /// As [`RingCache::crop`].
    pub fn crop(&mut self, row: usize, seen: usize) -> Result<(), KvCacheError> {
        let held = self.seen(row)?;
        if seen > held {
            return Err(KvCacheError::CropLen {
                row,
                len: held,
                got: seen,
            });
        }
        let n_sinks = self.n_sinks();
        let of_ring = seen.saturating_sub(n_sinks);
        self.ring.crop(row, of_ring).map_err(|error| match error {
            KvCacheError::CropLost { needed, oldest, .. } => KvCacheError::CropLost {
                row,
                got: seen,
                needed: needed + n_sinks,
                oldest: oldest + n_sinks,
            },
            other => other,
        })?;
        self.sinks.crop(row, seen.min(self.sinks.len(row)?))
    }

    /// Replaces every sequence `i` by what sequence `rows[i]` was: the survivors of a beam search.
    ///
    /// # Errors
    ///
    /// As [`RingCache::reorder`].
    pub fn reorder(&mut self, rows: &[usize]) -> Result<(), KvCacheError> {
        token::check_sources(self.batch(), rows.len())?;
        *self = self.select(rows)?;
        Ok(())
    }

    /// A new cache whose sequence `i` is sequence `rows[i]` of this one.
    ///
    /// # Errors
    ///
    /// As [`RingCache::select`].
    pub fn select(&self, rows: &[usize]) -> Result<Self, KvCacheError> {
        Ok(Self {
            sinks: self.sinks.select(rows)?,
            ring: self.ring.select(rows)?,
        })
    }

    /// Forgets all tokens of all sequences; the memory stays.
    pub fn clear(&mut self) {
        self.sinks.clear();
        self.ring.clear();
    }

    /// True if no sequence holds a token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty() && self.ring.is_empty()
    }

    /// Number of sequences.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.sinks.batch()
    }

    /// Tokens at the start of a sequence that stay.
    #[must_use]
    pub fn n_sinks(&self) -> usize {
        self.sinks.capacity()
    }

    /// Tokens behind the sinks that a query sees, its own included.
    #[must_use]
    pub fn window(&self) -> usize {
        self.ring.window()
    }

    /// Bytes of keys and values together, used or not.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sinks.bytes() + self.ring.bytes()
    }

    pub(crate) fn parts(&self) -> (&ContiguousCache<E>, &RingCache<E>) {
        (&self.sinks, &self.ring)
    }

    pub(crate) fn from_parts(sinks: ContiguousCache<E>, ring: RingCache<E>) -> Self {
        Self { sinks, ring }
    }

    /// As the ring's, whose count is behind the sinks: so the whole can be counted too.
    fn check_append(&self, row: usize, k: [usize; 3], v: [usize; 3]) -> Result<(), KvCacheError> {
        self.ring.check_append(row, k, v)?;
        let seen = self.seen(row)?;
        match seen.checked_add(k[1]) {
            Some(n) if n < usize::MAX => Ok(()),
            _ => Err(KvCacheError::Seen {
                row,
                seen,
                seq: k[1],
            }),
        }
    }

    /// Writes tokens that were checked.
    fn write(
        &mut self,
        row: usize,
        k: &ArrayRef3<E>,
        v: &ArrayRef3<E>,
    ) -> Result<(), KvCacheError> {
        let seq = k.dim().1;
        let first = seq.min(self.n_sinks() - self.sinks.len(row)?);
        let (sinks, rest) = (s![.., ..first, ..], s![.., first.., ..]);
        self.sinks.append(row, &k.slice(sinks), &v.slice(sinks))?;
        self.ring.write(row, &k.slice(rest), &v.slice(rest));
        Ok(())
    }
}
