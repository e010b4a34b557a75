//! What the pool refuses; that nothing changes then is in `properties::pool` too, for any operations.

use llm_kvcache::paged::{
    FloatPages, Int4Pages, Int8Pages, PageTable, PagedCache, PoolConfig, SequenceId,
};
use llm_kvcache::{KvCacheError, Largest};
use ndarray::{Array3, Array4, ArrayView3};

type Cache = PagedCache<FloatPages<f32>>;

/// Two layers, four pages of two tokens; `a` has three tokens, `b` one.
fn cache() -> (Cache, SequenceId, SequenceId) {
    let mut cache = Cache::new(&PoolConfig::new(2, 4, 2, 1, 2)).unwrap();
    let (a, b) = (cache.create(b"").unwrap(), cache.create(b"").unwrap());
    let x = |n| Array3::from_shape_fn([1, n, 2], |(_, t, d)| (t * 2 + d + 1) as f32);
    let (three, one) = (x(3), x(1));
    cache
        .append(a, &[three.view(); 2], &[three.view(); 2])
        .unwrap();
    cache.append(b, &[one.view(); 2], &[one.view(); 2]).unwrap();
    (cache, a, b)
}

fn refused(
    error: KvCacheError,
    change: impl FnOnce(&mut Cache, SequenceId, SequenceId) -> Result<(), KvCacheError>,
) {
    let (mut changed, a, b) = cache();
    assert_eq!(change(&mut changed, a, b), Err(error));
    let file = |cache: &Cache| {
        let mut file = Vec::new();
        cache.save(&mut file).unwrap();
        file
    };
    assert!(file(&changed) == file(&cache().0));
    assert_eq!(
        format!("{:?}", changed.table()),
        format!("{:?}", cache().0.table())
    );
}

#[test]
fn a_pool_without_places_or_with_too_many_is_refused() {
    assert_eq!(PageTable::new(3, 0).unwrap_err(), KvCacheError::PageSize);
    let error = PageTable::new(1 << 20, 1 << 12).unwrap_err();
    assert_eq!(
        error,
        KvCacheError::Size {
            axes: [1 << 20, 1 << 12, 1, 1],
            element_bytes: 1
        }
    );
    assert!(matches!(
        Cache::new(&PoolConfig::new(1, 1 << 10, 1 << 10, 1 << 30, 1 << 30)),
        Err(KvCacheError::Size { .. })
    ));
}

#[test]
fn an_exhausted_pool_refuses_all_or_nothing() {
    let x = Array3::<f32>::zeros([1, 5, 2]);
    let error = KvCacheError::PoolExhausted {
        needed: 2,
        available: 1,
        n_pages: 4,
    };
    refused(error, |cache, a, _| {
        cache.append(a, &[x.view(); 2], &[x.view(); 2])
    });
    // One page would do for either, not for both.
    let x = Array4::<f32>::zeros([2, 1, 2, 2]);
    refused(error, |cache, a, b| {
        cache.append_batch(&[a, b], &[x.view(); 2], &[x.view(); 2])
    });
    refused(error, |cache, a, b| cache.extend(&[(a, 2), (b, 2)]));
    let most = KvCacheError::PoolExhausted {
        needed: usize::MAX / 2 - 2, // ceil((2^64 - 2) / 2) pages, and a has two
        available: 1,
        n_pages: 4,
    };
    refused(most, |cache, a, _| cache.extend(&[(a, usize::MAX - 4)]));
}

#[test]
fn sequences_that_are_not_there_are_refused() {
    let (mut cache, a, b) = cache();
    cache.free(a).unwrap();
    let error = KvCacheError::Sequence { id: a.number() };
    let x = Array3::<f32>::zeros([1, 1, 2]);
    let none = Array3::<f32>::zeros([1, 0, 2]);
    assert_eq!(cache.free(a), Err(error));
    assert_eq!(cache.append(a, &[x.view(); 2], &[x.view(); 2]), Err(error));
    assert_eq!(
        cache.append(a, &[none.view(); 2], &[none.view(); 2]),
        Err(error)
    );
    assert_eq!(cache.write(0, a, 0, x.view(), x.view()), Err(error));
    assert_eq!(cache.fork(a), Err(error));
    assert_eq!(cache.crop(a, 0), Err(error));
    assert_eq!(cache.retain(a, &[]), Err(error));
    assert_eq!(cache.publish(a, &[]), Err(error));
    assert_eq!(cache.reorder(&[b], &[a]), Err(error));
    assert_eq!(cache.gather(0, a), Err(error));
    assert_eq!(cache.block_table(&[b, a]), Err(error));
    assert_eq!(cache.extend(&[(b, 0), (a, 0)]), Err(error));
    // A new sequence gets another number.
    assert_ne!(cache.create(b"").unwrap(), a);
}

