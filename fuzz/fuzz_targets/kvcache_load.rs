//! Any bytes as a file of each store: a typed error, or a cache within the limit that is the same after it was saved and loaded again.

#![no_main]

use std::fmt::Debug;
use std::io::{Cursor, Read, Result};

use libfuzzer_sys::fuzz_target;
use llm_kvcache::paged::{FloatPages, Int4Pages, Int8Pages, PageData, PagedCache, PrefixHash};
use llm_kvcache::{ContiguousCache, KiviCache, KvCacheError, RingCache, SinkCache};
use llm_numerics::half::f16;

/// Bytes that a cache may take.
const LIMIT: usize = 1 << 20;

/// A file whose checksums are right where four bytes are read at once: else nothing behind the header would ever be reached.
struct Forged<'a> {
    bytes: Cursor<&'a [u8]>,
    sum: u32,
    forges: bool,
}

impl Read for Forged<'_> {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        if self.forges && to.len() == 4 {
            to.copy_from_slice(&(!self.sum).to_le_bytes());
            return Ok(4);
        }
        let n = self.bytes.read(to)?;
        for &byte in &to[..n] {
            self.sum ^= u32::from(byte);
            for _ in 0..8 {
                let polynomial = if self.sum & 1 == 1 { 0xedb8_8320 } else { 0 };
                self.sum = self.sum >> 1 ^ polynomial;
            }
        }
        Ok(n)
    }
}

/// Loads, and if that succeeds saves and loads again: the second file is the first one.
fn check<C: Debug>(
    file: Forged<'_>,
    load: impl Fn(&mut dyn Read, usize) -> std::result::Result<C, KvCacheError>,
    save: impl Fn(&C, &mut Vec<u8>) -> std::result::Result<(), KvCacheError>,
    bytes: impl Fn(&C) -> usize,
) {
    let mut file = file;
    let cache = match load(&mut file, LIMIT) {
        Ok(cache) => cache,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(bytes(&cache) <= LIMIT);
    let mut saved = Vec::new();
    save(&cache, &mut saved).expect("memory takes all that is written");
    let again = load(&mut saved.as_slice(), LIMIT).expect("what was saved can be loaded");
    let mut second = Vec::new();
    save(&again, &mut second).expect("memory takes all that is written");
    assert_eq!(saved, second);
}

fn check_pool<P: PageData>(file: Forged<'_>) {
    check::<PagedCache<P>>(
        file,
        |from, limit| PagedCache::load(from, PrefixHash::default(), limit),
        |cache, to| cache.save(to),
        PagedCache::bytes,
    );
}

fuzz_target!(|input: (u8, bool, bool, Vec<u8>)| {
    let (store, has_header, forges, body) = input;
    // The store and the elements, as files number them.
    let [kind, elements] = match store % 8 {
        0 => [1, 1],
        1 => [1, 3],
        2 => [2, 1],
        3 => [3, 1],
        4 => [4, 1],
        5 => [4, 16],
        6 => [4, 17],
        _ => [5, 32_u64],
    };
    let mut bytes = Vec::new();
    if has_header {
        bytes.extend_from_slice(b"llmkvc\r\n");
        for number in [1, kind, elements] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&body);
    let file = Forged {
        bytes: Cursor::new(&bytes),
        sum: u32::MAX,
        forges,
    };
    match store % 8 {
        0 => check::<ContiguousCache<f32>>(
            file,
            |from, limit| ContiguousCache::load(from, limit),
            |cache, to| cache.save(to),
            ContiguousCache::bytes,
        ),
        1 => check::<ContiguousCache<f16>>(
            file,
            |from, limit| ContiguousCache::load(from, limit),
            |cache, to| cache.save(to),
            ContiguousCache::bytes,
        ),
        2 => check::<RingCache<f32>>(
            file,
            |from, limit| RingCache::load(from, limit),
            |cache, to| cache.save(to),
            RingCache::bytes,
        ),
        3 => check::<SinkCache<f32>>(
            file,
            |from, limit| SinkCache::load(from, limit),
            |cache, to| cache.save(to),
            SinkCache::bytes,
        ),
        4 => check_pool::<FloatPages<f32>>(file),
        5 => check_pool::<Int8Pages>(file),
        6 => check_pool::<Int4Pages>(file),
        _ => check::<KiviCache>(
            file,
            |from, limit| KiviCache::load(from, limit),
            |cache, to| cache.save(to),
            KiviCache::bytes,
        ),
    }
});
