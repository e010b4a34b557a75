//! Files whose checksums were made right again, and files that were put together from sections of others.

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{FloatPages, PagedCache, PoolConfig, PrefixHash};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError};
use llm_numerics::half::f16;

use super::sections::{forge, sections};
use super::stores::{Store, stores};
use super::{MAX, Pieces};

/// If a file is accepted, the cache can be saved, read again, and used.
fn judge(store: &Store, file: &mut [u8]) -> Result<(), KvCacheError> {
    let again = forge(store, file, MAX)?;
    assert_eq!((store.load)(&mut &again[..], MAX), Ok(again.clone()));
    (store.exercise)(file, MAX);
    Ok(())
}

#[test]
fn sections_of_a_file_do_not_change_places() {
    for store in stores(0.0, 0) {
        let sections = sections(&store.file);
        let mut swaps = 0;
        for (i, a) in sections.iter().enumerate() {
            for b in &sections[i + 1..] {
                if a.len() != b.len() || store.file[a.clone()] == store.file[b.clone()] {
                    continue;
                }
                // With their checksums, and without.
                for tail in [4, 0] {
                    let mut file = store.file.clone();
                    let [a, b] = [a, b].map(|section| section.start..section.end + tail);
                    file[a.clone()].copy_from_slice(&store.file[b.clone()]);
                    file[b.clone()].copy_from_slice(&store.file[a.clone()]);
                    let got = (store.load)(&mut &file[..], MAX);
                    assert!(got.is_err(), "{}: {a:?} and {b:?}", store.name);
                }
                swaps += 1;
            }
        }
        assert!(swaps > 0, "{}", store.name);
    }
}

#[test]
fn sections_of_two_files_do_not_make_one() {
    for (number, first) in stores(0.0, 0).into_iter().enumerate() {
        let mut spliced = 0;
        // Other numbers, another header, and both.
        for (offset, room) in [(64.0, 0), (0.0, 1), (64.0, 1)] {
            let second = &stores(offset, room)[number];
            let ends = [&first.file, &second.file].map(|file| sections(file));
            for (a, b) in ends[0].iter().zip(&ends[1]) {
                for [(head, a), (tail, b)] in [
                    [(&first.file, a), (&second.file, b)],
                    [(&second.file, b), (&first.file, a)],
                ] {
                    let file = [&head[..a.end + 4], &tail[b.end + 4..]].concat();
                    if file == first.file || file == second.file {
                        continue;
                    }
                    let got = (first.load)(&mut &file[..], MAX);
                    assert!(got.is_err(), "{}: spliced at {a:?}", first.name);
                    spliced += 1;
                }
            }
        }
        assert!(spliced > 0, "{}", first.name);
    }
}

