//! A quantized cache in a file: codes, groups and waiting tokens of each row.

use std::io::{Read, Write};

use half::f16;

use super::{Input, Kind, Output, limit, product};
use crate::KvCacheError;
use crate::affine::{Group, MOST};
use crate::kivi::{KiviCache, KiviConfig, Row};

impl KiviCache {
    /// Writes the cache; see [`ContiguousCache::save`](crate::ContiguousCache::save).
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Io`] if writing fails; the cache has not changed.
    pub fn save(&self, to: impl Write) -> Result<(), KvCacheError> {
        let mut output = Output::new(to, Kind::Kivi, 32)?;
        let config = self.config();
        let [n_kv_heads, head_dim, value_dim] = self.sizes();
        output.sizes(&[self.batch(), n_kv_heads, head_dim, value_dim])?;
        output.sizes(&[config.bits as usize, config.group, config.residual])?;
        output.end_section()?;
        for row in self.rows() {
            output.sizes(&[row.len, row.quantized_keys, row.quantized_values])?;
            output.end_section()?;
            output.bytes(&row.key_codes)?;
            output.bytes(&row.value_codes)?;
            for group in row.key_groups.iter().chain(&row.value_groups) {
                output.bytes(&group.scale.to_le_bytes())?;
                output.bytes(&group.min.to_le_bytes())?;
            }
            for x in row.waiting_keys.iter().chain(&row.waiting_values) {
                output.bytes(&x.to_le_bytes())?;
            }
            output.end_section()?;
        }
        output.finish()
    }

    /// Reads a cache that [`save`](Self::save) wrote; see [`ContiguousCache::load`](crate::ContiguousCache::load).
    ///
    /// # Errors
    ///
    /// As there, and [`KvCacheError::Setting`] for settings that no cache has.
    pub fn load(from: impl Read, max_bytes: usize) -> Result<Self, KvCacheError> {
        let mut input = Input::new(from, Kind::Kivi, 32)?;
        let mut sizes = [0; 7];
        let names = [
            "batch",
            "n_kv_heads",
            "head_dim",
            "value_dim",
            "bits",
            "group",
            "residual",
        ];
        for (size, name) in sizes.iter_mut().zip(names) {
            *size = input.size(name, u32::MAX as usize)?;
        }
        input.end_section("lengths")?;
        let [
            batch,
            n_kv_heads,
            head_dim,
            value_dim,
            bits,
            group,
            residual,
        ] = sizes;
        let config = KiviConfig::new(bits as u32, group, residual);
        limit(
            &[product(&[batch, size_of::<Row>()], max_bytes)?],
            max_bytes,
        )?;
        // Checks the settings before anything is computed with them.
        let empty = Self::new(0, n_kv_heads, head_dim, value_dim, &config)?;
        let strides = empty.strides();
        let mut rows = Vec::new();
        let mut taken = batch * size_of::<Row>();
        for _ in 0..batch {
            let len = input.size("length", isize::MAX as usize)?;
            let quantized_keys = input.size("quantized keys", len)?;
            let quantized_values = input.size("quantized values", len)?;
            if !quantized_keys.is_multiple_of(group) {
                return Err(KvCacheError::FileInconsistent {
                    name: "quantized keys",
                    rule: "a multiple of group",
                    got: quantized_keys as u64,
                });
            }
            input.end_section("tokens")?;
            // As when tokens are appended: all of them must be countable, with features or without.
            product(&[len, n_kv_heads, head_dim.max(value_dim), 4], max_bytes)?;
            let channels = product(&[quantized_keys / group, strides.channels], max_bytes)?;
            let heads = product(&[quantized_values, n_kv_heads], max_bytes)?;
            let key_codes = product(&[channels, strides.channel], max_bytes)?;
            let value_codes = product(&[heads, strides.value], max_bytes)?;
            let value_groups = product(&[heads, strides.value_groups], max_bytes)?;
            let waiting_keys = product(&[len - quantized_keys, n_kv_heads, head_dim], max_bytes)?;
            let waiting_values =
                product(&[len - quantized_values, n_kv_heads, value_dim], max_bytes)?;
            let parts = [
                taken,
                key_codes,
                value_codes,
                product(&[channels, 4], max_bytes)?,
                product(&[value_groups, 4], max_bytes)?,
                product(&[waiting_keys, 4], max_bytes)?,
                product(&[waiting_values, 4], max_bytes)?,
            ];
            limit(&parts, max_bytes)?;
            taken = parts.iter().sum();
            let row = Row {
                len,
                quantized_keys,
                quantized_values,
                key_codes: input.bytes(key_codes)?,
                value_codes: input.bytes(value_codes)?,
                key_groups: groups(&input.bytes(4 * channels)?),
                value_groups: groups(&input.bytes(4 * value_groups)?),
                waiting_keys: floats(&input.bytes(4 * waiting_keys)?),
                waiting_values: floats(&input.bytes(4 * waiting_values)?),
            };
            input.end_section("lengths")?;
            check(&row)?;
            rows.push(row);
        }
        Ok(empty.with_rows(rows))
    }
}

/// Refuses numbers that no appending leaves behind.
fn check(row: &Row) -> Result<(), KvCacheError> {
    let mut groups = row.key_groups.iter().chain(&row.value_groups);
    groups.try_for_each(|group| group.check())?;
    let mut waiting = row.waiting_keys.iter().chain(&row.waiting_values);
    match waiting.find(|x| !(x.abs() <= MOST)) {
        None => Ok(()),
        Some(x) => Err(KvCacheError::FileInconsistent {
            name: "waiting number",
            rule: "at most 65504 in absolute value",
            got: x.to_bits().into(),
        }),
    }
}

fn groups(bytes: &[u8]) -> Vec<Group> {
    let group = |bytes: &[u8]| Group {
        scale: f16::from_le_bytes([bytes[0], bytes[1]]),
        min: f16::from_le_bytes([bytes[2], bytes[3]]),
    };
    bytes.chunks_exact(4).map(group).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    bytes.chunks_exact(4).map(float).collect()
}
