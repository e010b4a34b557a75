//! Sinks and a window in a file: a contiguous cache, and then a ring.

use std::io::{Read, Write};

use super::{Input, Kind, Output};
use crate::element::Element;
use crate::{ContiguousCache, KvCacheError, RingCache, SinkCache};

impl<E: Element> SinkCache<E> {
    /// Writes the cache; see [`ContiguousCache::save`](crate::ContiguousCache::save).
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Io`] if writing fails; the cache has not changed.
    pub fn save(&self, to: impl Write) -> Result<(), KvCacheError> {
        let mut output = Output::new(to, Kind::Sinks, E::CODE)?;
        let (sinks, ring) = self.parts();
        sinks.write(&mut output)?;
        ring.write_file(&mut output)?;
        output.finish()
    }

    /// Reads a cache that [`save`](Self::save) wrote; see [`ContiguousCache::load`](crate::ContiguousCache::load).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn load(from: impl Read, max_bytes: usize) -> Result<Self, KvCacheError> {
        let mut input = Input::new(from, Kind::Sinks, E::CODE)?;
        let sinks = ContiguousCache::read(&mut input, max_bytes)?;
        let ring = RingCache::read_file(&mut input, max_bytes.saturating_sub(sinks.bytes()))?;
        let same = |name, got: usize, expected: usize| {
            let (got, bound) = (got as u64, expected as u64);
            if got == bound {
                return Ok(());
            }
            Err(KvCacheError::FileField {
                name,
                min: bound,
                max: bound,
                got,
            })
        };
        same("batch of the window", ring.batch(), sinks.batch())?;
        same(
            "n_kv_heads of the window",
            ring.n_kv_heads(),
            sinks.n_kv_heads(),
        )?;
        same("head_dim of the window", ring.head_dim(), sinks.head_dim())?;
        same(
            "value_dim of the window",
            ring.value_dim(),
            sinks.value_dim(),
        )?;
        for row in 0..sinks.batch() {
            // The window begins where the sinks are full.
            if ring.seen(row)? > 0 {
                same("number of sinks", sinks.len(row)?, sinks.capacity())?;
            }
            let most = usize::MAX - 1 - sinks.capacity();
            let got = ring.seen(row)?;
            if got > most {
                return Err(KvCacheError::FileField {
                    name: "tokens seen",
                    min: 0,
                    max: most as u64,
                    got: got as u64,
                });
            }
        }
        Ok(Self::from_parts(sinks, ring))
    }
}
