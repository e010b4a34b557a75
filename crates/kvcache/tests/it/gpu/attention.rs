//! Appended on the device and read there by attention's paged kernel, against the store and the attention of the CPU.

use llm_attention::gpu::paged::{self as gpu_paged, GpuInt8Pages, GpuPagedKv};
use llm_attention::paged::{self, PagedKv};
use llm_attention::{AttentionConfig, CausalAlignment, Mask};
use llm_kvcache::gpu::llm_gpu::{GpuTensor, Recorder};
use llm_kvcache::gpu::{GpuPages, GpuPool, GpuSlots};
use llm_kvcache::paged::{PageTable, PagedCache, PoolConfig};
use ndarray::{Array1, Array2, Array3, Array4, Axis, stack};

use super::half::{bf16, f16};
use super::{Kind, gpu, numbers};

/// Attention of the last tokens of each sequence by both, to pages of this number type.
trait Attend: Kind {
    fn on_the_device(
        recorder: &mut Recorder,
        pages: &GpuPages<Self>,
        q: &GpuTensor<f32>,
        block_table: &GpuTensor<u32>,
        lengths: &GpuTensor<u32>,
    ) -> GpuTensor<f32>;

    fn on_the_cpu(
        cache: &PagedCache<Self::Cpu>,
        q: &Array4<f32>,
        block_table: &Array2<u32>,
        lengths: &Array1<u32>,
    ) -> Array4<f32>;
}

fn config() -> AttentionConfig {
    AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight))
}

macro_rules! float {
    ($($type:ty),*) => {$(
        impl Attend for $type {
            fn on_the_device(
                recorder: &mut Recorder,
                pages: &GpuPages<Self>,
                q: &GpuTensor<f32>,
                block_table: &GpuTensor<u32>,
                lengths: &GpuTensor<u32>,
            ) -> GpuTensor<f32> {
                let kv = GpuPagedKv::new(pages.k(), pages.v(), block_table, lengths);
                gpu_paged::forward(recorder, q, &kv, &config()).unwrap().0
            }

            fn on_the_cpu(
                cache: &PagedCache<Self::Cpu>,
                q: &Array4<f32>,
                block_table: &Array2<u32>,
                lengths: &Array1<u32>,
            ) -> Array4<f32> {
                let pages = cache.layer(0).unwrap();
                let kv = PagedKv::new(pages.k(), pages.v(), block_table, lengths);
                paged::forward(q, &kv, &config()).unwrap()
            }
        }
    )*};
}

float!(f32, f16, bf16);

impl Attend for i8 {
    fn on_the_device(
        recorder: &mut Recorder,
        pages: &GpuPages<Self>,
        q: &GpuTensor<f32>,
        block_table: &GpuTensor<u32>,
        lengths: &GpuTensor<u32>,
    ) -> GpuTensor<f32> {
        let shape = pages.shape();
        let with = |features| [shape.n_pages, shape.n_kv_heads, shape.page_size, features];
        let k = GpuInt8Pages::from_words(pages.k(), with(shape.head_dim)).unwrap();
        let v = GpuInt8Pages::from_words(pages.v(), with(shape.value_dim)).unwrap();
        let kv = GpuPagedKv::int8(&k, &v, pages.scales(), block_table, lengths);
        gpu_paged::forward(recorder, q, &kv, &config()).unwrap().0
    }

    fn on_the_cpu(
        cache: &PagedCache<Self::Cpu>,
        q: &Array4<f32>,
        block_table: &Array2<u32>,
        lengths: &Array1<u32>,
    ) -> Array4<f32> {
        let pages = cache.layer(0).unwrap();
        let [k_scales, v_scales] = [pages.k_scales(), pages.v_scales()];
        let kv = PagedKv::int8(
            pages.k(),
            pages.v(),
            k_scales,
            v_scales,
            block_table,
            lengths,
        );
        paged::forward(q, &kv, &config()).unwrap()
    }
}

const HEADS: usize = 2;
const DIM: usize = 8;
const VALUE_DIM: usize = 5;

fn tokens(key: u64, n: usize, features: usize) -> Array3<f32> {
    // Scores of some units, so that no key takes all the weight.
    numbers(key, [HEADS, n, features]).mapv(|x| x.clamp(-2.0, 2.0))
}

