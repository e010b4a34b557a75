//! What the host refuses before anything is recorded, and that the same recording leaves the same bytes.

use llm_kvcache::KvCacheError;
use llm_kvcache::gpu::llm_gpu::{Gpu, GpuError, GpuTensor, testing};
use llm_kvcache::gpu::{
    GpuContiguousCache, GpuKvCacheError, GpuPages, GpuPool, GpuRingCache, GpuSlots,
};
use llm_kvcache::paged::{PageShape, PageTable, PoolConfig, SequenceId};
use llm_kvcache::ring::RingConfig;

use super::half::f16;
use super::{Kind, gpu, numbers, shape};

/// A table with a sequence of some tokens.
fn table(shape: PageShape, n: usize) -> (PageTable, SequenceId) {
    let mut table = PageTable::new(shape.n_pages, shape.page_size).unwrap();
    let id = table.create(b"").unwrap();
    table.grow(&[(id, n)]).unwrap();
    (table, id)
}

fn zeros(gpu: &Gpu, shape: &[usize]) -> GpuTensor<f32> {
    gpu.zeros(shape).unwrap()
}

fn cpu(error: KvCacheError) -> GpuKvCacheError {
    error.into()
}

#[test]
fn pages_that_cannot_be_are_refused() {
    let Some(gpu) = gpu() else { return };
    let refused = |shape| GpuPages::<f16>::new(&gpu, shape).unwrap_err();
    assert_eq!(refused(shape(1, 0, 1, 1, 1)), cpu(KvCacheError::PageSize));
    for (n_pages, page_size) in [(1 << 16, 1 << 16), (u32::MAX as usize, 1), (usize::MAX, 2)] {
        let axes = [n_pages, page_size, 1, 1];
        let want = cpu(KvCacheError::Size {
            axes,
            element_bytes: 1,
        });
        assert_eq!(refused(shape(n_pages, page_size, 1, 0, 0)), want);
        // No slots of such a pool either.
        let mut recorder = gpu.recorder();
        let (slots, shape) = (gpu.zeros(&[1]).unwrap(), shape(n_pages, page_size, 1, 0, 0));
        let got = GpuSlots::on_device(&mut recorder, shape, &slots).unwrap_err();
        assert_eq!(got, want);
        let table = gpu.zeros(&[1, 1]).unwrap();
        let got = GpuSlots::of_block_table(&mut recorder, shape, &table, &slots, 1).unwrap_err();
        assert_eq!(got, want);
    }
    let want = cpu(KvCacheError::Size {
        axes: [2, usize::MAX / 2, 3, 4],
        element_bytes: 2,
    });
    assert_eq!(refused(shape(2, 3, usize::MAX / 2, 4, 0)), want);
    let big = refused(shape(1 << 20, 1 << 10, 1 << 8, 1 << 8, 0));
    assert!(
        matches!(
            big,
            GpuKvCacheError::Gpu(
                GpuError::BufferTooLarge { .. } | GpuError::BindingTooLarge { .. }
            )
        ),
        "{big}"
    );
    let config = PoolConfig::new(2, 2, 0, 1, 1);
    let got = GpuPool::<f32>::new(&gpu, &config).unwrap_err();
    assert_eq!(got, cpu(KvCacheError::PageSize));
    let pool = GpuPool::<f32>::new(&gpu, &PoolConfig::new(2, 2, 2, 1, 1)).unwrap();
    let (layer, n_layers) = (2, 2);
    let want = cpu(KvCacheError::Layer { layer, n_layers });
    assert_eq!(pool.layer(2).unwrap_err(), want);
}

