//! Slots from tables and from the device: what is not in the pool is found, and nothing is written.

use llm_kvcache::gpu::{GpuKvCacheError, GpuPages, GpuSlots, NO_SLOT};
use llm_kvcache::paged::PageTable;
use ndarray::{Array2, Array4, array};
use proptest::prelude::*;

use super::{few, gpu, shape};

fn list(slots: &GpuSlots) -> Vec<u32> {
    slots
        .tensor()
        .download_blocking()
        .unwrap()
        .into_iter()
        .collect()
}

/// The slots of a table are those of its pages, by hand.
#[test]
fn slots_of_a_table() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(5, 3, 1, 1, 1);
    let mut table = PageTable::new(5, 3).unwrap();
    let (a, b) = (table.create(b"").unwrap(), table.create(b"").unwrap());
    table.grow(&[(a, 2)]).unwrap(); // page 0
    table.grow(&[(b, 4)]).unwrap(); // pages 1, 2
    table.grow(&[(a, 3)]).unwrap(); // and page 3
    let slots = GpuSlots::for_writing(&gpu, shape, &table, &[(b, 2..4), (a, 1..5)]).unwrap();
    assert_eq!(list(&slots), [5, 6, 1, 2, 9, 10]);
    slots.check_blocking().unwrap();
}

/// Slots from the table and the lengths that attention reads equal those that the host makes.
#[test]
fn slots_of_a_block_table_on_the_device() {
    let Some(gpu) = gpu() else { return };
    let sizes = (1..9_usize, 1..5_usize, 0..6_usize);
    let lengths = prop::collection::vec(0..9_usize, 0..5);
    proptest!(few(64), |((n_pages, page_size, seq) in sizes, lengths in lengths)| {
        let shape = shape(n_pages, page_size, 1, 1, 1);
        let mut table = PageTable::new(n_pages, page_size).unwrap();
        let mut ids = Vec::new();
        for n in lengths {
            let id = table.create(b"").unwrap();
            ids.push(id);
            let _ = table.grow(&[(id, n)]); // a full pool leaves it empty
        }
        let (block_table, lengths) = table.block_table(&ids).unwrap();
        let mut want = Vec::new();
        for &id in &ids {
            let (len, pages) = (table.len(id).unwrap(), table.pages(id).unwrap());
            for back in (1..=seq).rev() {
                want.push(match len.checked_sub(back) {
                    Some(token) => pages[token / page_size] * page_size as u32 + (token % page_size) as u32,
                    None => NO_SLOT,
                });
            }
        }
        let (block_table, lengths) = (gpu.upload(&block_table).unwrap(), gpu.upload(&lengths).unwrap());
        let mut recorder = gpu.recorder();
        let slots = GpuSlots::of_block_table(&mut recorder, shape, &block_table, &lengths, seq).unwrap();
        recorder.submit().unwrap();
        prop_assert_eq!(list(&slots), want);
        prop_assert_eq!(slots.check_blocking(), Ok(()));
    });
}

/// Writes ones to slots of the device into pages of twos; what is found, and how many ones there are then.
fn write(slots: &[u32]) -> Option<(Result<(), GpuKvCacheError>, usize)> {
    let gpu = gpu()?;
    let shape = shape(3, 2, 2, 3, 3);
    let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
    let x = Array4::<f32>::ones((1, 2, slots.len(), 3));
    let x = gpu.upload(&x).unwrap();
    let on_device = gpu.upload_slice(&[slots.len()], slots).unwrap();
    let mut recorder = gpu.recorder();
    let slots = GpuSlots::on_device(&mut recorder, shape, &on_device).unwrap();
    pages.write(&mut recorder, &slots, &x, &x).unwrap();
    recorder.submit().unwrap();
    let [k, v] = [pages.k(), pages.v()].map(|x| x.download_blocking().unwrap().sum());
    assert_eq!(k, v);
    Some((slots.check_blocking(), k as usize / 6))
}

