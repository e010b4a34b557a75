//! Laws of the prefix cache: who finds what, and what goes first.

use llm_kvcache::KvCacheError;
use llm_kvcache::paged::{PageTable, PrefixHash, SequenceId};

fn tables() -> [PageTable; 2] {
    [PrefixHash::with_key([3, 4]), PrefixHash::colliding()]
        .map(|hash| PageTable::with_hash(8, 2, hash).unwrap())
}

/// A sequence with these ids, published.
fn published(table: &mut PageTable, salt: &[u8], ids: &[u32]) -> SequenceId {
    let (id, found) = table.create_with_prefix(salt, ids).unwrap();
    table.grow(&[(id, ids.len() - found)]).unwrap();
    table.publish(id, ids).unwrap();
    id
}

#[test]
fn only_the_same_tokens_after_the_same_tokens_are_found() {
    for mut table in tables() {
        published(&mut table, b"a", &[1, 2, 3, 4, 5]);
        for (ids, found) in [
            (&[1, 2, 3, 4, 5, 6][..], 4), // the third page was not full
            (&[1, 2, 3, 4], 4),
            (&[1, 2, 3], 2),
            (&[1, 2, 4, 3], 2),
            (&[2, 1, 3, 4], 0), // the second page is there, but after another first
            (&[3, 4, 1, 2], 0),
            (&[1], 0),
            (&[], 0),
        ] {
            assert_eq!(table.cached_tokens(b"a", ids), found, "{ids:?}");
        }
    }
}

// ANCHOR: salt
#[test]
fn another_salt_finds_nothing_whatever_the_hash() {
    for mut table in tables() {
        let a = published(&mut table, b"tenant a", &[1, 2, 3, 4]);
        for salt in [&b"tenant b"[..], b"", b"tenant a ", b"tenant"] {
            let (b, found) = table.create_with_prefix(salt, &[1, 2, 3, 4]).unwrap();
            assert_eq!((found, table.pages(b).unwrap().len()), (0, 0));
        }
        // And what a tenant publishes does not become visible to another through a fork.
        let fork = table.fork(a).unwrap();
        assert_eq!(table.publish(fork, &[1, 2, 3, 4]), Ok(0));
        assert_eq!(table.salt(fork).unwrap(), b"tenant a");
        assert_eq!(table.cached_tokens(b"tenant b", &[1, 2, 3, 4]), 0);
    }
}
// ANCHOR_END: salt

#[test]
fn what_nobody_has_held_for_longest_goes_first_and_ends_go_before_starts() {
    for mut table in tables() {
        // 8 pages: two sequences of two full pages each, four pages free.
        let a = published(&mut table, b"", &[1, 1, 2, 2]);
        let b = published(&mut table, b"", &[3, 3, 4, 4]);
        table.free(a).unwrap();
        table.free(b).unwrap();
        assert_eq!((table.n_free(), table.n_cached()), (4, 4));
        // a is wanted again, so b is older now.
        let (a, found) = table.create_with_prefix(b"", &[1, 1, 2, 2]).unwrap();
        assert_eq!(found, 4);
        table.free(a).unwrap();

        let c = table.create(b"").unwrap();
        table.grow(&[(c, 10)]).unwrap(); // five pages: one more than are free
        assert_eq!(table.cached_tokens(b"", &[3, 3, 4, 4]), 2);
        assert_eq!(table.cached_tokens(b"", &[1, 1, 2, 2]), 4);
        table.grow(&[(c, 2)]).unwrap();
        assert_eq!(table.cached_tokens(b"", &[3, 3, 4, 4]), 0);
        assert_eq!(table.cached_tokens(b"", &[1, 1, 2, 2]), 4);
        table.grow(&[(c, 2)]).unwrap();
        assert_eq!(table.cached_tokens(b"", &[1, 1, 2, 2]), 2);
        table.grow(&[(c, 2)]).unwrap();
        assert_eq!(table.n_available(), 0);
        assert_eq!(
            table.grow(&[(c, 1)]),
            Err(KvCacheError::PoolExhausted {
                needed: 1,
                available: 0,
                n_pages: 8
            })
        );
    }
}

#[test]
fn a_prefix_that_is_held_does_not_go() {
    for mut table in tables() {
        let a = published(&mut table, b"", &[1, 1, 2, 2]);
        let b = table.create(b"").unwrap();
        table.grow(&[(b, 12)]).unwrap();
        assert!(table.grow(&[(b, 1)]).is_err());
        assert_eq!(table.cached_tokens(b"", &[1, 1, 2, 2]), 4);
        table.free(a).unwrap();
        table.grow(&[(b, 1)]).unwrap();
        assert_eq!(table.cached_tokens(b"", &[1, 1, 2, 2]), 2);
    }
}

