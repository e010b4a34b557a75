//! Tokens that the device writes and reads have the bits of the CPU.

use llm_kvcache::gpu::llm_gpu::Gpu;
use llm_kvcache::gpu::{GpuPages, GpuSlots, Int4};
use llm_kvcache::paged::{PageShape, PageTable, PagedCache, PoolConfig};
use ndarray::{Array3, Axis, stack};
use proptest::prelude::*;

use super::half::{bf16, f16};
use super::{Kind, bits, downloaded, few, gpu, numbers, shape, shapes};

fn config(shape: PageShape) -> PoolConfig {
    PoolConfig::new(
        1,
        shape.n_pages,
        shape.page_size,
        shape.n_kv_heads,
        shape.head_dim,
    )
    .with_value_dim(shape.value_dim)
}

/// Chunks of two sequences in turns, written by both; then all bytes, and what is gathered.
fn chunks<E: Kind>(
    gpu: &Gpu,
    shape: PageShape,
    chunks: &[(bool, usize)],
    key: u64,
) -> Result<(), TestCaseError> {
    let mut cache = PagedCache::<E::Cpu>::new(&config(shape)).unwrap();
    let mut table = PageTable::new(shape.n_pages, shape.page_size).unwrap();
    let pages = GpuPages::<E>::new(gpu, shape).unwrap();
    let ids = [table.create(b"").unwrap(), table.create(b"").unwrap()];
    for id in ids {
        prop_assert_eq!(cache.create(b"").unwrap(), id);
    }
    let mut recorder = gpu.recorder();
    for (i, &(is_second, n)) in chunks.iter().enumerate() {
        let id = ids[usize::from(is_second)];
        let start = table.len(id).unwrap();
        if table.grow(&[(id, n)]).is_err() {
            continue; // the pool is full
        }
        let array =
            |features, part| numbers(key + 2 * i as u64 + part, [shape.n_kv_heads, n, features]);
        let (k, v) = (array(shape.head_dim, 0), array(shape.value_dim, 1));
        E::append(&mut cache, id, &[k.view()], &[v.view()]).unwrap();
        let slots = GpuSlots::for_writing(gpu, shape, &table, &[(id, start..start + n)]).unwrap();
        let (k, v) = (gpu.upload(&k).unwrap(), gpu.upload(&v).unwrap());
        pages.write(&mut recorder, &slots, &k, &v).unwrap();
    }
    let mut gathered = Vec::new();
    for id in ids {
        let all = 0..table.len(id).unwrap();
        let slots = GpuSlots::for_reading(gpu, shape, &table, &[(id, all)]).unwrap();
        gathered.push(pages.gather(&mut recorder, &slots).unwrap());
    }
    recorder.submit().unwrap();
    prop_assert_eq!(E::gpu_bytes(&pages), E::cpu_bytes(&cache, 0));
    for (id, (k, v)) in ids.into_iter().zip(gathered) {
        let want = E::gather(&cache, 0, id).map(Array3::into_dyn);
        let got = [k, v].map(|x| downloaded(&x));
        prop_assert_eq!(got[0].shape(), want[0].shape());
        prop_assert_eq!(got[1].shape(), want[1].shape());
        prop_assert_eq!(got.map(|x| bits(&x)), want.map(|x| bits(&x)));
    }
    Ok(())
}

fn turns() -> impl Strategy<Value = Vec<(bool, usize)>> {
    prop::collection::vec((any::<bool>(), 0..6_usize), 0..6)
}

macro_rules! of_kind {
    ($($name:ident: $type:ty,)*) => {$(
        #[test]
        fn $name() {
            let Some(gpu) = gpu() else { return };
            proptest!(few(48), |(shape in shapes(), turns in turns(), key in any::<u32>())| {
                chunks::<$type>(&gpu, shape, &turns, u64::from(key) << 8)?;
            });
        }
    )*};
}

of_kind! {
    pages_of_f32_have_the_bits_of_the_cpu: f32,
    pages_of_f16_have_the_bits_of_the_cpu: f16,
    pages_of_bf16_have_the_bits_of_the_cpu: bf16,
    pages_of_int8_have_the_bits_of_the_cpu: i8,
    pages_of_int4_have_the_bits_of_the_cpu: Int4,
}

