//! One test for each error variant; each also looks that nothing has changed.

use llm_kvcache::calculator::{bytes_per_token, total_bytes};
use llm_kvcache::{ContiguousCache, KvCacheError};
use ndarray::{Array3, Array4};

/// Two rows of 2 and 2 tokens, 3 key-value heads, capacity 4, keys of 5 and values of 6 features.
fn cache() -> ContiguousCache<f32> {
    let mut cache = ContiguousCache::new(2, 3, 4, 5, 6).unwrap();
    let k = Array4::from_shape_fn([2, 3, 2, 5], |(b, h, t, i)| {
        (b + 2 * h + 3 * t + 5 * i) as f32
    });
    let v = Array4::from_shape_fn([2, 3, 2, 6], |(b, h, t, i)| (b * h * t + i) as f32);
    cache.append_all(&k, &v).unwrap();
    cache
}

/// Does `change`, expects the error, and expects the cache as it was.
fn refused(
    error: KvCacheError,
    change: impl FnOnce(&mut ContiguousCache<f32>) -> Result<(), KvCacheError>,
) {
    let mut changed = cache();
    assert_eq!(change(&mut changed), Err(error));
    let before = cache();
    assert_eq!(changed.lengths(), before.lengths());
    assert_eq!(changed.padded_keys(), before.padded_keys());
    assert_eq!(changed.padded_values(), before.padded_values());
}

#[test]
fn sizes_that_overflow_are_refused() {
    for axes in [
        [usize::MAX, 2, 1, 1],
        [1, 1 << 40, 1 << 40, 1],
        [1, 1, isize::MAX as usize / 2, 1],
        [0, 1 << 40, 1 << 40, 1],
    ] {
        let [batch, heads, capacity, dim] = axes;
        assert_eq!(
            ContiguousCache::<f32>::new(batch, heads, capacity, dim, dim).unwrap_err(),
            KvCacheError::Size {
                axes,
                element_bytes: 4
            }
        );
    }
    assert_eq!(
        ContiguousCache::<f64>::new(1, 1, 1 << 40, 0, 1 << 30).unwrap_err(),
        KvCacheError::Size {
            axes: [1, 1, 1 << 40, 1 << 30],
            element_bytes: 8
        }
    );
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let capacity = isize::MAX as usize / 16; // fits a size, but no address space
    assert_eq!(
        ContiguousCache::<f64>::new(1, 1, capacity, 1, 1).unwrap_err(),
        KvCacheError::Allocation {
            bytes: capacity * 8
        }
    );
}

#[test]
fn rows_out_of_range_are_refused() {
    let row = KvCacheError::Row { row: 2, batch: 2 };
    let (k, v) = (Array3::zeros([3, 1, 5]), Array3::zeros([3, 1, 6]));
    refused(row, |cache| cache.append(2, &k, &v));
    refused(row, |cache| cache.crop(2, 0));
    refused(row, |cache| cache.reorder(&[0, 2]));
    refused(row, |cache| cache.select(&[1, 2]).map(|_| ()));
    refused(row, |cache| cache.keys(2).map(|_| ()));
    refused(row, |cache| cache.values(2).map(|_| ()));
    refused(row, |cache| cache.len(2).map(|_| ()));
}

#[test]
fn another_batch_is_refused() {
    for (keys, values) in [(1, 2), (2, 3), (0, 2)] {
        let (k, v) = (
            Array4::zeros([keys, 3, 1, 5]),
            Array4::zeros([values, 3, 1, 6]),
        );
        refused(
            KvCacheError::Batch {
                expected: 2,
                keys,
                values,
            },
            |cache| cache.append_all(&k, &v),
        );
    }
}

