//! One test for each error of attention to pages.

use llm_attention::paged::{self, PagedKv};
use llm_attention::{AttentionConfig, AttentionError, Mask};
use ndarray::{Array1, Array2, Array3, Array4, arr0, array};

const FULL: AttentionConfig = AttentionConfig::new(Mask::Full);

fn ones(shape: [usize; 4]) -> Array4<f32> {
    Array4::ones(shape)
}

/// The error of two sequences of 4 and 3 tokens in pages of 2, with these arrays in the place of others.
fn error(q: [usize; 4], k: [usize; 4], v: [usize; 4]) -> AttentionError {
    let (k, v) = (ones(k), ones(v));
    let (table, lengths) = (array![[0, 1], [2, 0]], array![4, 3]);
    let kv = PagedKv::new(&k, &v, &table, &lengths);
    let error = paged::forward(&ones(q), &kv, &FULL).unwrap_err();
    let with_lse = paged::forward_with_lse(&ones(q), &kv, &FULL).unwrap_err();
    assert_eq!(error, with_lse);
    error
}

fn of_table(table: &Array2<u32>, lengths: &Array1<u32>) -> Option<AttentionError> {
    let k = ones([3, 2, 2, 8]);
    let kv = PagedKv::new(&k, &k, table, lengths);
    let got = paged::forward(&ones([2, 4, 1, 8]), &kv, &FULL).err();
    let q = Array3::ones((2, 4, 8));
    if lengths.len() == 2 {
        let packed = paged::forward_varlen(&q, &kv, &[0, 1, 2], &FULL);
        assert_eq!(packed.err(), got);
    }
    got
}

#[test]
fn pages_must_fit_the_queries_and_each_other() {
    let q = [2, 4, 1, 8];
    let shape = |name, expected, got| AttentionError::Shape {
        name,
        expected,
        got,
    };
    let k = [3, 2, 2, 8];
    let bad = [3, 2, 2, 7];
    assert_eq!(error(q, bad, k), shape("k", k, bad));
    for bad in [[2, 2, 2, 5], [3, 1, 2, 5], [3, 2, 3, 5]] {
        assert_eq!(error(q, k, bad), shape("v", [3, 2, 2, 5], bad));
    }
}

#[test]
fn a_page_holds_tokens() {
    let (q, k) = ([2, 4, 1, 8], [3, 2, 0, 8]);
    assert_eq!(error(q, k, k), AttentionError::PageSize);
    assert_eq!(
        AttentionError::PageSize.to_string(),
        "page_size must be at least 1, got 0"
    );
}

#[test]
fn heads_must_be_shared_out_evenly() {
    let want = AttentionError::Heads {
        n_heads: 3,
        n_kv_heads: 2,
    };
    let k = [3, 2, 2, 8];
    assert_eq!(error([2, 3, 1, 8], k, k), want);
}

#[test]
fn scales_must_fit_the_pages() {
    let k = Array4::<i8>::ones((3, 2, 2, 8));
    let (table, lengths) = (array![[0, 1]], array![4]);
    let good = Array3::ones((3, 2, 2));
    for bad in [[2, 2, 2], [3, 1, 2], [3, 2, 1]] {
        let scales = Array3::ones(bad);
        for (name, k_scales, v_scales) in
            [("k_scales", &scales, &good), ("v_scales", &good, &scales)]
        {
            let kv = PagedKv::int8(&k, &k, k_scales, v_scales, &table, &lengths);
            let want = AttentionError::ScalesShape {
                name,
                expected: [3, 2, 2],
                got: bad,
            };
            assert_eq!(paged::forward(&ones([1, 2, 1, 8]), &kv, &FULL), Err(want));
        }
    }
    let message = AttentionError::ScalesShape {
        name: "k_scales",
        expected: [3, 2, 2],
        got: [3, 2, 1],
    };
    assert_eq!(
        message.to_string(),
        "k_scales must have shape [3, 2, 2], got [3, 2, 1]"
    );
}

#[test]
fn the_table_and_the_lengths_have_a_row_for_each_sequence() {
    let rows = |name, got| AttentionError::Rows {
        name,
        batch: 2,
        got,
    };
    let table = array![[0, 1], [2, 0]];
    let three = array![[0, 1], [2, 0], [0, 0]];
    let want = rows("block_table", 3);
    assert_eq!(of_table(&three, &array![4, 3]), Some(want.clone()));
    assert_eq!(
        want.to_string(),
        "block_table must have a row for each of 2 sequences, got 3"
    );
    let want = rows("lengths", 1);
    assert_eq!(of_table(&table, &array![4]), Some(want));
}

