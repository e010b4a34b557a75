//! What quantized stores refuse.

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::{KvCacheError, Largest};
use ndarray::{Array3, Array4};

fn cache() -> KiviCache {
    let mut cache = KiviCache::new(2, 1, 2, 2, &KiviConfig::new(4, 4, 4)).unwrap();
    let x = Array4::from_shape_fn([2, 1, 10, 2], |(b, _, t, d)| (b * 50 + t * 3 + d) as f32);
    cache.append_all(&x, &x).unwrap();
    cache
}

fn refused(error: KvCacheError, change: impl FnOnce(&mut KiviCache) -> Result<(), KvCacheError>) {
    let mut changed = cache();
    assert_eq!(change(&mut changed), Err(error));
    for row in 0..2 {
        assert_eq!(changed.gather(row), cache().gather(row));
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let setting = |name, rule, got| KvCacheError::Setting { name, rule, got };
    for (config, error) in [
        (KiviConfig::new(3, 8, 8), setting("bits", "2, 4 or 8", 3)),
        (KiviConfig::new(0, 8, 8), setting("bits", "2, 4 or 8", 0)),
        (
            KiviConfig::new(2, 0, 0),
            setting("group", "positive and whole bytes of codes", 0),
        ),
        (
            KiviConfig::new(2, 6, 6),
            setting("group", "positive and whole bytes of codes", 6),
        ),
        (
            KiviConfig::new(2, 8, 12),
            setting("residual", "a multiple of group", 12),
        ),
    ] {
        assert_eq!(KiviCache::new(1, 1, 1, 1, &config).unwrap_err(), error);
    }
    let many = KiviConfig::new(2, 1 << 40, 0);
    assert!(matches!(
        KiviCache::new(1, 1 << 40, 1, 1, &many),
        Err(KvCacheError::Size { .. })
    ));
}

#[test]
fn numbers_without_a_code_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, -65505.0] {
        let mut x = Array3::zeros([1, 2, 2]);
        x[[0, 1, 0]] = bad;
        let good = Array3::zeros([1, 2, 2]);
        let error = |name| KvCacheError::NotQuantizable {
            name,
            max: Largest::F16,
            head: 0,
            token: 1,
            feature: 0,
        };
        refused(error("k"), |cache| cache.append(0, &x, &good));
        refused(error("v"), |cache| cache.append(0, &good, &x));
        let mut all = Array4::zeros([2, 1, 2, 2]);
        all[[1, 0, 1, 0]] = bad; // the first row would have been fine
        refused(error("k"), |cache| {
            cache.append_all(&all, &Array4::zeros([2, 1, 2, 2]))
        });
    }
}

#[test]
fn rows_shapes_and_lengths_that_are_not_there_are_refused() {
    let row = KvCacheError::Row { row: 2, batch: 2 };
    let x = Array3::zeros([1, 1, 2]);
    refused(row, |cache| cache.append(2, &x, &x));
    refused(row, |cache| cache.crop(2, 0));
    refused(row, |cache| cache.reorder(&[2, 0]));
    refused(KvCacheError::ReorderLen { batch: 2, got: 3 }, |cache| {
        cache.reorder(&[0, 1, 0])
    });
    refused(
        KvCacheError::CropLen {
            row: 0,
            len: 10,
            got: 11,
        },
        |cache| cache.crop(0, 11),
    );
    let key = KvCacheError::KeyShape {
        n_kv_heads: 1,
        head_dim: 2,
        got: [1, 1, 3],
    };
    refused(key, |cache| cache.append(0, &Array3::zeros([1, 1, 3]), &x));
    let value = KvCacheError::ValueShape {
        n_kv_heads: 1,
        seq: 1,
        value_dim: 2,
        got: [2, 1, 2],
    };
    refused(value, |cache| {
        cache.append(0, &x, &Array3::zeros([2, 1, 2]))
    });
    let batch = KvCacheError::Batch {
        expected: 2,
        keys: 3,
        values: 2,
    };
    refused(batch, |cache| {
        cache.append_all(&Array4::zeros([3, 1, 1, 2]), &Array4::zeros([2, 1, 1, 2]))
    });
    let range = |start, end| KvCacheError::ReadRange {
        row: 0,
        len: 10,
        start,
        end,
    };
    let mut buffer = Array3::zeros([1, 3, 2]);
    let mut other = buffer.clone();
    let got = cache().read(0, 9..12, buffer.view_mut(), other.view_mut());
    assert_eq!(got, Err(range(9, 12)));
    #[allow(clippy::reversed_empty_ranges, reason = "what is refused")]
    let got = cache().read(0, 9..6, buffer.view_mut(), other.view_mut());
    assert_eq!(got, Err(range(9, 6)));
    let got = cache().read(0, 8..10, buffer.view_mut(), other.view_mut());
    assert!(matches!(got, Err(KvCacheError::KeyShape { .. })));
}

#[test]
fn heads_of_tokens_without_features_are_counted() {
    let mut cache = KiviCache::new(1, 1 << 32, 0, 0, &KiviConfig::new(2, 4, 4)).unwrap();
    let seq = 1 << 30; // 2^62 heads of tokens, each of 4 bytes if it had a feature
    let x = Array3::zeros([1 << 32, seq, 0]);
    let error = KvCacheError::Size {
        axes: [1, 1 << 32, seq, 0],
        element_bytes: 4,
    };
    assert_eq!(cache.append(0, &x, &x), Err(error));
    assert_eq!(cache.len(0), Ok(0));
}

/// As many as no loop ends with.
#[test]
fn tokens_without_features_are_only_counted() {
    let seq = 1 << 50;
    let x = Array3::zeros([1, seq, 0]);
    for residual in [0, seq] {
        let config = KiviConfig::new(2, seq, residual);
        let mut cache = KiviCache::new(1, 1, 0, 0, &config).unwrap();
        cache.append(0, &x, &x).unwrap();
        assert_eq!(cache.quantized_keys(0), Ok(seq));
        cache.crop(0, seq - 1).unwrap();
        assert_eq!(cache.quantized_keys(0), Ok(0));
        let (keys, values) = cache.gather(0).unwrap();
        assert_eq!([keys.dim(), values.dim()], [(1, seq - 1, 0); 2]);
    }
}

#[test]
fn what_waits_after_a_crop_can_be_quantized_and_saved() {
    // The step of -65504 to 65504 in two bits is rounded up to 43680, so that the last code says 65536.
    let mut cache = KiviCache::new(1, 1, 1, 1, &KiviConfig::new(2, 4, 0)).unwrap();
    let k = Array3::from_shape_vec([1, 4, 1], vec![-65504.0, 65504.0, 0.0, 1.0]).unwrap();
    let v = Array3::zeros([1, 4, 1]);
    cache.append(0, &k, &v).unwrap();
    assert_eq!(cache.gather(0).unwrap().0[[0, 1, 0]], 65536.0);
    cache.crop(0, 2).unwrap();
    let mut file = Vec::new();
    cache.save(&mut file).unwrap();
    let mut again = KiviCache::load(&file[..], 1 << 16).unwrap();
    for cache in [&mut cache, &mut again] {
        assert_eq!(
            cache.gather(0).unwrap().0,
            ndarray::array![[[-65504.0], [65504.0]]]
        );
        cache.append(0, &k, &v).unwrap();
        assert!(cache.gather(0).unwrap().0.iter().all(|x| x.is_finite()));
    }
}
