//! Copies of pages and moves of tokens, in all arrays, on the device: as if all were read before the first is written.

use llm_kvcache::gpu::llm_gpu::Gpu;
use llm_kvcache::gpu::{GpuKvCacheError, GpuPool, GpuSlots, Int4};
use llm_kvcache::paged::{PageCopy, PageShape, PageTable, PoolConfig, TokenMove};
use ndarray::{Array3, Axis};
use proptest::prelude::*;
use proptest::sample::Index;

use super::half::{bf16, f16};
use super::{Kind, bits, downloaded, few, gpu, numbers, shape, shapes};

/// Two layers of pages with a token in every place, which are in the model too: `[kv_heads, n_slots, features]`.
struct Full<E: Kind> {
    pool: GpuPool<E>,
    slots: GpuSlots,
    model: Vec<[Array3<f32>; 2]>,
}

impl<E: Kind> Full<E> {
    fn new(gpu: &Gpu, shape: PageShape, key: u64) -> Self {
        let config = PoolConfig::new(
            2,
            shape.n_pages,
            shape.page_size,
            shape.n_kv_heads,
            shape.head_dim,
        )
        .with_value_dim(shape.value_dim);
        let pool = GpuPool::<E>::new(gpu, &config).unwrap();
        let n = shape.n_pages * shape.page_size;
        let mut table = PageTable::new(shape.n_pages, shape.page_size).unwrap();
        let id = table.create(b"").unwrap();
        table.grow(&[(id, n)]).unwrap();
        let pages = table.pages(id).unwrap();
        assert!(
            pages
                .iter()
                .enumerate()
                .all(|(i, &page)| i == page as usize)
        );
        let slots = GpuSlots::for_writing(gpu, shape, &table, &[(id, 0..n)]).unwrap();
        let mut recorder = gpu.recorder();
        let mut model = Vec::new();
        for layer in 0..2 {
            let array = |features, part| {
                numbers(
                    key + 2 * layer as u64 + part,
                    [shape.n_kv_heads, n, features],
                )
            };
            let x = [array(shape.head_dim, 0), array(shape.value_dim, 1)];
            let [k, v] = [&x[0], &x[1]].map(|x| gpu.upload(x).unwrap());
            let layer = pool.layer(layer).unwrap();
            layer.write(&mut recorder, &slots, &k, &v).unwrap();
            model.push(x.map(|x| E::round_trip(&x)));
        }
        recorder.submit().unwrap();
        Self { pool, slots, model }
    }

    /// Moves in the model: from a copy of what was there.
    fn moved(&mut self, runs: &[[usize; 3]]) {
        for x in self.model.iter_mut().flatten() {
            let before = x.clone();
            for &[from, to, n] in runs {
                for i in 0..n {
                    x.index_axis_mut(Axis(1), to + i)
                        .assign(&before.index_axis(Axis(1), from + i));
                }
            }
        }
    }

    fn check(&self, gpu: &Gpu) -> Result<(), TestCaseError> {
        let mut recorder = gpu.recorder();
        let mut got = Vec::new();
        for layer in 0..2 {
            let layer = self.pool.layer(layer).unwrap();
            let (k, v) = layer.gather(&mut recorder, &self.slots).unwrap();
            got.push([k, v]);
        }
        recorder.submit().unwrap();
        for (got, want) in got.iter().flatten().zip(self.model.iter().flatten()) {
            prop_assert_eq!(bits(&downloaded(got)), bits(&want.clone().into_dyn()));
        }
        Ok(())
    }
}

/// Pairs of places with different targets; sources as they come.
fn pairs() -> impl Strategy<Value = (Vec<Index>, Vec<Index>)> {
    let list = || prop::collection::vec(any::<Index>(), 0..5);
    (list(), list())
}

fn distinct((from, to): (Vec<Index>, Vec<Index>), n: usize) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (from, to) in from.into_iter().zip(to) {
        let (from, to) = (from.index(n), to.index(n));
        if pairs.iter().all(|pair| pair.1 != to) {
            pairs.push((from, to));
        }
    }
    pairs
}

fn copies<E: Kind>(
    gpu: &Gpu,
    shape: PageShape,
    pairs: &[(usize, usize)],
    key: u64,
) -> Result<(), TestCaseError> {
    let mut full = Full::<E>::new(gpu, shape, key);
    let copies: Vec<_> = (pairs.iter())
        .map(|&(from, to)| PageCopy {
            from: from as u32,
            to: to as u32,
        })
        .collect();
    let mut recorder = gpu.recorder();
    full.pool.copy_pages(&mut recorder, &copies).unwrap();
    recorder.submit().unwrap();
    let size = shape.page_size;
    let runs: Vec<_> = (pairs.iter())
        .map(|&(from, to)| [from * size, to * size, size])
        .collect();
    full.moved(&runs);
    full.check(gpu)
}

