//! Files that are cut, changed, forged or huge: a typed error, and no more memory than the caller gives.

mod forged;
mod sections;
mod stores;

use std::io::{self, Read, Write};

use llm_kvcache::paged::{FloatPages, PagedCache, PoolConfig, PrefixHash};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError, SinkCache};
use llm_numerics::half::{bf16, f16};
use ndarray::{Array3, Axis, s};

use stores::stores;

/// Bytes that a cache may take.
const MAX: usize = 1 << 16;

/// Gives what it has, three bytes at a time, and remembers the most that was asked for at once.
struct Pieces<'a> {
    left: &'a [u8],
    most: usize,
}

impl<'a> Pieces<'a> {
    fn new(left: &'a [u8]) -> Self {
        Self { left, most: 0 }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.most = self.most.max(to.len());
        let n = to.len().min(self.left.len()).min(3);
        to[..n].copy_from_slice(&self.left[..n]);
        self.left = &self.left[n..];
        Ok(n)
    }
}

#[test]
fn a_file_comes_back_whole_and_what_follows_is_left() {
    for store in stores(0.0, 0) {
        let followed = [&store.file[..], b"more"].concat();
        let mut left = &followed[..];
        assert_eq!(
            (store.load)(&mut left, MAX).as_ref(),
            Ok(&store.file),
            "{}",
            store.name
        );
        assert_eq!(left, b"more");
        assert_eq!(
            (store.load)(&mut Pieces::new(&store.file), MAX),
            Ok(store.file)
        );
    }
}

#[test]
fn numbers_of_all_types_come_back() {
    macro_rules! check {
        ($type:ty, $code:literal) => {{
            // The least and the greatest, a subnormal one, and some between.
            let of_place = |(_, t, d): (usize, usize, usize)| match (t, d) {
                (0, 0) => <$type>::MIN,
                (0, 1) => <$type>::MAX,
                (1, 0) => <$type>::MIN_POSITIVE / <$type>::from(2_u8),
                _ => <$type>::from((7 * t + d) as u8) / <$type>::from(3_u8),
            };
            let x = Array3::from_shape_fn([1, 3, 2], of_place);
            let mut contiguous = ContiguousCache::<$type>::new(1, 1, 4, 2, 2).unwrap();
            let mut ring = RingCache::<$type>::new(&RingConfig::new(1, 1, 2, 2)).unwrap();
            let mut sinks = SinkCache::<$type>::new(1, &RingConfig::new(1, 1, 1, 2)).unwrap();
            let config = PoolConfig::new(1, 2, 2, 1, 2);
            let mut pool = PagedCache::<FloatPages<$type>>::new(&config).unwrap();
            let id = pool.create(b"").unwrap();
            contiguous.append(0, &x, &x).unwrap();
            ring.append(0, &x, &x).unwrap();
            sinks.append(0, &x, &x).unwrap();
            pool.append(id, &[x.view()], &[x.view()]).unwrap();
            let mut files = [const { Vec::new() }; 4];
            contiguous.save(&mut files[0]).unwrap();
            ring.save(&mut files[1]).unwrap();
            sinks.save(&mut files[2]).unwrap();
            pool.save(&mut files[3]).unwrap();
            // The elements are named behind magic, version and store.
            assert!(files.iter().all(|file| file[24] == $code));

            let contiguous = ContiguousCache::<$type>::load(&files[0][..], MAX).unwrap();
            assert_eq!(contiguous.keys(0).unwrap(), x);
            assert_eq!(contiguous.values(0).unwrap(), x);
            let ring = RingCache::<$type>::load(&files[1][..], MAX).unwrap();
            assert_eq!(ring.ordered_keys(0).unwrap(), x.slice(s![.., 1.., ..]));
            assert_eq!(ring.ordered_values(0).unwrap(), x.slice(s![.., 1.., ..]));
            let sinks = SinkCache::<$type>::load(&files[2][..], MAX).unwrap();
            assert_eq!(sinks.stored_keys(0).unwrap(), x.select(Axis(1), &[0, 2]));
            assert_eq!(sinks.values(0).unwrap(), x.select(Axis(1), &[0, 2]));
            let hash = PrefixHash::default();
            let pool = PagedCache::<FloatPages<$type>>::load(&files[3][..], hash, MAX).unwrap();
            assert_eq!(pool.gather(0, id).unwrap(), (x.clone(), x));
        }};
    }
    check!(f32, 1);
    check!(f64, 2);
    check!(f16, 3);
    check!(bf16, 4);
}

#[test]
fn a_file_that_ends_anywhere_is_refused() {
    for store in stores(0.0, 0) {
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
    for store in stores(0.0, 0) {
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

#[test]
fn other_files_are_refused_by_name() {
    let all = stores(0.0, 0);
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
    let x = Array3::zeros([1, 2, 2]);
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