#[test]
fn sequences_fit_their_row_of_the_table() {
    let table = array![[0, 1], [2, 0]];
    assert_eq!(of_table(&table, &array![4, 4]), None);
    for got in [5, u32::MAX] {
        let want = AttentionError::Length {
            row: 1,
            got,
            max_pages: 2,
            page_size: 2,
        };
        assert_eq!(of_table(&table, &array![0, got]), Some(want));
    }
    let message = AttentionError::Length {
        row: 1,
        got: 5,
        max_pages: 2,
        page_size: 2,
    };
    assert_eq!(
        message.to_string(),
        "lengths[1] must be at most 2 pages of 2 tokens, got 5 tokens"
    );
}

/// Only entries that are needed are looked at.
#[test]
fn needed_pages_must_be_in_the_pool() {
    let junk = array![[0, 3], [u32::MAX, 77]];
    assert_eq!(of_table(&junk, &array![2, 0]), None);
    let page = |row, index, got| AttentionError::Page {
        row,
        index,
        got,
        n_pages: 3,
    };
    assert_eq!(of_table(&junk, &array![3, 0]), Some(page(0, 1, 3)));
    assert_eq!(of_table(&junk, &array![2, 1]), Some(page(1, 0, u32::MAX)));
    assert_eq!(
        page(0, 1, 3).to_string(),
        "block_table[0, 1] must be below 3 (n_pages), got 3"
    );
}

#[test]
fn packed_queries_must_be_for_all_sequences() {
    let k = ones([3, 2, 2, 8]);
    let (table, lengths) = (array![[0, 1], [2, 0]], array![4, 3]);
    let kv = PagedKv::new(&k, &k, &table, &lengths);
    let q = Array3::ones((5, 4, 8));
    let run = |list: &[usize]| paged::forward_varlen(&q, &kv, list, &FULL).err();
    assert_eq!(run(&[0, 2, 5]), None);
    let want = AttentionError::CuSeqlensLength {
        queries: 1,
        keys: 2,
    };
    assert_eq!(run(&[0, 5]), Some(want));
    let want = AttentionError::CuSeqlens {
        name: "cu_seqlens",
        index: 1,
        got: Some(6),
        total: 5,
    };
    assert_eq!(run(&[0, 6, 5]), Some(want));
}

/// The config is looked at even if there is no sequence.
#[test]
fn the_config_is_refused_as_elsewhere() {
    let k = ones([0, 2, 2, 8]);
    let (table, lengths) = (Array2::zeros((0, 3)), Array1::zeros(0));
    let kv = PagedKv::new(&k, &k, &table, &lengths);
    let config = FULL.with_tile(64, 0);
    let want = AttentionError::Tile {
        query_tile: 64,
        key_tile: 0,
    };
    let q = ones([0, 2, 1, 8]);
    assert_eq!(paged::forward(&q, &kv, &config), Err(want));
    assert_eq!(paged::forward(&q, &kv, &FULL), Ok(ones([0, 2, 1, 8])));
}

/// Arrays that repeat one number need no memory themselves.
#[test]
fn sizes_that_memory_cannot_hold_are_refused() {
    let number = arr0(1.0_f32);
    let k = number.broadcast((1, 1, 1, 1 << 20)).unwrap();
    let many = 1 << 40;
    let q = number.broadcast((many, 1, 1, 1 << 20)).unwrap();
    let zero = arr0(0_u32);
    let table = zero.broadcast((many, 1)).unwrap();
    let lengths = zero.broadcast(many).unwrap();
    let kv = PagedKv::new(&k, &k, &table, &lengths);
    assert!(matches!(
        paged::forward(&q, &kv, &FULL),
        Err(AttentionError::TooLarge { .. })
    ));
    let thin = number.broadcast((1, 1, 1, 0)).unwrap();
    let q = number.broadcast((many, 1, 1, 0)).unwrap();
    let kv = PagedKv::new(&thin, &thin, &table, &lengths);
    assert!(matches!(
        paged::forward(&q, &kv, &FULL),
        Err(AttentionError::TooLarge { .. })
    ));
}