#[test]
fn slots_of_tokens_that_are_not_there_are_refused() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(4, 2, 1, 1, 1);
    let (mut table, a) = table(shape, 3);
    let b = table.fork(a).unwrap();
    let writing = |table: &PageTable, shape, tokens: &[_]| {
        GpuSlots::for_writing(&gpu, shape, table, tokens).map(|slots| slots.len())
    };
    let reading = |table: &PageTable, shape, tokens: &[_]| {
        GpuSlots::for_reading(&gpu, shape, table, tokens).map(|slots| slots.len())
    };
    let page = table.pages(a).unwrap()[1];
    let want = cpu(KvCacheError::SharedPage {
        id: a.number(),
        page,
    });
    assert_eq!(writing(&table, shape, &[(a, 2..3)]), Err(want));
    assert_eq!(
        reading(&table, shape, &[(a, 0..3), (b, 1..3), (a, 0..1)]),
        Ok(6)
    );
    let (row, len, start, end) = (1, 3, 1, 4);
    let want = cpu(KvCacheError::ReadRange {
        row,
        len,
        start,
        end,
    });
    assert_eq!(reading(&table, shape, &[(a, 0..3), (b, 1..4)]), Err(want));
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let backwards = 2..1;
    assert!(reading(&table, shape, &[(a, backwards.clone())]).is_err());
    table.free(b).unwrap();
    let want = cpu(KvCacheError::Sequence { id: b.number() });
    assert_eq!(reading(&table, shape, &[(b, 0..0)]), Err(want.clone()));
    assert_eq!(writing(&table, shape, &[(b, 0..0)]), Err(want));
    assert_eq!(writing(&table, shape, &[(a, 2..3)]), Ok(1));
    let (id, len, start, end) = (a.number(), 3, 2, 4);
    let want = cpu(KvCacheError::WriteRange {
        id,
        len,
        start,
        end,
    });
    assert_eq!(writing(&table, shape, &[(a, 2..4)]), Err(want));
    assert!(writing(&table, shape, &[(a, backwards)]).is_err());
    let want = cpu(KvCacheError::Repeated { id });
    assert_eq!(writing(&table, shape, &[(a, 0..1), (a, 1..2)]), Err(want));
    for other in [
        PageShape {
            n_pages: 5,
            ..shape
        },
        PageShape {
            page_size: 3,
            ..shape
        },
    ] {
        let got = shape;
        let want = GpuKvCacheError::Pool {
            expected: other,
            got,
        };
        assert_eq!(reading(&table, other, &[]), Err(want.clone()));
        assert_eq!(writing(&table, other, &[]), Err(want));
    }
}

#[test]
fn keys_and_values_of_other_shapes_are_refused() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(4, 2, 2, 3, 5);
    let (table, id) = table(shape, 4);
    let slots = GpuSlots::for_writing(&gpu, shape, &table, &[(id, 0..4)]).unwrap();
    let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
    let mut recorder = gpu.recorder();
    let mut write = |k: &[usize], v: &[usize]| {
        pages.write(&mut recorder, &slots, &zeros(&gpu, k), &zeros(&gpu, v))
    };
    let refused = |name, expected: &[usize], got: &[usize]| {
        Err(GpuKvCacheError::Shape {
            name,
            expected: expected.to_vec(),
            got: got.to_vec(),
        })
    };
    let (k, v) = ([2, 4, 3], [2, 4, 5]);
    let (k4, v4) = ([2, 2, 2, 3], [2, 2, 2, 5]);
    assert_eq!(write(&k, &v), Ok(()));
    assert_eq!(write(&k4, &v4), Ok(()));
    for wrong in [[2, 5, 3], [1, 4, 3], [2, 4, 4]] {
        assert_eq!(write(&wrong, &v), refused("k", &k, &wrong));
    }
    for wrong in [[2, 3, 5], [3, 4, 5], [2, 4, 3]] {
        assert_eq!(write(&k, &wrong), refused("v", &v, &wrong));
    }
    for wrong in [[2, 2, 3, 3], [2, 1, 2, 3], [2, 2, 2, 4]] {
        assert_eq!(write(&wrong, &v4), refused("k", &k4, &wrong));
    }
    assert_eq!(
        write(&[3, 2, 2, 3], &v4),
        refused("k", &[3, 2, 1, 3], &[3, 2, 2, 3])
    );
    assert_eq!(
        write(&[0, 2, 2, 3], &v4),
        refused("k", &[0, 2, 0, 3], &[0, 2, 2, 3])
    );
    // The same tokens, in another order.
    assert_eq!(write(&k4, &v), refused("v", &v4, &v));
    assert_eq!(write(&k4, &[4, 2, 1, 5]), refused("v", &v4, &[4, 2, 1, 5]));
    for flat in [vec![24], vec![1, 2, 2, 2, 3]] {
        let want = Err(GpuKvCacheError::Rank {
            name: "k",
            expected: "3 or 4",
            got: flat.clone(),
        });
        assert_eq!(write(&flat, &v), want);
    }
    let mut recorder = gpu.recorder();
    for batch in [3, 0] {
        let got = pages
            .gather_batch(&mut recorder, &slots, batch)
            .unwrap_err();
        assert_eq!(got, GpuKvCacheError::Batch { batch, tokens: 4 });
    }
    // Slots for reading, and slots of other pools.
    let to_read = GpuSlots::for_reading(&gpu, shape, &table, &[(id, 0..4)]).unwrap();
    let (k, v) = (zeros(&gpu, &k), zeros(&gpu, &v));
    let got = pages.write(&mut recorder, &to_read, &k, &v);
    assert_eq!(got, Err(GpuKvCacheError::ReadOnly));
    let got = pages.clear(&mut recorder, &to_read);
    assert_eq!(got, Err(GpuKvCacheError::ReadOnly));
    let other = PageShape {
        value_dim: 3,
        ..shape
    };
    let pages = GpuPages::<f32>::new(&gpu, other).unwrap();
    let want = GpuKvCacheError::Pool {
        expected: other,
        got: shape,
    };
    assert_eq!(
        pages.write(&mut recorder, &slots, &k, &k),
        Err(want.clone())
    );
    assert_eq!(pages.clear(&mut recorder, &slots), Err(want.clone()));
    assert_eq!(pages.gather(&mut recorder, &slots).unwrap_err(), want);
}

