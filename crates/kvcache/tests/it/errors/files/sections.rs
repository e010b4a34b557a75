//! Where the sections of a file end, found from its bytes alone, and checksums made right again.

use std::ops::Range;

use crc32fast::Hasher;
use llm_kvcache::KvCacheError;

use super::stores::Store;

/// Goes through the bytes of a file; the checksums are those four bytes that are the sum of all before them, but for other
/// checksums.
struct Walk<'a> {
    file: &'a [u8],
    at: usize,
    sum: Hasher,
}

impl<'a> Walk<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self {
            file,
            at: 0,
            sum: Hasher::new(),
        }
    }

    /// The next place for which this is true of the sum and the four bytes there, if there is one.
    fn find(&mut self, is_wanted: impl Fn(u32, [u8; 4]) -> bool) -> Option<usize> {
        while let Some(bytes) = self.file[self.at..].first_chunk::<4>() {
            if is_wanted(self.sum.clone().finalize(), *bytes) {
                self.at += 4;
                return Some(self.at - 4);
            }
            self.sum.update(&bytes[..1]);
            self.at += 1;
        }
        None
    }
}

/// The sections, without their checksums.
pub(super) fn sections(file: &[u8]) -> Vec<Range<usize>> {
    let mut walk = Walk::new(file);
    let mut sections = Vec::new();
    let mut start = 0;
    while let Some(end) = walk.find(|sum, bytes| bytes == sum.to_le_bytes()) {
        sections.push(start..end);
        start = end + 4;
    }
    assert_eq!(start, file.len(), "a file ends with a checksum");
    sections
}

/// Makes all checksums of a file right again, as somebody would who wants to do harm: wherever one does not match, the
/// one that the error names is put in its place. Returns what then comes of it.
pub(super) fn forge(
    store: &Store,
    file: &mut [u8],
    max_bytes: usize,
) -> Result<Vec<u8>, KvCacheError> {
    for _ in 0..100 {
        match (store.load)(&mut &file[..], max_bytes) {
            Err(KvCacheError::FileChecksum { expected, got, .. }) => {
                let wrong = expected.to_le_bytes();
                let mut walk = Walk::new(file);
                let at = loop {
                    let found = walk.find(|sum, bytes| {
                        bytes == sum.to_le_bytes() || (bytes == wrong && sum == got)
                    });
                    let at = found.expect("a checksum is the sum of what is before it");
                    if file[at..at + 4] == wrong {
                        break at;
                    }
                };
                file[at..at + 4].copy_from_slice(&got.to_le_bytes());
            }
            other => return other,
        }
    }
    panic!("a file has fewer sections");
}