#[test]
fn a_batch_names_each_sequence_once() {
    refused(KvCacheError::Repeated { id: 0 }, |cache, a, _| {
        cache.extend(&[(a, 1), (a, 1)])
    });
    refused(KvCacheError::Repeated { id: 1 }, |cache, a, b| {
        cache.reorder(&[b, b], &[a, a])
    });
    refused(
        KvCacheError::ReorderLen { batch: 1, got: 2 },
        |cache, a, b| cache.reorder(&[b], &[a, a]),
    );
}

#[test]
fn a_sequence_does_not_become_one_of_another_salt() {
    let (mut cache, a, _) = cache();
    let other = cache.create(b"other").unwrap();
    for (id, from) in [(a, other), (other, a)] {
        let error = KvCacheError::Salts {
            id: id.number(),
            from: from.number(),
        };
        assert_eq!(cache.reorder(&[id], &[from]), Err(error));
    }
    assert_eq!(cache.table().salt(a), Ok(&b""[..]));
    assert_eq!(cache.table().salt(other), Ok(&b"other"[..]));
    assert_eq!(cache.table().len(a), Ok(3));
    let fork = cache.fork(a).unwrap();
    assert_eq!(cache.reorder(&[a, fork], &[fork, fork]), Ok(()));
}

#[test]
fn layers_and_shapes_that_do_not_fit_are_refused() {
    let (x, y) = (
        Array3::<f32>::zeros([1, 1, 2]),
        Array3::<f32>::zeros([1, 2, 2]),
    );
    let wide = Array3::<f32>::zeros([1, 1, 3]);
    fn two<'a>(x: &'a Array3<f32>, y: &'a Array3<f32>) -> [ArrayView3<'a, f32>; 2] {
        [x.view(), y.view()]
    }
    let layers = KvCacheError::Layers {
        expected: 2,
        keys: 1,
        values: 2,
    };
    refused(layers, |cache, a, _| {
        cache.append(a, &[x.view()], &two(&x, &x))
    });
    let tokens = KvCacheError::LayerTokens {
        expected: 1,
        got: 2,
    };
    refused(tokens, |cache, a, _| {
        cache.append(a, &two(&x, &y), &two(&x, &y))
    });
    let key = KvCacheError::KeyShape {
        n_kv_heads: 1,
        head_dim: 2,
        got: [1, 1, 3],
    };
    refused(key, |cache, a, _| {
        cache.append(a, &two(&x, &wide), &two(&x, &x))
    });
    let value = KvCacheError::ValueShape {
        n_kv_heads: 1,
        seq: 1,
        value_dim: 2,
        got: [1, 1, 3],
    };
    refused(value, |cache, a, _| {
        cache.append(a, &two(&x, &x), &two(&x, &wide))
    });
    let layer = KvCacheError::Layer {
        layer: 2,
        n_layers: 2,
    };
    refused(layer, |cache, a, _| {
        cache.write(2, a, 0, x.view(), x.view())
    });
    refused(layer, |cache, a, _| cache.gather(2, a).map(|_| ()));
    refused(layer, |cache, _, _| cache.layer(2).map(|_| ()));
    let x = Array4::<f32>::zeros([1, 1, 1, 2]);
    let batch = KvCacheError::Batch {
        expected: 2,
        keys: 1,
        values: 1,
    };
    refused(batch, |cache, a, b| {
        cache.append_batch(&[a, b], &[x.view(); 2], &[x.view(); 2])
    });
}

#[test]
fn only_tokens_of_its_own_are_written() {
    let x = Array3::<f32>::zeros([1, 2, 2]);
    let range = KvCacheError::WriteRange {
        id: 0,
        len: 3,
        start: 2,
        end: 4,
    };
    refused(range, |cache, a, _| {
        cache.write(0, a, 2, x.view(), x.view())
    });
    let range = KvCacheError::WriteRange {
        id: 0,
        len: 3,
        start: usize::MAX,
        end: usize::MAX,
    };
    refused(range, |cache, a, _| {
        cache.write(0, a, usize::MAX, x.view(), x.view())
    });

    let (mut cache, a, _) = cache();
    let page = cache.table().pages(a).unwrap()[0];
    let fork = cache.fork(a).unwrap();
    for id in [a, fork] {
        let error = KvCacheError::SharedPage {
            id: id.number(),
            page,
        };
        assert_eq!(cache.write(0, id, 0, x.view(), x.view()), Err(error));
    }
    cache.free(fork).unwrap();
    cache.write(0, a, 0, x.view(), x.view()).unwrap();
    cache.publish(a, &[1, 2, 3]).unwrap();
    let error = KvCacheError::SharedPage {
        id: a.number(),
        page,
    };
    assert_eq!(cache.write(0, a, 1, x.view(), x.view()), Err(error));
}

