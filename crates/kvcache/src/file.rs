//! Caches in files: a header, sections with checksums, and nothing believed before it was checked.
//!
//! ```text
//! file    = magic (8 bytes), version, store, elements, sizes …, checksum, section …
//! section = numbers and bytes, checksum
//! ```
//!
//! Numbers are u64, lowest byte first. A checksum is the CRC-32 of all bytes of the file before
//! it, but for other checksums: so sections cannot change places, nor follow the header of another file. (A sum that
//! went over checksums too would be the same after each of them, whatever was before.) It finds accidents, not
//! forgeries: who may write the file may write anything that a cache can hold. What no cache can be is refused
//! whatever the checksum says.
//!
//! Loading takes `max_bytes`, and a file that asks for more is refused: what the header says, before anything is
//! allocated; what is only said further on (the rows of KIVI, salts, lists of pages, tokens of prefixes), before memory is
//! taken for that. Data is read in pieces, so that a file that claims to be long costs no more memory
//! than it has bytes; the store is made when all of them are right. So while a file is
//! loaded, its tokens are in memory twice.
//!
//! Numbers are read and written one by one, some of them 4 or 8 bytes long: give a file in a
//! [`BufReader`](std::io::BufReader) or a [`BufWriter`](std::io::BufWriter).

mod contiguous;
mod kivi;
mod pool;
mod ring;
mod sinks;

use std::io::{ErrorKind, Read, Write};

use crc32fast::Hasher;

use crate::KvCacheError;

const MAGIC: [u8; 8] = *b"llmkvc\r\n";
const VERSION: u64 = 1;
/// Bytes that are read at once.
const PIECE: usize = 1 << 16;

/// The stores, as files number them.
#[derive(Clone, Copy)]
enum Kind {
    Contiguous = 1,
    Ring = 2,
    Sinks = 3,
    Pool = 4,
    Kivi = 5,
}

/// What is written, and the sum of it without the checksums.
struct Output<W> {
    to: W,
    sum: Hasher,
}

impl<W: Write> Output<W> {
    fn new(to: W, kind: Kind, elements: u64) -> Result<Self, KvCacheError> {
        let sum = Hasher::new();
        let mut output = Self { to, sum };
        output.bytes(&MAGIC)?;
        output.numbers(&[VERSION, kind as u64, elements])?;
        Ok(output)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), KvCacheError> {
        self.sum.update(bytes);
        self.to.write_all(bytes).map_err(io)
    }

    fn numbers(&mut self, numbers: &[u64]) -> Result<(), KvCacheError> {
        numbers
            .iter()
            .try_for_each(|number| self.bytes(&number.to_le_bytes()))
    }

    fn sizes(&mut self, sizes: &[usize]) -> Result<(), KvCacheError> {
        sizes
            .iter()
            .try_for_each(|&size| self.numbers(&[size as u64]))
    }

    /// Writes the checksum, which is no part of the sum.
    fn end_section(&mut self) -> Result<(), KvCacheError> {
        let sum = self.sum.clone().finalize();
        self.to.write_all(&sum.to_le_bytes()).map_err(io)
    }

    fn finish(mut self) -> Result<(), KvCacheError> {
        self.to.flush().map_err(io)
    }
}

/// What is read, and the sum of it without the checksums.
struct Input<R> {
    from: R,
    sum: Hasher,
    section: &'static str,
}

impl<R: Read> Input<R> {
    fn new(from: R, kind: Kind, elements: u64) -> Result<Self, KvCacheError> {
        let mut input = Self {
            from,
            sum: Hasher::new(),
            section: "header",
        };
        let mut got = [0; 8];
        input.exact(&mut got)?;
        if got != MAGIC {
            return Err(KvCacheError::FileMagic {
                expected: MAGIC,
                got,
            });
        }
        for (name, expected) in [
            ("version", VERSION),
            ("store", kind as u64),
            ("elements", elements),
        ] {
            let got = input.any_number()?;
            if got != expected {
                return Err(KvCacheError::FileKind {
                    name,
                    expected,
                    got,
                });
            }
        }
        Ok(input)
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), KvCacheError> {
        self.fill(bytes)?;
        self.sum.update(bytes);
        Ok(())
    }

    /// Reads bytes that are no part of the sum.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), KvCacheError> {
        let section = self.section;
        self.from
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => KvCacheError::FileTruncated { section },
                kind => KvCacheError::Io { kind },
            })
    }

    fn any_number(&mut self) -> Result<u64, KvCacheError> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number that must lie between two others, both included.
    fn number(&mut self, name: &'static str, min: u64, max: u64) -> Result<u64, KvCacheError> {
        let got = self.any_number()?;
        if (min..=max).contains(&got) {
            Ok(got)
        } else {
            Err(KvCacheError::FileField {
                name,
                min,
                max,
                got,
            })
        }
    }

    /// A number of at most `max` things in memory.
    fn size(&mut self, name: &'static str, max: usize) -> Result<usize, KvCacheError> {
        Ok(self.number(name, 0, max as u64)? as usize)
    }

    /// Bytes, in memory that grows with what has come.
    fn bytes(&mut self, n: usize) -> Result<Vec<u8>, KvCacheError> {
        let mut bytes = Vec::new();
        self.more_bytes(n, &mut bytes)?;
        Ok(bytes)
    }

    /// [`bytes`](Self::bytes), behind others.
    fn more_bytes(&mut self, n: usize, bytes: &mut Vec<u8>) -> Result<(), KvCacheError> {
        let mut left = n;
        while left > 0 {
            let start = bytes.len();
            let piece = PIECE.min(left);
            let refused = |_| KvCacheError::Allocation { bytes: n };
            bytes.try_reserve(piece).map_err(refused)?;
            bytes.resize(start + piece, 0);
            self.exact(&mut bytes[start..])?;
            left -= piece;
        }
        Ok(())
    }

    /// Compares the checksum, and goes on to the next section.
    fn end_section(&mut self, next: &'static str) -> Result<(), KvCacheError> {
        let got = self.sum.clone().finalize();
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        let expected = u32::from_le_bytes(bytes);
        if got != expected {
            return Err(KvCacheError::FileChecksum {
                section: self.section,
                expected,
                got,
            });
        }
        self.section = next;
        Ok(())
    }
}

fn io(error: std::io::Error) -> KvCacheError {
    KvCacheError::Io { kind: error.kind() }
}

/// A product of sizes, or the error that the file wants too much.
///
/// Zeros count as one in the check, as they do where arrays are made: none of the products on the way may overflow either.
fn product(factors: &[usize], max_bytes: usize) -> Result<usize, KvCacheError> {
    (factors.iter())
        .try_fold(1_usize, |n, &x| n.checked_mul(x.max(1)))
        .map(|_| factors.iter().product())
        .ok_or(KvCacheError::FileLimit {
            limit: max_bytes as u64,
            needed: u64::MAX,
        })
}

/// Refuses a sum of bytes that is above the limit.
fn limit(parts: &[usize], max_bytes: usize) -> Result<(), KvCacheError> {
    let needed = parts
        .iter()
        .try_fold(0_usize, |n, &x| n.checked_add(x))
        .map_or(u64::MAX, |n| n as u64);
    if needed > max_bytes as u64 {
        return Err(KvCacheError::FileLimit {
            limit: max_bytes as u64,
            needed,
        });
    }
    Ok(())
}
