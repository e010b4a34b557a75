//! Files that are cut, changed, forged or huge: a typed error, and no more memory than the caller gives.

use std::io::{self, Read, Write};

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{FloatPages, PagedCache, PoolConfig, PrefixHash};
use llm_kvcache::{ContiguousCache, KvCacheError, RingCache, SinkCache};
use ndarray::Array4;

const MAX: usize = 1 << 16;

/// What is done with a file of a store.
struct Store {
    name: &'static str,
    file: Vec<u8>,
    load: fn(&mut dyn Read, usize) -> Result<Vec<u8>, KvCacheError>,
}

type Pool = PagedCache<FloatPages<f32>>;

fn stores() -> Vec<Store> {
    let x = Array4::from_shape_fn([2, 2, 7, 3], |(b, h, t, d)| {
        (b * 97 + h * 31 + t * 5 + d) as f32
    });
    macro_rules! store {
        ($name:literal, $type:ty, $cache:expr) => {{
            let mut cache: $type = $cache;
            cache.append_all(&x, &x).unwrap();
            let mut file = Vec::new();
            cache.save(&mut file).unwrap();
            Store {
                name: $name,
                file,
                load: |from, max| {
                    let mut file = Vec::new();
                    <$type>::load(from, max)?.save(&mut file)?;
                    Ok(file)
                },
            }
        }};
    }
    let mut all = vec![
        store!(
            "contiguous",
            ContiguousCache<f32>,
            ContiguousCache::new(2, 2, 9, 3, 3).unwrap()
        ),
        store!(
            "growing",
            ContiguousCache<f32>,
            ContiguousCache::growing(2, 2, 4, 3, 3).unwrap()
        ),
        store!(
            "ring",
            RingCache<f32>,
            RingCache::new(2, 2, 3, 1, 3, 3).unwrap()
        ),
        store!(
            "sinks",
            SinkCache<f32>,
            SinkCache::new(2, 2, 2, 3, 1, 3, 3).unwrap()
        ),
        store!(
            "kivi",
            KiviCache,
            KiviCache::new(2, 2, 3, 3, &KiviConfig::new(2, 4, 0)).unwrap()
        ),
    ];
    let mut pool = Pool::new(&PoolConfig::new(1, 12, 2, 2, 3)).unwrap();
    let ids = [pool.create(b"one").unwrap(), pool.create(b"two").unwrap()];
    pool.append_batch(&ids, &[x.view()], &[x.view()]).unwrap();
    let tokens = [1, 2, 3, 4, 5, 6, 7];
    ids.iter().for_each(|&id| {
        pool.publish(id, &tokens).unwrap();
    });
    pool.fork(ids[0]).unwrap();
    pool.free(ids[1]).unwrap();
    let mut file = Vec::new();
    pool.save(&mut file).unwrap();
    all.push(Store {
        name: "pool",
        file,
        load: |from, max| {
            let mut file = Vec::new();
            Pool::load(from, PrefixHash::default(), max)?.save(&mut file)?;
            Ok(file)
        },
    });
    all
}

/// Gives what it has, and remembers how much was asked for.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = to.len().min(self.0.len()).min(3);
        to[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn a_file_comes_back_whole_and_what_follows_is_left() {
    for store in stores() {
        let followed = [&store.file[..], b"more"].concat();
        let mut left = &followed[..];
        assert_eq!(
            (store.load)(&mut left, MAX).as_ref(),
            Ok(&store.file),
            "{}",
            store.name
        );
        assert_eq!(left, b"more");
        assert_eq!((store.load)(&mut Pieces(&store.file), MAX), Ok(store.file));
    }
}

#[test]
fn a_file_that_ends_anywhere_is_refused() {
    for store in stores() {
        for end in 0..store.file.len() {
            let error = (store.load)(&mut &store.file[..end], MAX).unwrap_err();
            assert!(
                matches!(error, KvCacheError::FileTruncated { .. }),
                "{} {end}: {error}",
                store.name
            );
        }
    }
}

#[test]
fn a_file_with_any_bit_changed_is_refused() {
    for store in stores() {
        for at in 0..store.file.len() {
            for bit in [0, 3, 7] {
                let mut file = store.file.clone();
                file[at] ^= 1 << bit;
                let got = (store.load)(&mut &file[..], MAX);
                assert!(got.is_err(), "{}: byte {at}, bit {bit}", store.name);
            }
        }
    }
}

/// Makes all checksums of a file right again, as somebody would who wants to do harm: wherever one does not match, the
/// one that the error names is put in its place.
fn forge(store: &Store, file: &mut [u8]) -> Result<Vec<u8>, KvCacheError> {
    for _ in 0..100 {
        match (store.load)(&mut &file[..], MAX) {
            Err(KvCacheError::FileChecksum { expected, got, .. }) => {
                let wrong = expected.to_le_bytes();
                let place = (0..file.len() - 3)
                    .find(|&at| file[at..at + 4] == wrong && crc32fast::hash(&file[..at]) == got);
                let at = place.expect("a checksum is the sum of what is before it");
                file[at..at + 4].copy_from_slice(&got.to_le_bytes());
            }
            other => return other,
        }
    }
    panic!("a file has fewer sections");
}

#[test]
fn a_forged_file_is_a_cache_or_an_error() {
    for store in stores() {
        let mut accepted = 0;
        for at in 0..store.file.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut file = store.file.clone();
                file[at] = byte;
                // What is accepted can be saved, and read again.
                if let Ok(again) = forge(&store, &mut file) {
                    assert_eq!((store.load)(&mut &again[..], MAX), Ok(again.clone()));
                    accepted += 1;
                }
            }
        }
        // Numbers of tokens may be anything.
        assert!(
            accepted > store.file.len() / 4,
            "{}: {accepted}",
            store.name
        );
    }
}