/// All 65,536 numbers of 16 bits are widened as on the CPU, NaN and what is subnormal included.
#[test]
fn every_half_is_widened() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(1, 256, 1, 256, 256);
    let table = {
        let mut table = PageTable::new(1, 256).unwrap();
        let id = table.create(b"").unwrap();
        table.grow(&[(id, 256)]).unwrap();
        (table, id)
    };
    let slots = GpuSlots::for_reading(&gpu, shape, &table.0, &[(table.1, 0..256)]).unwrap();
    let of_bits = |i: usize| i as u16;
    let pages16 = GpuPages::<f16>::new(&gpu, shape).unwrap();
    let pages_b = GpuPages::<bf16>::new(&gpu, shape).unwrap();
    let all16: Vec<f16> = (0..1 << 16).map(|i| f16::from_bits(of_bits(i))).collect();
    let all_b: Vec<bf16> = (0..1 << 16).map(|i| bf16::from_bits(of_bits(i))).collect();
    let dims = [1, 1, 256, 256];
    let mut recorder = gpu.recorder();
    let source16 = gpu.upload_slice(&dims, &all16).unwrap();
    let source_b = gpu.upload_slice(&dims, &all_b).unwrap();
    recorder.copy(&source16, pages16.k()).unwrap();
    recorder.copy(&source_b, pages_b.k()).unwrap();
    let (got16, _) = pages16.gather(&mut recorder, &slots).unwrap();
    let (got_b, _) = pages_b.gather(&mut recorder, &slots).unwrap();
    recorder.submit().unwrap();
    for (i, got) in bits(&downloaded(&got16)).into_iter().enumerate() {
        assert_eq!(got, all16[i].to_f32().to_bits(), "{i:04x}");
    }
    for (i, got) in bits(&downloaded(&got_b)).into_iter().enumerate() {
        assert_eq!(got, all_b[i].to_f32().to_bits(), "{i:04x}");
    }
}

/// Every 16-bit number, its neighbors in f32, and what lies halfway to the next, is rounded as on the CPU.
#[test]
fn halves_are_rounded_to_even() {
    let Some(gpu) = gpu() else { return };
    let near = |bits: u32| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)];
    let mut all: Vec<f32> = Vec::new();
    for i in (0..1_u32 << 16).step_by(7) {
        let wide = f16::from_bits(i as u16).to_f32().to_bits();
        let halfway = [0x1000, 0x8000, 0].map(|step| near(wide.wrapping_add(step)));
        let of_bf16 = near((i << 16) | 0x8000);
        all.extend(
            halfway
                .concat()
                .into_iter()
                .chain(of_bf16)
                .map(f32::from_bits),
        );
    }
    let width = 64;
    all.truncate(all.len() / width * width);
    let n = all.len() / width;
    let x = Array3::from_shape_vec((1, n, width), all).unwrap();
    let shape = shape(1, n, 1, width, width);
    let mut table = PageTable::new(1, n).unwrap();
    let id = table.create(b"").unwrap();
    table.grow(&[(id, n)]).unwrap();
    let slots = GpuSlots::for_writing(&gpu, shape, &table, &[(id, 0..n)]).unwrap();
    let device = gpu.upload(&x).unwrap();
    let pages16 = GpuPages::<f16>::new(&gpu, shape).unwrap();
    let pages_b = GpuPages::<bf16>::new(&gpu, shape).unwrap();
    let mut recorder = gpu.recorder();
    pages16
        .write(&mut recorder, &slots, &device, &device)
        .unwrap();
    pages_b
        .write(&mut recorder, &slots, &device, &device)
        .unwrap();
    recorder.submit().unwrap();
    let (got16, got_b) = (
        pages16.k().download_blocking().unwrap(),
        pages_b.k().download_blocking().unwrap(),
    );
    for ((x, got16), got_b) in x.iter().zip(&got16).zip(&got_b) {
        let bits = x.to_bits();
        assert_eq!(got16.to_bits(), f16::from_f32(*x).to_bits(), "{bits:08x}");
        assert_eq!(got_b.to_bits(), bf16::from_f32(*x).to_bits(), "{bits:08x}");
    }
}

/// NaN with any payload, infinities and both zeros are copied by f32 pages.
#[test]
fn f32_pages_keep_all_bits() {
    let Some(gpu) = gpu() else { return };
    let strange = [
        0x7fc0_0001,
        0x7f80_0001,
        0xff80_0000,
        0x8000_0000,
        1,
        0xffff_ffff,
    ];
    let x = Array3::from_shape_fn((1, 1, 6), |(_, _, i)| f32::from_bits(strange[i]));
    let shape = shape(1, 1, 1, 6, 6);
    let mut table = PageTable::new(1, 1).unwrap();
    let id = table.create(b"").unwrap();
    table.grow(&[(id, 1)]).unwrap();
    let slots = GpuSlots::for_writing(&gpu, shape, &table, &[(id, 0..1)]).unwrap();
    let device = gpu.upload(&x).unwrap();
    let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
    let mut recorder = gpu.recorder();
    pages
        .write(&mut recorder, &slots, &device, &device)
        .unwrap();
    let (k, v) = pages.gather(&mut recorder, &slots).unwrap();
    recorder.submit().unwrap();
    assert_eq!(bits(&downloaded(&k)), strange);
    assert_eq!(bits(&downloaded(&v)), strange);
}