/// A prompt, two answers that share its pages, some decode steps whose slots the device makes of what attention reads, and a page copied on the way.
fn check<E: Attend>() {
    let Some(gpu) = gpu() else { return };
    let config = PoolConfig::new(1, 16, 4, HEADS, DIM).with_value_dim(VALUE_DIM);
    let mut cache = PagedCache::<E::Cpu>::new(&config).unwrap();
    let mut table = PageTable::new(16, 4).unwrap();
    let pool = GpuPool::<E>::new(&gpu, &config).unwrap();
    let pages = pool.layer(0).unwrap();
    let mut recorder = gpu.recorder();

    let id = table.create(b"").unwrap();
    assert_eq!(cache.create(b"").unwrap(), id);
    table.grow(&[(id, 10)]).unwrap();
    let (k, v) = (tokens(1, 10, DIM), tokens(2, 10, VALUE_DIM));
    E::append(&mut cache, id, &[k.view()], &[v.view()]).unwrap();
    let slots = GpuSlots::for_writing(&gpu, pool.shape(), &table, &[(id, 0..10)]).unwrap();
    let (k, v) = (gpu.upload(&k).unwrap(), gpu.upload(&v).unwrap());
    pages.write(&mut recorder, &slots, &k, &v).unwrap();

    let other = table.fork(id).unwrap();
    assert_eq!(cache.fork(id).unwrap(), other);
    let ids = [id, other];
    for step in 0..5 {
        let key = 10 * (step + 1);
        let copies = table.grow(&ids.map(|id| (id, 1))).unwrap();
        assert_eq!(copies.len(), usize::from(step == 0));
        pool.copy_pages(&mut recorder, &copies).unwrap();
        let k = [tokens(key, 1, DIM), tokens(key + 1, 1, DIM)];
        let v = [tokens(key + 2, 1, VALUE_DIM), tokens(key + 3, 1, VALUE_DIM)];
        for (i, id) in ids.into_iter().enumerate() {
            E::append(&mut cache, id, &[k[i].view()], &[v[i].view()]).unwrap();
        }
        let both = |x: &[Array3<f32>; 2]| stack(Axis(0), &[x[0].view(), x[1].view()]).unwrap();
        let (k, v) = (both(&k), both(&v)); // [batch, kv_heads, 1, features]
        let (block_table, lengths) = table.block_table(&ids).unwrap();
        let of_cpu = cache.block_table(&ids).unwrap();
        let q = numbers(key + 4, [2, 2 * HEADS, DIM]).mapv(|x| x.clamp(-2.0, 2.0));
        let q = q.insert_axis(Axis(2)); // [batch, n_heads, 1, head_dim]

        let (table_on, lengths_on) = (
            gpu.upload(&block_table).unwrap(),
            gpu.upload(&lengths).unwrap(),
        );
        let shape = pool.shape();
        let slots =
            GpuSlots::of_block_table(&mut recorder, shape, &table_on, &lengths_on, 1).unwrap();
        let (k, v) = (gpu.upload(&k).unwrap(), gpu.upload(&v).unwrap());
        pages.write(&mut recorder, &slots, &k, &v).unwrap();
        let q_on = gpu.upload(&q).unwrap();
        let out = E::on_the_device(&mut recorder, pages, &q_on, &table_on, &lengths_on);
        std::mem::replace(&mut recorder, gpu.recorder())
            .submit()
            .unwrap();
        slots.check_blocking().unwrap();

        let want = E::on_the_cpu(&cache, &q, &of_cpu.0, &of_cpu.1);
        let got = out.download_blocking().unwrap();
        assert_eq!(got.shape(), want.shape());
        for (got, want) in got.iter().zip(&want) {
            assert!(
                (got - want).abs() <= 1e-5 + 1e-5 * want.abs(),
                "{got} {want}"
            );
        }
    }
    assert_eq!(E::gpu_bytes(pages), E::cpu_bytes(&cache, 0));
}

#[test]
fn pages_of_f32_are_what_attention_reads() {
    check::<f32>();
}

#[test]
fn pages_of_f16_are_what_attention_reads() {
    check::<f16>();
}

#[test]
fn pages_of_bf16_are_what_attention_reads() {
    check::<bf16>();
}

#[test]
fn pages_of_int8_are_what_attention_reads() {
    check::<i8>();
}