#[test]
fn tables_of_other_shapes_are_refused() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(4, 2, 2, 3, 5);
    let mut recorder = gpu.recorder();
    let words = |shape: &[usize]| gpu.zeros::<u32>(shape).unwrap();
    let mut refused = |table: &[usize], lengths: &[usize]| {
        let (table, lengths) = (words(table), words(lengths));
        GpuSlots::of_block_table(&mut recorder, shape, &table, &lengths, 1).unwrap_err()
    };
    let want = GpuKvCacheError::Rank {
        name: "block_table",
        expected: "2",
        got: vec![4],
    };
    assert_eq!(refused(&[4], &[4]), want);
    for got in [vec![3], vec![2, 1]] {
        let want = GpuKvCacheError::Shape {
            name: "lengths",
            expected: vec![2],
            got: got.clone(),
        };
        assert_eq!(refused(&[2, 3], &got), want);
    }
    let (table, lengths) = (words(&[2, 1]), words(&[2]));
    let got = GpuSlots::of_block_table(&mut recorder, shape, &table, &lengths, usize::MAX);
    assert!(matches!(got, Err(GpuKvCacheError::Gpu(_))), "{got:?}");
}

#[test]
fn caches_of_rows_refuse_other_shapes() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let mut contiguous = GpuContiguousCache::<f32>::new(&gpu, 2, 2, 4, 3, 3).unwrap();
    let mut ring = GpuRingCache::<f32>::new(&gpu, &RingConfig::new(2, 2, 4, 3)).unwrap();
    let mut both = |k: &[usize], v: &[usize], of_all: bool| {
        let (k, v) = (zeros(&gpu, k), zeros(&gpu, v));
        let outcomes = if of_all {
            [
                contiguous.append_all(&mut recorder, &k, &v),
                ring.append_all(&mut recorder, &k, &v),
            ]
        } else {
            [
                contiguous.append(&mut recorder, 0, &k, &v),
                ring.append(&mut recorder, 0, &k, &v),
            ]
        };
        let [a, b] = outcomes.map(|outcome| outcome.map(|_| ()).unwrap_err());
        assert_eq!(a, b);
        a
    };
    let rank = |name, expected, got: &[usize]| GpuKvCacheError::Rank {
        name,
        expected,
        got: got.to_vec(),
    };
    assert_eq!(both(&[2, 3], &[2, 1, 3], false), rank("k", "3", &[2, 3]));
    let flat = [2, 1, 3];
    assert_eq!(both(&[2, 2, 1, 3], &flat, true), rank("v", "4", &flat));
    let key_shape = KvCacheError::KeyShape {
        n_kv_heads: 2,
        head_dim: 3,
        got: [2, 1, 4],
    };
    assert_eq!(both(&[2, 1, 4], &[2, 1, 3], false), cpu(key_shape));
    assert_eq!(both(&[2, 2, 1, 4], &[2, 2, 1, 3], true), cpu(key_shape));
    let value_shape = KvCacheError::ValueShape {
        n_kv_heads: 2,
        seq: 1,
        value_dim: 3,
        got: [2, 2, 3],
    };
    assert_eq!(both(&[2, 1, 3], &[2, 2, 3], false), cpu(value_shape));
    let batch = KvCacheError::Batch {
        expected: 2,
        keys: 2,
        values: 3,
    };
    assert_eq!(both(&[2, 2, 1, 3], &[3, 2, 1, 3], true), cpu(batch));
    // What was refused has changed nothing.
    assert_eq!(contiguous.lengths(), [0, 0]);
    assert_eq!((ring.seen(0), ring.seen(1)), (Ok(0), Ok(0)));
}

