//! One file of each store, and what can be done with what comes of it.

use std::io::Read;

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{
    FloatPages, Int4Pages, Int8Pages, PageData, PagedCache, PoolConfig, PrefixHash,
};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError, SinkCache};
use ndarray::Array4;

/// A file of a store.
pub(super) struct Store {
    pub(super) name: &'static str,
    pub(super) file: Vec<u8>,
    /// Loads a file and saves it again.
    pub(super) load: fn(&mut dyn Read, usize) -> Result<Vec<u8>, KvCacheError>,
    /// Loads a file that can be loaded, and does with the cache whatever one can.
    pub(super) exercise: fn(&[u8], usize),
}

const TOKENS: [u32; 7] = [1, 2, 3, 4, 5, 6, 7];

fn numbers(seq: usize, offset: f32) -> Array4<f32> {
    Array4::from_shape_fn([2, 2, seq, 3], |(b, h, t, d)| {
        (b * 97 + h * 31 + t * 5 + d) as f32 + offset
    })
}

/// Two rows of seven tokens. Other offsets are other numbers; with more room the headers differ.
pub(super) fn stores(offset: f32, room: usize) -> Vec<Store> {
    let x = numbers(7, offset);
    macro_rules! store {
        ($name:literal, $type:ty, $cache:expr, $gather:expr) => {{
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
                exercise: |file, max| {
                    let mut cache = <$type>::load(file, max).unwrap();
                    // A forged size may make any of these an error, but nothing more. What is added
                    // has room without growing, since a forged block may be as long as memory.
                    for len in [3, 2, 0] {
                        for row in 0..cache.batch().min(3) {
                            let _ = cache.crop(row, usize::MAX - len);
                            let _ = cache.crop(row, len);
                        }
                        for seq in [1, 0, 3] {
                            let x = numbers(seq, 0.5);
                            let _ = cache.append_all(&x, &x);
                        }
                        for row in 0..cache.batch().min(3) {
                            $gather(&cache, row);
                        }
                    }
                    let _ = cache.reorder(&[1, 0]);
                    let _ = cache.select(&[1, 1, 0]);
                    cache.save(&mut Vec::new()).unwrap();
                    cache.clear();
                    assert!(cache.is_empty());
                },
            }
        }};
    }
    let mut all = vec![
        store!(
            "contiguous",
            ContiguousCache<f32>,
            ContiguousCache::new(2, 2, 9 + room, 3, 3).unwrap(),
            |cache: &ContiguousCache<f32>, row| (
                cache.keys(row).unwrap().sum(),
                cache.padded_values().sum()
            )
        ),
        store!(
            "growing",
            ContiguousCache<f32>,
            ContiguousCache::growing(2, 2, 4 + room, 3, 3).unwrap(),
            |cache: &ContiguousCache<f32>, row| cache.values(row).unwrap().sum()
        ),
        store!(
            "ring",
            RingCache<f32>,
            RingCache::new(&RingConfig::new(2, 2, 3, 3).with_slack(1 + room)).unwrap(),
            |cache: &RingCache<f32>, row| (
                cache.ordered_keys(row).unwrap(),
                cache.ordered_values(row).unwrap(),
                cache.len(row).unwrap()
            )
        ),
        store!(
            "sinks",
            SinkCache<f32>,
            SinkCache::new(2, &RingConfig::new(2, 2, 3, 3).with_slack(1 + room)).unwrap(),
            |cache: &SinkCache<f32>, row| (
                cache.stored_keys(row).unwrap(),
                cache.values(row).unwrap(),
                cache.positions(row).unwrap()
            )
        ),
        store!(
            "kivi",
            KiviCache,
            KiviCache::new(2, 2, 3, 3, &KiviConfig::new(2, 4, 4 * room)).unwrap(),
            |cache: &KiviCache, row| {
                if let Ok((k, v)) = cache.gather(row) {
                    assert!(k.iter().chain(&v).all(|x| x.is_finite()));
                }
            }
        ),
    ];
    all.push(pool::<FloatPages<f32>, false>("pool", &x, room));
    all.push(pool::<Int8Pages, true>("pool of int8", &x, room));
    all.push(pool::<Int4Pages, true>("pool of int4", &x, room));
    all
}

/// A sequence and its fork, cached prefixes of both salts, and pages that only a prefix holds.
fn pool<P: PageData<Input = f32>, const IS_QUANTIZED: bool>(
    name: &'static str,
    x: &Array4<f32>,
    room: usize,
) -> Store {
    let mut pool = PagedCache::<P>::new(&PoolConfig::new(1, 12 + room, 2, 2, 3)).unwrap();
    let ids = [pool.create(b"one").unwrap(), pool.create(b"two").unwrap()];
    pool.append_batch(&ids, &[x.view()], &[x.view()]).unwrap();
    ids.iter().for_each(|&id| {
        pool.publish(id, &TOKENS).unwrap();
    });
    pool.fork(ids[0]).unwrap();
    pool.free(ids[1]).unwrap();
    let mut file = Vec::new();
    pool.save(&mut file).unwrap();
    Store {
        name,
        file,
        load: |from, max| {
            let mut file = Vec::new();
            PagedCache::<P>::load(from, PrefixHash::default(), max)?.save(&mut file)?;
            Ok(file)
        },
        exercise: |file, max| exercise::<P, IS_QUANTIZED>(file, max),
    }
}

fn exercise<P: PageData<Input = f32>, const IS_QUANTIZED: bool>(file: &[u8], max: usize) {
    let mut pool = PagedCache::<P>::load(file, PrefixHash::default(), max).unwrap();
    let old: Vec<_> = pool.table().sequences().collect();
    for _ in 0..2 {
        // One of them may be the last that can be numbered.
        let before = pool.table().n_sequences();
        let added = pool.create(b"one").is_ok();
        assert_eq!(pool.table().n_sequences(), before + usize::from(added));
    }
    let _ = pool.create_with_prefix(b"one", &TOKENS);
    let _ = pool.create_with_prefix(b"two", &TOKENS);
    for &id in &old {
        let _ = pool.fork(id);
    }
    let x = numbers(1, 0.5);
    let x = x.index_axis(ndarray::Axis(0), 0);
    let layers = vec![x; pool.n_layers()];
    let all: Vec<_> = pool.table().sequences().collect();
    for &id in &all {
        let _ = pool.append(id, &layers, &layers);
        let len = pool.table().len(id).unwrap();
        for layer in 0..pool.n_layers() {
            if let Ok((k, v)) = pool.gather(layer, id)
                && IS_QUANTIZED
            {
                assert!(k.iter().chain(&v).all(|x| x.is_finite()));
            }
        }
        let _ = pool.publish(id, &vec![9; len]);
        pool.crop(id, len / 2).unwrap();
    }
    pool.reorder(&all, &all).unwrap();
    pool.block_table(&all).unwrap();
    pool.compact().unwrap();
    for id in all {
        pool.free(id).unwrap();
    }
    assert_eq!(pool.table().n_available(), pool.table().n_pages());
    pool.forget_prefixes();
    assert_eq!(pool.table().n_free(), pool.table().n_pages());
}