#[test]
fn keys_of_another_shape_are_refused() {
    for got in [[2, 1, 5], [3, 1, 4], [0, 1, 5], [1, 3, 5]] {
        let error = KvCacheError::KeyShape {
            n_kv_heads: 3,
            head_dim: 5,
            got,
        };
        let (k, v) = (Array3::zeros(got), Array3::zeros([3, 1, 6]));
        refused(error, |cache| cache.append(1, &k, &v));
        let (k, v) = (
            Array4::zeros([2, got[0], got[1], got[2]]),
            Array4::zeros([2, 3, 1, 6]),
        );
        refused(error, |cache| cache.append_all(&k, &v));
    }
}

#[test]
fn values_of_another_shape_are_refused() {
    for got in [[2, 1, 6], [3, 1, 5], [3, 2, 6], [3, 0, 6]] {
        let error = KvCacheError::ValueShape {
            n_kv_heads: 3,
            seq: 1,
            value_dim: 6,
            got,
        };
        let (k, v) = (Array3::zeros([3, 1, 5]), Array3::zeros(got));
        refused(error, |cache| cache.append(1, &k, &v));
        let (k, v) = (
            Array4::zeros([2, 3, 1, 5]),
            Array4::zeros([2, got[0], got[1], got[2]]),
        );
        refused(error, |cache| cache.append_all(&k, &v));
    }
}

#[test]
fn tokens_beyond_the_capacity_are_refused() {
    let (k, v) = (Array3::zeros([3, 3, 5]), Array3::zeros([3, 3, 6]));
    refused(
        KvCacheError::Full {
            row: 1,
            len: 2,
            seq: 3,
            capacity: 4,
        },
        |cache| cache.append(1, &k, &v),
    );

    // Row 0 has room, row 1 does not: neither changes.
    let mut uneven = cache();
    uneven.crop(0, 0).unwrap();
    let (k, v) = (Array4::zeros([2, 3, 3, 5]), Array4::zeros([2, 3, 3, 6]));
    let error = uneven.append_all(&k, &v).unwrap_err();
    assert_eq!(
        error,
        KvCacheError::Full {
            row: 1,
            len: 2,
            seq: 3,
            capacity: 4
        }
    );
    assert_eq!(uneven.lengths(), [0, 2]);
    assert_eq!(uneven.keys(1).unwrap(), cache().keys(1).unwrap());
}

#[test]
fn cropping_to_more_than_there_is_is_refused() {
    refused(
        KvCacheError::CropLen {
            row: 1,
            len: 2,
            got: 3,
        },
        |cache| cache.crop(1, 3),
    );
}

#[test]
fn a_reordering_of_another_length_is_refused() {
    refused(KvCacheError::ReorderLen { batch: 2, got: 1 }, |cache| {
        cache.reorder(&[0])
    });
    refused(KvCacheError::ReorderLen { batch: 2, got: 3 }, |cache| {
        cache.reorder(&[0, 1, 0])
    });
}

#[test]
fn byte_counts_that_overflow_are_refused() {
    assert_eq!(
        bytes_per_token(1 << 40, 1 << 20, 8, 4),
        Err(KvCacheError::ByteCount {
            factors: [2, 1 << 40, 1 << 20, 8, 4]
        })
    );
    assert_eq!(
        total_bytes(1 << 40, 1 << 20, 16),
        Err(KvCacheError::ByteCount {
            factors: [1 << 40, 1 << 20, 16, 1, 1]
        })
    );
    assert_eq!(bytes_per_token(usize::MAX, usize::MAX, 0, 4), Ok(0));
}

#[test]
fn messages_say_what_must_hold_and_what_came() {
    let error = KvCacheError::Full {
        row: 1,
        len: 2,
        seq: 3,
        capacity: 4,
    };
    assert_eq!(
        error.to_string(),
        "row 1 must have room for 3 tokens, got 2 of 4 (capacity) taken"
    );
    let error = KvCacheError::KeyShape {
        n_kv_heads: 3,
        head_dim: 5,
        got: [2, 1, 5],
    };
    assert_eq!(
        error.to_string(),
        "keys must have shape [3, seq, 5], got [2, 1, 5]"
    );
}
