//! What rings and sinks refuse.

use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError, SinkCache};
use ndarray::{Array3, Array4};

/// Window 3, slack 1, six tokens seen: 2 to 5 are held.
fn ring() -> RingCache<f32> {
    let config = RingConfig::new(2, 1, 3, 2).with_slack(1).with_value_dim(1);
    let mut ring = RingCache::new(&config).unwrap();
    let k = Array4::from_shape_fn([2, 1, 6, 2], |(b, _, t, d)| (b * 100 + t * 10 + d) as f32);
    let v = Array4::from_shape_fn([2, 1, 6, 1], |(b, _, t, _)| (b * 100 + t) as f32);
    ring.append_all(&k, &v).unwrap();
    ring
}

fn refused(
    error: KvCacheError,
    change: impl FnOnce(&mut RingCache<f32>) -> Result<(), KvCacheError>,
) {
    let (mut changed, before) = (ring(), ring());
    assert_eq!(change(&mut changed), Err(error));
    for row in 0..2 {
        assert_eq!(changed.ordered_keys(row), before.ordered_keys(row));
        assert_eq!(changed.ordered_values(row), before.ordered_values(row));
        assert_eq!(changed.seen(row), before.seen(row));
    }
}

#[test]
fn no_window_and_no_block_are_refused() {
    assert_eq!(
        RingCache::<f32>::new(&RingConfig::new(1, 1, 0, 1).with_slack(4)).unwrap_err(),
        KvCacheError::Window
    );
    assert_eq!(
        SinkCache::<f32>::new(2, &RingConfig::new(1, 1, 0, 1).with_slack(4)).unwrap_err(),
        KvCacheError::Window
    );
    assert_eq!(
        ContiguousCache::<f32>::growing(1, 1, 0, 1, 1).unwrap_err(),
        KvCacheError::Block
    );
}

#[test]
fn sizes_that_overflow_are_refused() {
    let config = RingConfig::new(1, 1, usize::MAX, 1).with_slack(2);
    let error = RingCache::<f32>::new(&config).unwrap_err();
    assert_eq!(
        error,
        KvCacheError::Size {
            axes: [1, 1, usize::MAX, 1],
            element_bytes: 4
        }
    );
    let mut growing = ContiguousCache::<f32>::growing(1, 1, usize::MAX, 1, 1).unwrap();
    let x = Array3::zeros([1, 1, 1]);
    assert!(matches!(
        growing.append(0, &x, &x),
        Err(KvCacheError::Size { .. })
    ));
    assert_eq!(growing.len(0), Ok(0));
}

#[test]
fn what_is_lost_cannot_be_wanted_back() {
    refused(
        KvCacheError::CropLen {
            row: 1,
            len: 6,
            got: 7,
        },
        |ring| ring.crop(1, 7),
    );
    let error = KvCacheError::CropLost {
        row: 1,
        got: 3,
        needed: 1,
        oldest: 2,
    };
    refused(error, |ring| ring.crop(1, 3));
    refused(KvCacheError::Row { row: 2, batch: 2 }, |ring| {
        ring.crop(2, 0)
    });
    let mut ring = ring();
    ring.crop(1, 4).unwrap(); // tokens 2 and 3 are the window of token 4
    ring.crop(0, 0).unwrap(); // nothing is needed any more
    assert_eq!((ring.len(0), ring.len(1)), (Ok(0), Ok(2)));

    let mut sinks = SinkCache::<f32>::new(2, &RingConfig::new(1, 1, 3, 1)).unwrap();
    let x = Array3::zeros([1, 8, 1]);
    sinks.append(0, &x, &x).unwrap();
    assert_eq!(sinks.crop(0, 7), Ok(()));
    sinks
        .append(0, &Array3::zeros([1, 1, 1]), &Array3::zeros([1, 1, 1]))
        .unwrap();
    let error = KvCacheError::CropLost {
        row: 0,
        got: 6,
        needed: 4,
        oldest: 5,
    };
    assert_eq!(sinks.crop(0, 6), Err(error));
    assert_eq!(sinks.seen(0), Ok(8));
    sinks.crop(0, 1).unwrap(); // only sinks
    assert_eq!(sinks.positions(0), Ok(vec![0]));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let key = KvCacheError::KeyShape {
        n_kv_heads: 1,
        head_dim: 2,
        got: [1, 1, 3],
    };
    refused(key, |ring| {
        ring.append(0, &Array3::zeros([1, 1, 3]), &Array3::zeros([1, 1, 1]))
    });
    let value = KvCacheError::ValueShape {
        n_kv_heads: 1,
        seq: 1,
        value_dim: 1,
        got: [1, 2, 1],
    };
    refused(value, |ring| {
        ring.append(0, &Array3::zeros([1, 1, 2]), &Array3::zeros([1, 2, 1]))
    });
    let batch = KvCacheError::Batch {
        expected: 2,
        keys: 1,
        values: 2,
    };
    refused(batch, |ring| {
        ring.append_all(&Array4::zeros([1, 1, 1, 2]), &Array4::zeros([2, 1, 1, 1]))
    });
    refused(KvCacheError::ReorderLen { batch: 2, got: 1 }, |ring| {
        ring.reorder(&[0])
    });
    refused(KvCacheError::Row { row: 5, batch: 2 }, |ring| {
        ring.reorder(&[0, 5])
    });
}

#[test]
fn tokens_that_cannot_be_counted_are_refused() {
    // Tokens without features need no memory.
    let mut ring = RingCache::<f32>::new(&RingConfig::new(1, 0, 1, 1)).unwrap();
    let many = Array3::zeros([0, isize::MAX as usize, 1]);
    ring.append(0, &many, &many).unwrap();
    ring.append(0, &many, &many).unwrap();
    let seen = 2 * (isize::MAX as usize);
    let error = KvCacheError::Seen {
        row: 0,
        seen,
        seq: 2,
    };
    let two = Array3::zeros([0, 2, 1]);
    assert_eq!(ring.append(0, &two, &two), Err(error));
    assert_eq!(ring.seen(0), Ok(seen));
}