#[test]
fn a_sequence_that_has_a_page_twice_is_refused() {
    let all = stores();
    let pool = all.last().unwrap();
    // Behind 116 bytes of header the first sequence: four numbers, its salt, and then its pages.
    let first = 116 + 4 * 8 + b"one".len();
    let mut file = pool.file.clone();
    assert_ne!(file[first..first + 8], file[first + 8..first + 16]);
    file.copy_within(first..first + 8, first + 8);
    let error = forge(pool, &mut file).unwrap_err();
    let name = "page that a sequence has twice";
    let expected = KvCacheError::FileField {
        name,
        min: 1,
        max: 0,
        got: 0,
    };
    assert_eq!(error, expected);
}

#[test]
fn a_forged_size_is_refused_before_memory_is_taken() {
    for store in stores() {
        // All numbers of the header, one after the other: magic, version, store, elements, sizes.
        for number in 3..13 {
            let at = 8 + 8 * number;
            for size in [1_u64 << 31, 1 << 40, 1 << 62, u64::MAX] {
                let mut file = store.file.clone();
                if at + 8 > file.len() {
                    continue;
                }
                file[at..at + 8].copy_from_slice(&size.to_le_bytes());
                // With 64 KiB allowed, an array of 2^31 elements would be an error of its own here.
                let _ = forge(&store, &mut file);
            }
        }
        let error = (store.load)(&mut &store.file[..], 100).unwrap_err();
        assert!(
            matches!(error, KvCacheError::FileLimit { limit: 100, .. }),
            "{}: {error}",
            store.name
        );
    }
}

#[test]
fn other_files_are_refused_by_name() {
    let all = stores();
    let contiguous = |file: &[u8]| ContiguousCache::<f32>::load(file, MAX).unwrap_err();
    let error = KvCacheError::FileMagic {
        expected: *b"llmkvc\r\n",
        got: *b"PK\x03\x04abcd",
    };
    assert_eq!(contiguous(b"PK\x03\x04abcdefgh"), error);
    let ring = &all[2].file;
    assert_eq!(
        contiguous(ring),
        KvCacheError::FileKind {
            name: "store",
            expected: 1,
            got: 2
        }
    );
    let error = ContiguousCache::<f64>::load(&all[0].file[..], MAX).unwrap_err();
    assert_eq!(
        error,
        KvCacheError::FileKind {
            name: "elements",
            expected: 2,
            got: 1
        }
    );
    let mut newer = all[0].file.clone();
    newer[8] = 2;
    assert_eq!(
        contiguous(&newer),
        KvCacheError::FileKind {
            name: "version",
            expected: 1,
            got: 2
        }
    );
    assert_eq!(
        contiguous(b""),
        KvCacheError::FileTruncated { section: "header" }
    );
}

/// Fails after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let n = bytes.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Full {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn what_the_system_says_is_passed_on() {
    let mut cache = ContiguousCache::<f32>::new(1, 1, 4, 2, 2).unwrap();
    let x = ndarray::Array3::zeros([1, 2, 2]);
    cache.append(0, &x, &x).unwrap();
    let error = KvCacheError::Io {
        kind: io::ErrorKind::StorageFull,
    };
    assert_eq!(cache.save(Full(60)), Err(error));
    assert_eq!(cache.len(0), Ok(2));
    let error = KvCacheError::Io {
        kind: io::ErrorKind::ConnectionReset,
    };
    assert_eq!(
        ContiguousCache::<f32>::load(Full(0), MAX).unwrap_err(),
        error
    );
}