#[test]
fn a_page_that_is_written_again_is_found_no_more() {
    for mut table in tables() {
        let a = published(&mut table, b"", &[1, 2, 3, 4]);
        table.crop(a, 1).unwrap();
        // Both pages can still be found: nothing was written.
        assert_eq!(table.cached_tokens(b"", &[1, 2, 3, 4]), 4);
        table.grow(&[(a, 1)]).unwrap();
        assert_eq!(table.cached_tokens(b"", &[1, 2, 3, 4]), 0);
        assert_eq!(table.publish(a, &[1, 9]), Ok(1));
        assert_eq!(table.cached_tokens(b"", &[1, 9, 3, 4]), 2);
    }
}

#[test]
fn a_page_into_which_tokens_move_is_found_no_more() {
    for mut table in tables() {
        let a = published(&mut table, b"", &[1, 2, 3, 4]);
        table.retain(a, &[0, 2, 3]).unwrap();
        assert_eq!(table.cached_tokens(b"", &[1, 2, 3, 4]), 0);
        assert_eq!(table.cached_tokens(b"", &[1, 3]), 0);

        // But a page that another one holds stays as it is.
        let b = published(&mut table, b"", &[1, 2, 3, 4]);
        let c = table.fork(b).unwrap();
        table.retain(c, &[0, 2, 3]).unwrap();
        assert_eq!(table.cached_tokens(b"", &[1, 2, 3, 4]), 4);
    }
}

#[test]
fn a_prefix_is_found_where_compaction_moved_it() {
    for mut table in tables() {
        let first = table.create(b"").unwrap();
        table.grow(&[(first, 4)]).unwrap(); // the first two pages of the pool
        let a = published(&mut table, b"", &[1, 2, 3, 4]);
        let b = published(&mut table, b"", &[5, 6]);
        table.free(b).unwrap(); // cached only
        table.free(first).unwrap();
        assert_eq!(table.compact().unwrap().len(), 2);
        let (c, found) = table.create_with_prefix(b"", &[1, 2, 3, 4]).unwrap();
        assert_eq!(
            (found, table.pages(c).unwrap()),
            (4, table.pages(a).unwrap())
        );
        let (d, found) = table.create_with_prefix(b"", &[5, 6]).unwrap();
        assert_eq!(found, 2);
        let page = table.pages(d).unwrap()[0];
        assert!((page as usize) < 3 && table.references(page) == 1);
        table.free(d).unwrap();
        assert_eq!(table.n_cached(), 1);
    }
}

#[test]
fn of_equal_pages_the_first_counts() {
    for mut table in tables() {
        let ids = [1, 2, 3, 4];
        let make = |table: &mut PageTable| {
            let id = table.create(b"").unwrap();
            table.grow(&[(id, 4)]).unwrap();
            id
        };
        let (a, b) = (make(&mut table), make(&mut table));
        assert_eq!(table.publish(a, &ids), Ok(2));
        assert_eq!(table.publish(b, &ids), Ok(0));
        table.grow(&[(b, 2)]).unwrap();
        assert_eq!(table.publish(b, &[1, 2, 3, 4, 5, 6]), Ok(1));
        // Its third page continues a's pages, so it cannot be found without them.
        let (c, found) = table.create_with_prefix(b"", &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(found, 6);
        assert_eq!(table.pages(c).unwrap()[..2], table.pages(a).unwrap()[..]);
        assert_eq!(table.pages(c).unwrap()[2], table.pages(b).unwrap()[2]);
        table.free(c).unwrap();
        table.free(a).unwrap();
        let d = table.create(b"").unwrap();
        table.grow(&[(d, 10)]).unwrap(); // takes all that is free, and what a has left
        assert_eq!((table.n_cached(), table.cached_tokens(b"", &ids)), (0, 0));
        assert!(!table.is_published(table.pages(b).unwrap()[2]));
    }
}

#[test]
fn what_lost_tokens_is_not_published() {
    for mut table in tables() {
        let a = table.create(b"").unwrap();
        table.grow(&[(a, 8)]).unwrap();
        table.retain(a, &[0, 1, 2, 4, 5, 6, 7]).unwrap();
        assert_eq!(table.publish(a, &[1, 2, 3, 5, 6, 7, 8]), Ok(1));
        table.grow(&[(a, 1)]).unwrap(); // new tokens saw what was left
        assert_eq!(table.publish(a, &[1, 2, 3, 5, 6, 7, 8, 9]), Ok(0));
        table.crop(a, 3).unwrap(); // from here on it is a sequence like any other
        table.grow(&[(a, 1)]).unwrap();
        assert_eq!(table.publish(a, &[1, 2, 3, 4]), Ok(1));
    }
}

#[test]
fn four_thousand_tokens_are_found() {
    for hash in [PrefixHash::default(), PrefixHash::with_key([5, 6])] {
        let mut table = PageTable::with_hash(300, 16, hash).unwrap();
        let ids: Vec<u32> = (0..4096).collect();
        published(&mut table, b"", &ids);
        assert_eq!(table.cached_tokens(b"", &ids), 4096);
        assert_eq!(table.cached_tokens(b"", &ids[..4095]), 4080);
    }
}