fn moves<E: Kind>(
    gpu: &Gpu,
    shape: PageShape,
    pairs: &[(usize, usize)],
    key: u64,
) -> Result<(), TestCaseError> {
    let mut full = Full::<E>::new(gpu, shape, key);
    let at = |slot: usize| ((slot / shape.page_size) as u32, slot % shape.page_size);
    let list: Vec<_> = (pairs.iter())
        .map(|&(from, to)| TokenMove {
            from: at(from),
            to: at(to),
        })
        .collect();
    let mut recorder = gpu.recorder();
    full.pool.move_tokens(&mut recorder, &list).unwrap();
    recorder.submit().unwrap();
    let runs: Vec<_> = pairs.iter().map(|&(from, to)| [from, to, 1]).collect();
    full.moved(&runs);
    full.check(gpu)
}

#[test]
fn pages_are_copied_in_all_layers() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(40), |(shape in shapes(), pairs in pairs(), key in any::<u32>())| {
        let (pairs, key) = (distinct(pairs, shape.n_pages), u64::from(key) << 8);
        copies::<f32>(&gpu, shape, &pairs, key)?;
        copies::<f16>(&gpu, shape, &pairs, key)?;
        copies::<bf16>(&gpu, shape, &pairs, key)?;
        copies::<i8>(&gpu, shape, &pairs, key)?;
        copies::<Int4>(&gpu, shape, &pairs, key)?;
    });
}

#[test]
fn tokens_are_moved_in_all_layers() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(40), |(shape in shapes(), pairs in pairs(), key in any::<u32>())| {
        let n = shape.n_pages * shape.page_size;
        let (pairs, key) = (distinct(pairs, n), u64::from(key) << 8);
        moves::<f32>(&gpu, shape, &pairs, key)?;
        moves::<f16>(&gpu, shape, &pairs, key)?;
        moves::<bf16>(&gpu, shape, &pairs, key)?;
        moves::<i8>(&gpu, shape, &pairs, key)?;
        moves::<Int4>(&gpu, shape, &pairs, key)?;
    });
}

/// Pages that change places, in a circle, and one that many want.
#[test]
fn pages_may_change_places() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(6, 3, 2, 5, 3);
    let pairs = [(0, 1), (1, 2), (2, 0), (0, 4), (3, 3)];
    copies::<f16>(&gpu, shape, &pairs, 1).unwrap();
    copies::<f32>(&gpu, shape, &pairs, 2).unwrap();
}

/// What stays of a sequence of which every second token goes: runs that read where others write.
#[test]
fn tokens_move_together() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(3, 4, 2, 5, 3);
    for keep in [
        vec![1, 2, 3, 4, 5, 6, 7, 8],
        vec![0, 2, 4, 6, 8, 10],
        vec![0, 1, 5, 6, 7],
        vec![0, 2, 3], // two tokens of an odd number of numbers, from an odd place on
    ] {
        let mut table = PageTable::new(3, 4).unwrap();
        let id = table.create(b"").unwrap();
        table.grow(&[(id, 12)]).unwrap();
        let list = table.retain(id, &keep).unwrap();
        let mut full = Full::<f16>::new(&gpu, shape, 3);
        let mut recorder = gpu.recorder();
        full.pool.move_tokens(&mut recorder, &list).unwrap();
        recorder.submit().unwrap();
        let pairs: Vec<_> = keep
            .iter()
            .enumerate()
            .map(|(to, &from)| [from, to, 1])
            .collect();
        full.moved(&pairs);
        full.check(&gpu).unwrap();
    }
}

#[test]
fn wrong_lists_move_nothing() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(4, 2, 1, 3, 3);
    let full = Full::<f32>::new(&gpu, shape, 4);
    let mut recorder = gpu.recorder();
    let good = PageCopy { from: 0, to: 1 };
    let mut refused =
        |copies: &[PageCopy]| full.pool.copy_pages(&mut recorder, copies).unwrap_err();
    let place = |page, place| GpuKvCacheError::Place {
        page,
        place,
        n_pages: 4,
        page_size: 2,
    };
    for (from, to) in [(4, 2), (2, 4), (u32::MAX, 2)] {
        let wrong = if from == 2 { to } else { from };
        assert_eq!(refused(&[good, PageCopy { from, to }]), place(wrong, 0));
    }
    let twice = GpuKvCacheError::Twice { page: 1, place: 0 };
    assert_eq!(refused(&[good, PageCopy { from: 3, to: 1 }]), twice);
    let token = |from, to| TokenMove { from, to };
    let mut refused =
        |moves: &[TokenMove]| full.pool.move_tokens(&mut recorder, moves).unwrap_err();
    assert_eq!(refused(&[token((0, 2), (1, 0))]), place(0, 2));
    assert_eq!(refused(&[token((0, 0), (4, 1))]), place(4, 1));
    let list = [token((0, 0), (3, 1)), token((1, 0), (3, 1))];
    let twice = GpuKvCacheError::Twice { page: 3, place: 1 };
    assert_eq!(refused(&list), twice);
    recorder.submit().unwrap();
    full.check(&gpu).unwrap();
}
