//! The number types of pages, on the device and on the CPU.

use llm_kvcache::KvCacheError;
use llm_kvcache::gpu::llm_gpu::GpuTensor;
use llm_kvcache::gpu::{GpuPageElement, GpuPages, GpuSlots, Int4};
use llm_kvcache::paged::{
    FloatPages, Int4Pages, Int8Pages, PageData, PagedCache, PoolConfig, SequenceId,
};
use ndarray::{Array3, ArrayRef4, ArrayView3};

use super::half::{bf16, f16};

/// A number type of pages on the device with its twin on the CPU.
pub(super) trait Kind: GpuPageElement {
    type Cpu: PageData;

    /// Appends to a sequence of the CPU, after the rounding that is the device's part.
    fn append(
        cache: &mut PagedCache<Self::Cpu>,
        id: SequenceId,
        k: &[ArrayView3<'_, f32>],
        v: &[ArrayView3<'_, f32>],
    ) -> Result<(), KvCacheError>;

    /// What the CPU's sequence holds, widened.
    fn gather(cache: &PagedCache<Self::Cpu>, layer: usize, id: SequenceId) -> [Array3<f32>; 2];

    /// All bytes of the CPU's pages: keys, values, scales.
    fn cpu_bytes(cache: &PagedCache<Self::Cpu>, layer: usize) -> [Vec<u8>; 3];

    /// The same of the device's.
    fn gpu_bytes(pages: &GpuPages<Self>) -> [Vec<u8>; 3];

    /// What becomes of numbers that are written and read.
    fn round_trip(x: &Array3<f32>) -> Array3<f32> {
        let (heads, n, features) = x.dim();
        let config = PoolConfig::new(1, n.max(1), 1, heads, features);
        let mut cache = PagedCache::<Self::Cpu>::new(&config).unwrap();
        let id = cache.create(b"").unwrap();
        Self::append(&mut cache, id, &[x.view()], &[x.view()]).unwrap();
        let [k, _] = Self::gather(&cache, 0, id);
        k
    }
}

macro_rules! float {
    ($type:ty, $narrow:expr, $wide:expr) => {
        impl Kind for $type {
            type Cpu = FloatPages<$type>;

            fn append(
                cache: &mut PagedCache<Self::Cpu>,
                id: SequenceId,
                k: &[ArrayView3<'_, f32>],
                v: &[ArrayView3<'_, f32>],
            ) -> Result<(), KvCacheError> {
                let narrow = |x: &[ArrayView3<'_, f32>]| -> Vec<Array3<$type>> {
                    x.iter().map(|x| x.mapv($narrow)).collect()
                };
                let (k, v) = (narrow(k), narrow(v));
                let k: Vec<_> = k.iter().map(|x| x.view()).collect();
                let v: Vec<_> = v.iter().map(|x| x.view()).collect();
                cache.append(id, &k, &v)
            }

            fn gather(
                cache: &PagedCache<Self::Cpu>,
                layer: usize,
                id: SequenceId,
            ) -> [Array3<f32>; 2] {
                let (k, v) = cache.gather(layer, id).unwrap();
                [k.mapv($wide), v.mapv($wide)]
            }

            fn cpu_bytes(cache: &PagedCache<Self::Cpu>, layer: usize) -> [Vec<u8>; 3] {
                let pages = cache.layer(layer).unwrap();
                let of = |x: &ArrayRef4<$type>| x.iter().flat_map(|x| x.to_le_bytes()).collect();
                [of(pages.k()), of(pages.v()), Vec::new()]
            }

            fn gpu_bytes(pages: &GpuPages<Self>) -> [Vec<u8>; 3] {
                let of = |x: &GpuTensor<$type>| {
                    let x = x.download_blocking().unwrap();
                    x.iter().flat_map(|x| x.to_le_bytes()).collect()
                };
                [of(pages.k()), of(pages.v()), Vec::new()]
            }
        }
    };
}

float!(f32, |x| x, |x| x);
float!(f16, f16::from_f32, f16::to_f32);
float!(bf16, bf16::from_f32, bf16::to_f32);

impl Kind for i8 {
    type Cpu = Int8Pages;

    fn append(
        cache: &mut PagedCache<Self::Cpu>,
        id: SequenceId,
        k: &[ArrayView3<'_, f32>],
        v: &[ArrayView3<'_, f32>],
    ) -> Result<(), KvCacheError> {
        cache.append(id, k, v)
    }

    fn gather(cache: &PagedCache<Self::Cpu>, layer: usize, id: SequenceId) -> [Array3<f32>; 2] {
        let (k, v) = cache.gather(layer, id).unwrap();
        [k, v]
    }

    fn cpu_bytes(cache: &PagedCache<Self::Cpu>, layer: usize) -> [Vec<u8>; 3] {
        let pages = cache.layer(layer).unwrap();
        let codes = |x: &ArrayRef4<i8>| x.iter().map(|&x| x.cast_unsigned()).collect();
        let scales = pages.k_scales().iter().chain(pages.v_scales());
        let scales = scales.flat_map(|x| x.to_le_bytes()).collect();
        [codes(pages.k()), codes(pages.v()), scales]
    }

    fn gpu_bytes(pages: &GpuPages<Self>) -> [Vec<u8>; 3] {
        let shape = pages.shape();
        let rows = shape.n_pages * shape.n_kv_heads * shape.page_size;
        let codes = |words: &GpuTensor<u32>, features: usize| {
            let words = words.download_blocking().unwrap();
            let mut bytes: Vec<u8> = words.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert!(bytes[rows * features..].iter().all(|&byte| byte == 0));
            bytes.truncate(rows * features);
            bytes
        };
        let scales = pages.scales().download_blocking().unwrap();
        let scales = scales.iter().flat_map(|x| x.to_le_bytes()).collect();
        [
            codes(pages.k(), shape.head_dim),
            codes(pages.v(), shape.value_dim),
            scales,
        ]
    }
}

/// The bytes of the codes are not to be seen on the CPU: what they say of every place is compared instead.
impl Kind for Int4 {
    type Cpu = Int4Pages;

    fn append(
        cache: &mut PagedCache<Self::Cpu>,
        id: SequenceId,
        k: &[ArrayView3<'_, f32>],
        v: &[ArrayView3<'_, f32>],
    ) -> Result<(), KvCacheError> {
        cache.append(id, k, v)
    }

    fn gather(cache: &PagedCache<Self::Cpu>, layer: usize, id: SequenceId) -> [Array3<f32>; 2] {
        let (k, v) = cache.gather(layer, id).unwrap();
        [k, v]
    }

    fn cpu_bytes(cache: &PagedCache<Self::Cpu>, layer: usize) -> [Vec<u8>; 3] {
        let shape = cache.shape();
        let pages = cache.layer(layer).unwrap();
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for page in 0..shape.n_pages {
            let (page_k, page_v) = pages.read_page(page, shape.page_size).unwrap();
            k.extend(page_k.iter().flat_map(|x| x.to_le_bytes()));
            v.extend(page_v.iter().flat_map(|x| x.to_le_bytes()));
        }
        [k, v, Vec::new()]
    }

    fn gpu_bytes(pages: &GpuPages<Self>) -> [Vec<u8>; 3] {
        let shape = pages.shape();
        let n = shape.n_pages * shape.page_size;
        let all: Vec<u32> = (0..n as u32).collect();
        let mut recorder = pages.k().gpu().recorder();
        let all = pages.k().gpu().upload_slice(&[n], &all).unwrap();
        let slots = GpuSlots::on_device(&mut recorder, shape, &all).unwrap();
        // A page is a row of the batch.
        let (k, v) = pages
            .gather_batch(&mut recorder, &slots, shape.n_pages)
            .unwrap();
        recorder.submit().unwrap();
        for (words, features) in [(pages.k(), shape.head_dim), (pages.v(), shape.value_dim)] {
            let words = words.download_blocking().unwrap();
            let bytes: Vec<u8> = words.iter().flat_map(|x| x.to_le_bytes()).collect();
            let row = features.div_ceil(2);
            let ends = (1..=n * shape.n_kv_heads).map(|i| bytes[i * row - 1] >> 4);
            // What fills up the last byte of a token.
            assert!(features % 2 == 0 || ends.into_iter().all(|half| half == 0));
        }
        let bytes = |x: &GpuTensor<f32>| {
            let x = x.download_blocking().unwrap();
            x.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        [bytes(&k), bytes(&v), Vec::new()]
    }
}