/// As many as no loop ends with.
#[test]
fn heads_without_features_are_not_copied_one_by_one() {
    let config = PoolConfig::new(1, 2, 4, 1 << 50, 0);
    let mut cache = PagedCache::<FloatPages<f32>>::new(&config).unwrap();
    let id = cache.create(b"").unwrap();
    cache.extend(&[(id, 2)]).unwrap();
    let fork = cache.fork(id).unwrap();
    cache.extend(&[(fork, 1)]).unwrap(); // copies the page
    cache.retain(fork, &[0, 2]).unwrap(); // moves a token
    assert_eq!(cache.gather(0, fork).unwrap().0.dim(), (1 << 50, 2, 0));
}

#[test]
fn more_tokens_than_there_are_cannot_be_kept() {
    let crop = KvCacheError::SequenceCrop {
        id: 0,
        len: 3,
        got: 4,
    };
    refused(crop, |cache, a, _| cache.crop(a, 4));
    let keep = |place, least, got| KvCacheError::Keep {
        place,
        least,
        len: 3,
        got,
    };
    refused(keep(1, 2, 1), |cache, a, _| cache.retain(a, &[1, 1]));
    refused(keep(1, 3, 0), |cache, a, _| cache.retain(a, &[2, 0]));
    refused(keep(0, 0, 3), |cache, a, _| cache.retain(a, &[3]));
    let ids = KvCacheError::TokenIds {
        id: 0,
        len: 3,
        got: 2,
    };
    refused(ids, |cache, a, _| cache.publish(a, &[1, 2]).map(|_| ()));
}

#[test]
fn a_pool_does_not_give_up_pages_that_are_held() {
    let error = KvCacheError::PagesHeld {
        needed: 2,
        free: 1,
        n_pages: 4,
    };
    refused(error, |cache, _, _| cache.resize(2));
    let (mut cache, a, _) = cache();
    cache.resize(3).unwrap();
    cache.resize(10).unwrap();
    assert_eq!((cache.table().n_pages(), cache.table().n_free()), (10, 7));
    assert_eq!(cache.gather(0, a).unwrap().0.dim(), (1, 3, 2));
}

#[test]
fn numbers_without_a_code_are_refused() {
    fn run<P: llm_kvcache::paged::PageData<Input = f32>>(bad: f32, max: Largest) {
        let mut cache = PagedCache::<P>::new(&PoolConfig::new(2, 1, 2, 1, 2)).unwrap();
        let id = cache.create(b"").unwrap();
        let good = Array3::<f32>::zeros([1, 1, 2]);
        let mut x = good.clone();
        x[[0, 0, 1]] = bad;
        let error = KvCacheError::NotQuantizable {
            name: "v",
            max,
            head: 0,
            token: 0,
            feature: 1,
        };
        // Only the last layer is wrong.
        let got = cache.append(id, &[good.view(); 2], &[good.view(), x.view()]);
        assert_eq!(got, Err(error));
        assert_eq!((cache.table().len(id), cache.table().n_free()), (Ok(0), 1));
        cache.extend(&[(id, 1)]).unwrap();
        assert_eq!(cache.write(1, id, 0, good.view(), x.view()), Err(error));
    }
    for bad in [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        -3.401e38,
    ] {
        run::<Int8Pages>(bad, Largest::F32);
        run::<Int4Pages>(bad, Largest::F16);
    }
    run::<Int4Pages>(70000.0, Largest::F16);
    // The largest that is not refused comes back finite.
    let mut cache = PagedCache::<Int8Pages>::new(&PoolConfig::new(1, 1, 1, 1, 2)).unwrap();
    let id = cache.create(b"").unwrap();
    for most in [3.4e38_f32, -3.4e38] {
        let x = ndarray::array![[[most, 1.0]]];
        cache.append(id, &[x.view()], &[x.view()]).unwrap();
        let (k, v) = cache.gather(0, id).unwrap();
        for got in [k[[0, 0, 0]], v[[0, 0, 0]]] {
            assert!((got / most - 1.0).abs() < 1e-6, "{got:e}");
        }
        cache.crop(id, 0).unwrap();
    }
}
