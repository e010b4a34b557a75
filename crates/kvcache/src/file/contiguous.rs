//! A contiguous cache in a file: lengths, and then the tokens of each row, not its empty room.

use std::io::{Read, Write};

use ndarray::{Array4, ArrayView3, s};

use super::{Input, Kind, Output, limit, product};
use crate::element::Element;
use crate::{ContiguousCache, KvCacheError};

impl<E: Element> ContiguousCache<E> {
    /// Writes the cache.
    ///
    /// # Errors
    ///
    /// [`KvCacheError::Io`] if writing fails; the cache has not changed.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_kvcache::{ContiguousCache, KvCacheError};
    /// use ndarray::Array3;
    ///
    /// let mut cache = ContiguousCache::<f32>::new(1, 2, 8, 4, 4)?;
    /// cache.append(0, &Array3::ones([2, 3, 4]), &Array3::zeros([2, 3, 4]))?;
    /// let mut file = Vec::new();
    /// cache.save(&mut file)?;
    ///
    /// let again = ContiguousCache::<f32>::load(&file[..], 1 << 20)?; // at most a mebibyte
    /// assert_eq!(again.keys(0)?, cache.keys(0)?);
    ///
    /// file[100] ^= 1;
    /// let error = ContiguousCache::<f32>::load(&file[..], 1 << 20).unwrap_err();
    /// assert!(matches!(error, KvCacheError::FileChecksum { .. }));
    /// # Ok::<(), KvCacheError>(())
    /// ```
    pub fn save(&self, to: impl Write) -> Result<(), KvCacheError> {
        let mut output = Output::new(to, Kind::Contiguous, E::CODE)?;
        self.write(&mut output)?;
        output.finish()
    }

    /// Reads a cache that [`save`](Self::save) wrote; what follows it is not read.
    ///
    /// # Errors
    ///
    /// - [`KvCacheError::FileLimit`] if the cache would take more than `max_bytes`.
    /// - [`KvCacheError::FileMagic`], [`KvCacheError::FileKind`], [`KvCacheError::FileTruncated`],
    ///   [`KvCacheError::FileChecksum`], [`KvCacheError::FileField`], [`KvCacheError::FileInconsistent`] for another
    ///   file, or a damaged one.
    /// - [`KvCacheError::Io`], [`KvCacheError::Allocation`].
    pub fn load(from: impl Read, max_bytes: usize) -> Result<Self, KvCacheError> {
        Self::read(&mut Input::new(from, Kind::Contiguous, E::CODE)?, max_bytes)
    }

    pub(super) fn write<W: Write>(&self, output: &mut Output<W>) -> Result<(), KvCacheError> {
        output.sizes(&[
            self.batch(),
            self.n_kv_heads(),
            self.capacity(),
            self.head_dim(),
            self.value_dim(),
            self.block.unwrap_or(0),
        ])?;
        output.end_section()?;
        output.sizes(&self.lengths)?;
        output.end_section()?;
        for row in 0..self.batch() {
            write_tokens(output, &[self.keys(row)?, self.values(row)?])?;
        }
        Ok(())
    }

    pub(super) fn read<R: Read>(
        input: &mut Input<R>,
        max_bytes: usize,
    ) -> Result<Self, KvCacheError> {
        let mut sizes = [0; 6];
        let names = [
            "batch",
            "n_kv_heads",
            "capacity",
            "head_dim",
            "value_dim",
            "block",
        ];
        for (size, name) in sizes.iter_mut().zip(names) {
            *size = input.size(name, isize::MAX as usize)?;
        }
        input.end_section("lengths")?;
        let [batch, n_kv_heads, capacity, head_dim, value_dim, block] = sizes;
        let array = |features| {
            product(
                &[batch, n_kv_heads, capacity, features, size_of::<E>()],
                max_bytes,
            )
        };
        let lists = product(
            &[batch, size_of::<usize>() + size_of::<Vec<u8>>()],
            max_bytes,
        )?;
        limit(&[array(head_dim)?, array(value_dim)?, lists], max_bytes)?;

        let mut lengths = Vec::new();
        for _ in 0..batch {
            lengths.push(input.size("length", capacity)?);
        }
        input.end_section("tokens")?;
        let mut data = Vec::new();
        for &len in &lengths {
            let [k, v] = [head_dim, value_dim].map(|features| n_kv_heads * len * features);
            data.push(input.bytes((k + v) * size_of::<E>())?);
            input.end_section("tokens")?;
        }
        let mut cache = Self::new(batch, n_kv_heads, capacity, head_dim, value_dim)?;
        for (row, (len, bytes)) in lengths.iter().zip(data).enumerate() {
            let mut numbers = bytes.chunks_exact(size_of::<E>()).map(E::read_from);
            for array in [&mut cache.keys, &mut cache.values] {
                fill(array, row, *len, &mut numbers);
            }
        }
        cache.lengths = lengths;
        cache.block = (block > 0).then_some(block);
        Ok(cache)
    }
}

/// Writes arrays as one section.
pub(super) fn write_tokens<E: Element, W: Write>(
    output: &mut Output<W>,
    parts: &[ArrayView3<'_, E>],
) -> Result<(), KvCacheError> {
    let mut bytes = Vec::new();
    for part in parts {
        for row in part.rows() {
            bytes.clear();
            row.iter().for_each(|x| x.write_to(&mut bytes));
            output.bytes(&bytes)?;
        }
    }
    output.end_section()
}

/// The first tokens of a row.
fn fill<E: Element>(
    array: &mut Array4<E>,
    row: usize,
    len: usize,
    numbers: &mut impl Iterator<Item = E>,
) {
    let mut tokens = array.slice_mut(s![row, .., ..len, ..]);
    tokens.iter_mut().zip(numbers).for_each(|(x, y)| *x = y);
}