#[test]
fn slots_of_the_device_are_looked_at() {
    let refused = |token, got| {
        Err(GpuKvCacheError::Slot {
            token,
            n_slots: 6,
            got,
        })
    };
    for (slots, want) in [
        (vec![0, 5, 2], (Ok(()), 3)),
        (vec![], (Ok(()), 0)),
        (vec![NO_SLOT, 3, NO_SLOT], (Ok(()), 1)),
        (vec![0, 6, 2], (refused(1, 6), 0)),
        (vec![NO_SLOT - 1, 6, 2], (refused(0, NO_SLOT - 1), 0)),
        (vec![1, 2, 3, 1 << 31], (refused(3, 1 << 31), 0)),
    ] {
        let Some(got) = write(&slots) else { return };
        assert_eq!(got, want, "{slots:?}");
    }
}

/// A table of the device that names pages beyond the pool, or is too short for the lengths.
#[test]
fn tables_of_the_device_are_looked_at() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(3, 2, 1, 1, 1);
    let refused = |row, token| {
        Err(GpuKvCacheError::TablePage {
            row,
            token,
            n_pages: 3,
        })
    };
    for (table, lengths, seq, want) in [
        (array![[2, 0], [1, 99]], [4, 2], 2, Ok(())), // the wrong page is not needed
        (array![[2, 0], [1, 99]], [4, 3], 2, refused(1, 1)),
        (array![[2, 3], [1, 99]], [4, 3], 2, refused(0, 0)),
        (array![[2, 0], [1, 0]], [4, 5], 3, refused(1, 2)), // no such column
        (array![[2, 0], [1, 0]], [4, u32::MAX], 1, refused(1, 0)),
        (array![[2, 0], [1, 0]], [0, 0], 2, Ok(())),
    ] {
        let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
        let (table, lengths): (Array2<u32>, _) = (table, array![lengths[0], lengths[1]]);
        let (table, lengths) = (gpu.upload(&table).unwrap(), gpu.upload(&lengths).unwrap());
        let x = gpu.upload(&Array4::<f32>::ones((2, 1, seq, 1))).unwrap();
        let mut recorder = gpu.recorder();
        let slots = GpuSlots::of_block_table(&mut recorder, shape, &table, &lengths, seq).unwrap();
        pages.write(&mut recorder, &slots, &x, &x).unwrap();
        recorder.submit().unwrap();
        assert_eq!(slots.check_blocking(), want);
        let written = pages.k().download_blocking().unwrap().sum();
        if want.is_err() {
            assert_eq!(written, 0.0);
        }
    }
}

/// What has no place is read as zeros, and nothing else is read.
#[test]
fn tokens_without_a_place_are_zeros() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(2, 2, 1, 1, 1);
    let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
    let x = gpu
        .upload(&array![[[1.0_f32], [2.0], [3.0], [4.0]]])
        .unwrap();
    let mut recorder = gpu.recorder();
    let all = gpu.upload(&array![0_u32, 1, 2, 3]).unwrap();
    let all = GpuSlots::on_device(&mut recorder, shape, &all).unwrap();
    pages.write(&mut recorder, &all, &x, &x).unwrap();
    let some = gpu.upload(&array![3_u32, NO_SLOT, 4, 0]).unwrap();
    let some = GpuSlots::on_device(&mut recorder, shape, &some).unwrap();
    let (k, v) = pages.gather(&mut recorder, &some).unwrap();
    recorder.submit().unwrap();
    for x in [k, v] {
        let got = x.download_blocking().unwrap();
        assert_eq!(got, array![[[4.0], [0.0], [0.0], [1.0]]].into_dyn());
    }
    let (token, n_slots, got) = (2, 4, 4);
    let want = GpuKvCacheError::Slot {
        token,
        n_slots,
        got,
    };
    assert_eq!(some.check_blocking(), Err(want));
}
