//! How many dispatches each call records: what the documentation of `gpu` states.

use llm_kvcache::gpu::llm_gpu::{Gpu, Recorder};
use llm_kvcache::gpu::{GpuPageElement, GpuPool, GpuSlots, Int4};
use llm_kvcache::paged::{PageCopy, PageTable, PoolConfig, TokenMove};
use ndarray::Array3;

use super::gpu;
use super::half::bf16;

/// As a recorder tells who debugs it.
fn recorded(recorder: &Recorder) -> usize {
    let text = format!("{recorder:?}");
    let (_, rest) = text.split_once("dispatches: ").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Writing, gathering, clearing, copying a page, exchanging two, moving a token.
fn of<E: GpuPageElement>(gpu: &Gpu) -> [usize; 6] {
    let pool = GpuPool::<E>::new(gpu, &PoolConfig::new(1, 4, 2, 2, 3)).unwrap();
    let mut table = PageTable::new(4, 2).unwrap();
    let id = table.create(b"").unwrap();
    table.grow(&[(id, 3)]).unwrap();
    let slots = GpuSlots::for_writing(gpu, pool.shape(), &table, &[(id, 0..3)]).unwrap();
    let x = gpu.upload(&Array3::<f32>::ones((2, 3, 3))).unwrap();
    let layer = pool.layer(0).unwrap();
    let copy = |from, to| PageCopy { from, to };
    let counted = |record: &dyn Fn(&mut Recorder)| {
        let mut recorder = gpu.recorder();
        record(&mut recorder);
        recorded(&recorder)
    };
    [
        counted(&|r| layer.write(r, &slots, &x, &x).unwrap()),
        counted(&|r| layer.gather(r, &slots).map(drop).unwrap()),
        counted(&|r| layer.clear(r, &slots).unwrap()),
        counted(&|r| pool.copy_pages(r, &[copy(0, 1), copy(0, 2)]).unwrap()),
        counted(&|r| pool.copy_pages(r, &[copy(0, 1), copy(1, 0)]).unwrap()),
        counted(&|r| {
            let (from, to) = ((0, 1), (3, 0));
            pool.move_tokens(r, &[TokenMove { from, to }]).unwrap();
        }),
    ]
}

#[test]
fn each_call_records_what_is_stated() {
    let Some(gpu) = gpu() else { return };
    assert_eq!(of::<f32>(&gpu), [2, 2, 2, 2, 4, 2]);
    assert_eq!(of::<bf16>(&gpu), [2, 2, 2, 2, 4, 2]);
    assert_eq!(of::<i8>(&gpu), [4, 2, 4, 3, 6, 3]);
    assert_eq!(of::<Int4>(&gpu), [4, 2, 4, 3, 6, 3]);
    let shape = PoolConfig::new(1, 4, 2, 2, 3);
    let shape = GpuPool::<f32>::new(&gpu, &shape).unwrap().shape();
    let mut recorder = gpu.recorder();
    let words = gpu.zeros::<u32>(&[2]).unwrap();
    GpuSlots::on_device(&mut recorder, shape, &words).unwrap();
    assert_eq!(recorded(&recorder), 1);
    let table = gpu.zeros::<u32>(&[2, 3]).unwrap();
    GpuSlots::of_block_table(&mut recorder, shape, &table, &words, 1).unwrap();
    assert_eq!(recorded(&recorder), 2);
    // What has nothing to do does nothing.
    let pool = GpuPool::<i8>::new(&gpu, &PoolConfig::new(3, 4, 2, 2, 3)).unwrap();
    pool.copy_pages(&mut recorder, &[]).unwrap();
    pool.copy_pages(&mut recorder, &[PageCopy { from: 1, to: 1 }])
        .unwrap();
    assert_eq!(recorded(&recorder), 2);
}
