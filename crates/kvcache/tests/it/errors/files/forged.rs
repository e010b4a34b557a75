//! Files whose checksums were made right again, and files that were put together from sections of others.

use llm_kvcache::{ContiguousCache, KvCacheError};

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