/// A batch lies in memory in another order than packed sequences do.
#[test]
fn a_batch_is_its_rows() {
    let Some(gpu) = gpu() else { return };
    let (batch, seq) = (3, 2);
    let shape = shape(8, 2, 2, 3, 5);
    let mut table = PageTable::new(8, 2).unwrap();
    let ids: Vec<_> = (0..batch).map(|_| table.create(b"").unwrap()).collect();
    let by: Vec<_> = ids.iter().map(|&id| (id, seq)).collect();
    table.grow(&by).unwrap();
    let ranges: Vec<_> = ids.iter().map(|&id| (id, 0..seq)).collect();
    let slots = GpuSlots::for_writing(&gpu, shape, &table, &ranges).unwrap();
    let rows = |features, key: u64| -> Vec<Array3<f32>> {
        (0..batch as u64)
            .map(|row| numbers(key + row, [2, seq, features]))
            .collect()
    };
    let (k, v) = (rows(3, 10), rows(5, 20));
    let stacked = |rows: &[Array3<f32>]| {
        let views: Vec<_> = rows.iter().map(|x| x.view()).collect();
        stack(Axis(0), &views).unwrap()
    };
    let (k_device, v_device) = (
        gpu.upload(&stacked(&k)).unwrap(),
        gpu.upload(&stacked(&v)).unwrap(),
    );
    let pages = GpuPages::<f32>::new(&gpu, shape).unwrap();
    let mut recorder = gpu.recorder();
    pages
        .write(&mut recorder, &slots, &k_device, &v_device)
        .unwrap();
    let of_batch = pages.gather_batch(&mut recorder, &slots, batch).unwrap();
    let one = GpuSlots::for_reading(&gpu, shape, &table, &[(ids[1], 0..seq)]).unwrap();
    let of_one = pages.gather(&mut recorder, &one).unwrap();
    recorder.submit().unwrap();
    assert_eq!(
        bits(&downloaded(&of_batch.0)),
        bits(&stacked(&k).into_dyn())
    );
    assert_eq!(
        bits(&downloaded(&of_batch.1)),
        bits(&stacked(&v).into_dyn())
    );
    assert_eq!(bits(&downloaded(&of_one.0)), bits(&k[1].clone().into_dyn()));
    assert_eq!(bits(&downloaded(&of_one.1)), bits(&v[1].clone().into_dyn()));
}

/// Only the places of the tokens become zeros, although they share words with others.
fn cleared<E: Kind>(gpu: &Gpu, shape: PageShape, key: u64) -> Result<(), TestCaseError> {
    let all = shape.n_pages * shape.page_size;
    let mut table = PageTable::new(shape.n_pages, shape.page_size).unwrap();
    let id = table.create(b"").unwrap();
    table.grow(&[(id, all)]).unwrap();
    let pages = GpuPages::<E>::new(gpu, shape).unwrap();
    let array = |features, part| numbers(key + part, [shape.n_kv_heads, all, features]);
    let (k, v) = (array(shape.head_dim, 0), array(shape.value_dim, 1));
    let mut recorder = gpu.recorder();
    let slots = GpuSlots::for_writing(gpu, shape, &table, &[(id, 0..all)]).unwrap();
    let (k_device, v_device) = (gpu.upload(&k).unwrap(), gpu.upload(&v).unwrap());
    pages
        .write(&mut recorder, &slots, &k_device, &v_device)
        .unwrap();
    let middle = all / 3..all / 3 + all.div_ceil(2);
    let some = GpuSlots::for_writing(gpu, shape, &table, &[(id, middle.clone())]).unwrap();
    pages.clear(&mut recorder, &some).unwrap();
    let (k_got, v_got) = pages.gather(&mut recorder, &slots).unwrap();
    recorder.submit().unwrap();
    for (x, got) in [(k, k_got), (v, v_got)] {
        let mut want = E::round_trip(&x);
        for token in middle.clone() {
            want.index_axis_mut(Axis(1), token).fill(0.0);
        }
        prop_assert_eq!(bits(&downloaded(&got)), bits(&want.into_dyn()));
    }
    Ok(())
}

#[test]
fn places_are_cleared() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(32), |(shape in shapes(), key in any::<u32>())| {
        let key = u64::from(key) << 8;
        cleared::<f32>(&gpu, shape, key)?;
        cleared::<f16>(&gpu, shape, key)?;
        cleared::<bf16>(&gpu, shape, key)?;
        cleared::<i8>(&gpu, shape, key)?;
        cleared::<Int4>(&gpu, shape, key)?;
    });
}