#[test]
fn a_forged_byte_gives_a_cache_or_an_error() {
    for store in stores(0.0, 0) {
        let mut accepted = 0;
        for at in 0..store.file.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut file = store.file.clone();
                file[at] = byte;
                accepted += usize::from(judge(&store, &mut file).is_ok());
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
fn a_forged_number_gives_a_cache_or_an_error() {
    for store in stores(0.0, 0) {
        for at in 0..store.file.len() - 7 {
            for number in [u64::MAX, u64::MAX - 1, 1 << 62, 0] {
                let mut file = store.file.clone();
                file[at..at + 8].copy_from_slice(&number.to_le_bytes());
                let _ = judge(&store, &mut file);
            }
        }
    }
}

/// Sizes of the header, in their order, without those that may be anything: the block in which a cache grows, what
/// stays unquantized, the next number of a sequence.
fn sizes(name: &str) -> &'static [usize] {
    match name {
        "contiguous" | "growing" | "sinks" => &[0, 1, 2, 3, 4],
        "ring" | "kivi" => &[0, 1, 2, 3, 4, 5],
        _ => &[0, 1, 2, 3, 4, 5, 7, 8, 9],
    }
}

#[test]
fn a_forged_size_is_refused_before_memory_is_taken() {
    for store in stores(0.0, 0) {
        for &number in sizes(store.name) {
            // Magic, version, store and elements come first.
            let at = 8 * (4 + number);
            for size in [1_u64 << 31, 1 << 40, 1 << 62, u64::MAX] {
                let mut file = store.file.clone();
                file[at..at + 8].copy_from_slice(&size.to_le_bytes());
                let error = forge(&store, &mut file, MAX).unwrap_err();
                assert!(
                    matches!(
                        error,
                        KvCacheError::FileLimit { .. }
                            | KvCacheError::FileField { .. }
                            | KvCacheError::FileInconsistent { .. }
                            | KvCacheError::Setting { .. }
                    ),
                    "{}, size {number}: {error}",
                    store.name
                );
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
fn a_file_that_claims_to_be_long_is_read_in_pieces() {
    let store = &stores(0.0, 0)[0];
    let mut file = store.file.clone();
    let many = (1_u64 << 40).to_le_bytes();
    let first_length = sections(&file)[1].start;
    for at in [8 * 6, first_length] {
        file[at..at + 8].copy_from_slice(&many); // the capacity, and a row that is full
    }
    let end = KvCacheError::FileTruncated { section: "tokens" };
    assert_eq!(forge(store, &mut file, usize::MAX), Err(end));
    let mut pieces = Pieces::new(&file);
    let error = ContiguousCache::<f32>::load(&mut pieces, usize::MAX).unwrap_err();
    assert_eq!(error, end);
    assert!((1000..1 << 17).contains(&pieces.most), "{}", pieces.most);
}

#[test]
fn a_sequence_that_has_a_page_twice_is_refused() {
    let all = stores(0.0, 0);
    let pool = all.iter().find(|store| store.name == "pool").unwrap();
    // The first sequence: four numbers, its salt, and then its pages.
    let first = sections(&pool.file)[1].start + 4 * 8 + b"one".len();
    let mut file = pool.file.clone();
    assert_ne!(file[first..first + 8], file[first + 8..first + 16]);
    file.copy_within(first..first + 8, first + 8);
    let expected = KvCacheError::FileInconsistent {
        name: "sequence",
        rule: "one that has no page twice",
        got: 0,
    };
    assert_eq!(forge(pool, &mut file, MAX), Err(expected));
}

/// Pages come to a sequence from a fork, a reordering or a prefix, and each of them keeps to one salt.
#[test]
fn pages_are_not_shared_under_two_salts() {
    let all = stores(0.0, 0);
    for store in all.iter().filter(|store| store.name.starts_with("pool")) {
        let mut file = store.file.clone();
        let number = |at: usize| u64::from_le_bytes(store.file[at..at + 8].try_into().unwrap());
        // A sequence and its fork: number, length, what is intact, length of the salt, the salt, pages of two tokens.
        let first = sections(&file)[1].start;
        let salt = first + 4 * 8;
        let pages = salt + b"one".len();
        let of_fork = pages + number(first + 8).div_ceil(2) as usize * 8 + 4 * 8;
        let expected = KvCacheError::FileInconsistent {
            name: "page",
            rule: "shared under one salt",
            got: number(pages),
        };
        // The first time the fork has another salt, then the prefixes have.
        for at in [salt, of_fork] {
            assert_eq!(&file[at..at + 3], b"one");
            file[at..at + 3].copy_from_slice(b"two");
            assert_eq!(forge(store, &mut file, MAX), Err(expected));
        }
    }
}

#[test]
fn a_position_whose_window_cannot_be_counted_is_refused() {
    let store = &stores(0.0, 0)[2];
    for first in [u64::MAX - 1, u64::MAX - 2] {
        let mut file = store.file.clone();
        let at = sections(&file)[1].start;
        file[at..at + 8].copy_from_slice(&first.to_le_bytes());
        file[at + 8..at + 16].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
        let expected = KvCacheError::FileInconsistent {
            name: "first position",
            rule: "one whose window can be counted",
            got: first,
        };
        assert_eq!(forge(store, &mut file, MAX), Err(expected));
    }
}

#[test]
fn the_last_number_is_given_to_no_sequence() {
    let all = stores(0.0, 0);
    let store = all.iter().find(|store| store.name == "pool").unwrap();
    let mut file = store.file.clone();
    let at = 8 * (4 + 6);
    file[at..at + 8].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    forge(store, &mut file, MAX).unwrap();
    let mut pool =
        PagedCache::<FloatPages<f32>>::load(&file[..], PrefixHash::default(), MAX).unwrap();
    let last = pool.create_with_prefix(b"one", &[1, 2, 3, 4]).unwrap();
    assert_eq!((last.0.number(), last.1), (u64::MAX - 1, 4));
    let page = pool.table().pages(last.0).unwrap()[0];
    let before = (pool.table().n_sequences(), pool.table().references(page));
    let error = KvCacheError::SequenceNumbers;
    assert_eq!(pool.create(b"one"), Err(error));
    assert_eq!(pool.fork(last.0), Err(error));
    assert_eq!(pool.create_with_prefix(b"one", &[1, 2]), Err(error));
    let after = (pool.table().n_sequences(), pool.table().references(page));
    assert_eq!(before, after);
}

/// Tokens without features take no memory, but their places must be countable.
#[test]
fn heads_without_features_are_counted() {
    let many = (1_u64 << 40).to_le_bytes();
    let no_features = ndarray::Array3::<f32>::zeros([2, 3, 0]);
    macro_rules! refused {
        ($type:ty, $cache:expr, $heads:expr, $places:expr) => {{
            let mut cache: $type = $cache;
            cache.append(0, &no_features, &no_features).unwrap();
            let mut file = Vec::new();
            cache.save(&mut file).unwrap();
            let store = Store {
                name: stringify!($type),
                file: Vec::new(),
                load: |from, max| {
                    <$type>::load(from, max)?;
                    Ok(Vec::new())
                },
                exercise: |_, _| {},
            };
            let section = sections(&file)[1].start;
            file[8 * 5..8 * 6].copy_from_slice(&$heads);
            for place in $places(section) {
                file[place..place + 8].copy_from_slice(&many);
            }
            let error = KvCacheError::FileLimit {
                limit: MAX as u64,
                needed: u64::MAX,
            };
            assert_eq!(forge(&store, &mut file, MAX), Err(error), "{}", store.name);
        }};
    }
    refused!(
        ContiguousCache<f32>,
        ContiguousCache::new(1, 2, 9, 0, 0).unwrap(),
        many,
        |section| [8 * 6, section]
    );
    refused!(
        RingCache<f32>,
        RingCache::new(&RingConfig::new(1, 2, 3, 0)).unwrap(),
        many,
        |section| [8 * 6, section + 8]
    );
    refused!(
        KiviCache,
        KiviCache::new(1, 2, 0, 0, &KiviConfig::new(2, 4, 4)).unwrap(),
        u64::from(u32::MAX).to_le_bytes(),
        |section| [section]
    );
}

#[test]
fn tokens_of_prefixes_are_counted_before_they_are_read() {
    // Pages without heads take no memory, so that only the tokens can be too many.
    let mut pool = PagedCache::<FloatPages<f32>>::new(&PoolConfig::new(1, 4, 2, 0, 3)).unwrap();
    let id = pool.create(b"").unwrap();
    pool.extend(&[(id, 4)]).unwrap();
    pool.publish(id, &[1, 2, 3, 4]).unwrap();
    pool.free(id).unwrap();
    let mut file = Vec::new();
    pool.save(&mut file).unwrap();
    let at = 8 * (4 + 2);
    file[at..at + 8].copy_from_slice(&(1_u64 << 24).to_le_bytes());
    let pages = Store {
        name: "pages without heads",
        file: Vec::new(),
        load: |from, max| {
            PagedCache::<FloatPages<f32>>::load(from, PrefixHash::default(), max)?;
            Ok(Vec::new())
        },
        exercise: |_, _| {},
    };
    let error = KvCacheError::FileLimit {
        limit: MAX as u64,
        needed: u64::MAX,
    };
    assert_eq!(forge(&pages, &mut file, MAX), Err(error));
}

#[test]
fn numbers_that_nothing_is_quantized_to_are_refused() {
    let all = stores(0.0, 0);
    let check = |name: &str, bad: &[u8], from_end: usize| {
        let store = all.iter().find(|store| store.name == name).unwrap();
        let mut file = store.file.clone();
        // The last section: a page, or the tokens of a row.
        let end = sections(&file).last().unwrap().end - from_end;
        file[end..end + bad.len()].copy_from_slice(bad);
        let got = forge(store, &mut file, MAX);
        assert!(
            matches!(got, Err(KvCacheError::FileInconsistent { .. })),
            "{name}, {bad:?}: {got:?}"
        );
    };
    // Pages of int8 end with the codes and the four scales of their values, 2 heads of 2 tokens of 3 features.
    for bad in [f32::NAN, f32::INFINITY, -1.0, f32::MAX] {
        check("pool of int8", &bad.to_le_bytes(), 4);
    }
    check("pool of int8", &[0x80], 17);
    // And before them the keys.
    check("pool of int8", &[0x80], 28 + 17);
    check("pool of int8", &(-1.0_f32).to_le_bytes(), 28 + 4);
    // Pages of int4 end with a step and a least value, and so did their keys before 8 bytes of codes.
    for bad in [f16::NAN, f16::INFINITY, f16::from_f32(-1.0)] {
        check("pool of int4", &bad.to_le_bytes(), 4);
        check("pool of int4", &bad.to_le_bytes(), 24 + 4);
        // KIVI ends with the waiting keys: three tokens of 2 heads of 3 features, and before them groups.
        check("kivi", &bad.to_le_bytes(), 4 * 18 + 4);
    }
    for bad in [f16::NAN, f16::NEG_INFINITY] {
        check("pool of int4", &bad.to_le_bytes(), 2);
        check("kivi", &bad.to_le_bytes(), 4 * 18 + 2);
    }
    for bad in [f32::NAN, f32::INFINITY, 65505.0, -65505.0] {
        check("kivi", &bad.to_le_bytes(), 4);
    }
}
