//! Counts by hand, and those of the stores themselves.

use llm_kvcache::calculator::{
    ModelSizes, Room, Storage, batch_bytes, decode_work, pass_work, prefill_work,
    storage_bytes_per_token,
};
use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{FloatPages, Int4Pages, Int8Pages, PageData, PagedCache, PoolConfig};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, KvCacheError, SinkCache};
use llm_numerics::half::f16;
use ndarray::Array3;

fn model() -> ModelSizes {
    let mut model = ModelSizes::llama_2_7b();
    model.n_layers = 2;
    model.d_model = 8;
    model.n_heads = 4;
    model.n_kv_heads = 2;
    model.head_dim = 2;
    model.d_ff = 10;
    model.vocab = 7;
    model
}

/// Projections 8·8 (q), 8·4 (k), 8·4 (v), 8·8 (o) = 192; feed-forward 3·8·10 = 240; two layers 864; head 8·7 = 56.
#[test]
fn weights_by_hand() {
    assert_eq!(model().matrix_weights(), Ok(920));
    // LLaMA-2 7B has 6,738,415,616 parameters: the embedding (32000 · 4096) and the norms (65 · 4096) are no products.
    let weights = ModelSizes::llama_2_7b().matrix_weights().unwrap();
    assert_eq!(weights + 32000 * 4096 + 65 * 4096, 6_738_415_616);
    // Llama 3 8B: 8,030,261,248 parameters.
    let weights = ModelSizes::llama_3_8b().matrix_weights().unwrap();
    assert_eq!(weights + 128_256 * 4096 + 65 * 4096, 8_030_261_248);
}

/// Three tokens of two sequences behind nothing, in 2 bytes a number:
///
/// ```text
/// products:  2 · 2 · (3 · 864 + 56) = 10592
/// attention: 1 + 2 + 3 = 6 pairs; 4 · 2 · 2 layers · 4 heads · 2 = 128 for each: 768
/// weights:   920 · 2 = 1840
/// cache:     a token has 2 · 2 layers · 2 heads · 2 = 16 numbers, 32 bytes; 6 tokens read and written: 192 each
/// ```
#[test]
fn a_prefill_by_hand() {
    let work = prefill_work(&model(), 2, 3, 2).unwrap();
    assert_eq!(work.flops, 10592 + 768);
    assert_eq!(work.weight_bytes, 1840);
    assert_eq!((work.cache_read_bytes, work.cache_write_bytes), (192, 192));
    assert_eq!(work.bytes(), 2224);
    assert!((work.intensity() - 11360.0 / 2224.0).abs() < 1e-12);
}

/// One token behind five: 2 · 920 for the products; 6 pairs of 64 each; 6 tokens read, one written.
#[test]
fn a_decode_step_by_hand() {
    let work = decode_work(&model(), 1, 5, 2).unwrap();
    assert_eq!(work.flops, 1840 + 384);
    assert_eq!((work.cache_read_bytes, work.cache_write_bytes), (192, 32));
}

// ANCHOR: steps
/// The steps of a sequence are its prefill, but that each computes logits and reads the weights.
#[test]
fn decode_steps_add_up_to_a_prefill() {
    let model = model();
    let steps: u64 = (0..9)
        .map(|past| decode_work(&model, 1, past, 2).unwrap().flops)
        .sum();
    assert_eq!(
        steps,
        prefill_work(&model, 1, 9, 2).unwrap().flops + 8 * 2 * 56
    );
    let chunks =
        pass_work(&model, 1, 0, 4, 2).unwrap().flops + pass_work(&model, 1, 4, 5, 2).unwrap().flops;
    assert_eq!(
        chunks,
        prefill_work(&model, 1, 9, 2).unwrap().flops + 2 * 56
    );
    assert_eq!(pass_work(&model, 3, 4, 0, 2).unwrap().flops, 0);
}
// ANCHOR_END: steps

#[test]
fn the_stores_take_the_bytes_that_are_computed() {
    fn pool<P: PageData>(storage: Storage) {
        let config = PoolConfig::new(3, 5, 4, 2, 6).with_value_dim(5);
        let cache = PagedCache::<P>::new(&config).unwrap();
        let bytes = storage_bytes_per_token(3, 2, [6, 5], storage).unwrap();
        let all = batch_bytes(bytes, 1, 17, Room::Paged { page_size: 4 });
        assert_eq!(all, Ok(cache.bytes() as u64), "{storage:?}");
    }
    pool::<FloatPages<f32>>(Storage::Float { element_bytes: 4 });
    pool::<FloatPages<f16>>(Storage::Float { element_bytes: 2 });
    pool::<Int8Pages>(Storage::Int8);
    pool::<Int4Pages>(Storage::Int4);

    let float = storage_bytes_per_token(1, 2, [6, 5], Storage::Float { element_bytes: 4 }).unwrap();
    let cache = ContiguousCache::<f32>::new(3, 2, 9, 6, 5).unwrap();
    let room = Room::Contiguous { capacity: 9 };
    assert_eq!(batch_bytes(float, 3, 1, room), Ok(cache.bytes() as u64));
    let config = RingConfig::new(3, 2, 4, 6).with_slack(2).with_value_dim(5);
    let cache = RingCache::<f32>::new(&config).unwrap();
    let room = Room::Ring {
        window: 4,
        slack: 2,
    };
    assert_eq!(batch_bytes(float, 3, 100, room), Ok(cache.bytes() as u64));
    let config = RingConfig::new(3, 2, 5, 6).with_slack(1).with_value_dim(5);
    let cache = SinkCache::<f32>::new(4, &config).unwrap();
    let room = Room::Sinks {
        n_sinks: 4,
        window: 5,
        slack: 1,
    };
    assert_eq!(batch_bytes(float, 3, 100, room), Ok(cache.bytes() as u64));

    let mut cache = KiviCache::new(1, 2, 6, 5, &KiviConfig::new(2, 8, 0)).unwrap();
    let (k, v) = (Array3::zeros([2, 16, 6]), Array3::zeros([2, 16, 5]));
    cache.append(0, &k, &v).unwrap();
    let kivi = Storage::Kivi { bits: 2, group: 8 };
    // A key takes 6 · (2 + 4) / 8 = 4.5 bytes, which the count rounds up to 5, in each of two heads and 16 tokens.
    let bytes = storage_bytes_per_token(1, 2, [6, 5], kivi).unwrap();
    assert_eq!(16 * bytes - 16, cache.bytes() as u64);
}

#[test]
fn counts_that_overflow_are_refused() {
    let float = Storage::Float {
        element_bytes: usize::MAX,
    };
    assert!(matches!(
        storage_bytes_per_token(2, 2, [2, 2], float),
        Err(KvCacheError::ByteCount { .. })
    ));
    let mut model = model();
    model.d_ff = usize::MAX;
    assert!(matches!(
        prefill_work(&model, 1, 1, 1),
        Err(KvCacheError::ByteCount { .. })
    ));
    let model = ModelSizes::llama_2_7b();
    assert!(matches!(
        decode_work(&model, usize::MAX, usize::MAX, 2),
        Err(KvCacheError::ByteCount { .. })
    ));
    assert_eq!(
        storage_bytes_per_token(1, 1, [1, 1], Storage::Kivi { bits: 2, group: 0 }),
        Err(KvCacheError::Setting {
            name: "group",
            rule: "positive",
            got: 0
        })
    );
}
