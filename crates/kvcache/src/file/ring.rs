//! A ring in a file: which tokens each row holds, and those tokens in their order.

use std::io::{Read, Write};

use ndarray::Array3;

use super::contiguous::write_tokens;
use super::{Input, Kind, Output, limit, product};
use crate::KvCacheError;
use crate::element::Element;
use crate::ring::{RingCache, RingConfig};

impl<E: Element> RingCache<E> {
    /// Writes the cache; see [`ContiguousCache::save`](crate::ContiguousCache::save).
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Io`] if writing fails; the cache has not changed.
    pub fn save(&self, to: impl Write) -> Result<(), KvCacheError> {
        let mut output = Output::new(to, Kind::Ring, E::CODE)?;
        self.write_file(&mut output)?;
        output.finish()
    }

    /// Reads a cache that [`save`](Self::save) wrote; see [`ContiguousCache::load`](crate::ContiguousCache::load).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn load(from: impl Read, max_bytes: usize) -> Result<Self, KvCacheError> {
        Self::read_file(&mut Input::new(from, Kind::Ring, E::CODE)?, max_bytes)
    }

    pub(super) fn write_file<W: Write>(&self, output: &mut Output<W>) -> Result<(), KvCacheError> {
        output.sizes(&[
            self.batch(),
            self.n_kv_heads(),
            self.window(),
            self.capacity() - self.window(),
            self.head_dim(),
            self.value_dim(),
        ])?;
        output.end_section()?;
        for row in 0..self.batch() {
            output.sizes(&[self.first_position(row)?, self.seen(row)?])?;
        }
        output.end_section()?;
        for row in 0..self.batch() {
            // Heads come first, so that the parts must be joined.
            let (keys, values) = (self.ordered_keys(row)?, self.ordered_values(row)?);
            write_tokens(output, &[keys.view(), values.view()])?;
        }
        Ok(())
    }

    pub(super) fn read_file<R: Read>(
        input: &mut Input<R>,
        max_bytes: usize,
    ) -> Result<Self, KvCacheError> {
        let mut sizes = [0; 6];
        let names = [
            "batch",
            "n_kv_heads",
            "window",
            "slack",
            "head_dim",
            "value_dim",
        ];
        for (size, name) in sizes.iter_mut().zip(names) {
            let least = u64::from(name == "window");
            *size = input.number(name, least, isize::MAX as u64)? as usize;
        }
        input.end_section("positions")?;
        let [batch, n_kv_heads, window, slack, head_dim, value_dim] = sizes;
        let capacity = window + slack; // both are below half of the range
        let array = |features| {
            product(
                &[batch, n_kv_heads, capacity, features, size_of::<E>()],
                max_bytes,
            )
        };
        let lists = product(
            &[batch, 2 * size_of::<usize>() + size_of::<Vec<u8>>()],
            max_bytes,
        )?;
        limit(&[array(head_dim)?, array(value_dim)?, lists], max_bytes)?;

        let mut rows = Vec::new();
        for _ in 0..batch {
            let first = input.size("first position", usize::MAX - 1)?;
            let most = first.saturating_add(capacity).min(usize::MAX - 1);
            // What the next query sees must be there. A window is at least one token long.
            let least = match first {
                0 => Some(0),
                _ => first.checked_add(window - 1).filter(|&n| n <= most),
            };
            let least = least.ok_or(KvCacheError::FileInconsistent {
                name: "first position",
                rule: "one whose window can be counted",
                got: first as u64,
            })?;
            let seen = input.number("tokens seen", least as u64, most as u64)?;
            rows.push((first, seen as usize));
        }
        input.end_section("tokens")?;
        let mut data = Vec::new();
        for &(first, seen) in &rows {
            let [k, v] =
                [head_dim, value_dim].map(|features| n_kv_heads * (seen - first) * features);
            data.push((k, input.bytes((k + v) * size_of::<E>())?));
            input.end_section("tokens")?;
        }
        let config = RingConfig::new(batch, n_kv_heads, window, head_dim)
            .with_slack(slack)
            .with_value_dim(value_dim);
        let mut cache = Self::new(&config)?;
        for (row, ((first, seen), (k, bytes))) in rows.into_iter().zip(data).enumerate() {
            let numbers = |bytes: &[u8]| {
                bytes
                    .chunks_exact(size_of::<E>())
                    .map(E::read_from)
                    .collect()
            };
            let (of_keys, of_values) = bytes.split_at(k * size_of::<E>());
            let (keys, values): (Vec<E>, Vec<E>) = (numbers(of_keys), numbers(of_values));
            let shape = |features| [n_kv_heads, seen - first, features];
            let keys = Array3::from_shape_vec(shape(head_dim), keys);
            let values = Array3::from_shape_vec(shape(value_dim), values);
            if let (Ok(keys), Ok(values)) = (keys, values) {
                cache.restore(row, first, &keys, &values);
            }
        }
        Ok(cache)
    }
}