/// Tensors of another device are found before they are bound.
#[test]
fn tensors_of_other_devices_are_refused() {
    let Some(gpu) = gpu() else { return };
    let other = testing::noop(testing::Profile::WebMinimum).unwrap();
    let shape = shape(4, 2, 1, 1, 1);
    let (table, id) = table(shape, 1);
    let slots = GpuSlots::for_writing(&other, shape, &table, &[(id, 0..1)]).unwrap();
    let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
    let x = zeros(&gpu, &[1, 1, 1]);
    let mut recorder = gpu.recorder();
    for got in [
        pages.write(&mut recorder, &slots, &x, &x),
        pages.clear(&mut recorder, &slots),
        pages.gather(&mut recorder, &slots).map(|_| ()),
        GpuSlots::on_device(&mut recorder, shape, slots.tensor()).map(|_| ()),
    ] {
        let is_other = matches!(got, Err(GpuKvCacheError::Gpu(GpuError::OtherDevice { .. })));
        assert!(is_other, "{got:?}");
    }
}

/// A word may belong to several tokens, and tokens are written in any order: the bytes are always the same.
#[test]
fn the_same_recording_leaves_the_same_bytes() {
    let Some(gpu) = gpu() else { return };
    fn bytes<E: Kind>(gpu: &Gpu) -> Vec<u8> {
        let shape = shape(9, 5, 3, 7, 5);
        let (mut table, id) = table(shape, 33);
        let config = PoolConfig::new(1, 9, 5, 3, 7).with_value_dim(5);
        let pool = GpuPool::<E>::new(gpu, &config).unwrap();
        let slots = GpuSlots::for_writing(gpu, shape, &table, &[(id, 0..33)]).unwrap();
        let [k, v] = [7, 5].map(|d| gpu.upload(&numbers(d as u64, [3, 33, d])).unwrap());
        let mut recorder = gpu.recorder();
        let pages = pool.layer(0).unwrap();
        pages.write(&mut recorder, &slots, &k, &v).unwrap();
        let keep: Vec<usize> = (0..33).filter(|i| i % 4 != 1).collect();
        let moves = table.retain(id, &keep).unwrap();
        pool.move_tokens(&mut recorder, &moves).unwrap();
        recorder.submit().unwrap();
        E::gpu_bytes(pages).concat()
    }
    let first = (bytes::<f16>(&gpu), bytes::<i8>(&gpu));
    assert!(first.0.iter().any(|&byte| byte != 0));
    for _ in 0..5 {
        assert_eq!((bytes::<f16>(&gpu), bytes::<i8>(&gpu)), first);
    }
}
