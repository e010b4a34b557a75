//! Quantizing on the device: the scales and codes of the CPU, for every kind of number.

use llm_kvcache::KvCacheError;
use llm_kvcache::gpu::llm_gpu::Gpu;
use llm_kvcache::gpu::{GpuKvCacheError, GpuPages, GpuSlots, NO_SLOT};
use llm_kvcache::paged::{Int8Pages, PageTable, PagedCache, PoolConfig};
use llm_numerics::philox::Philox4x32;
use ndarray::{Array3, Array4, array};
use proptest::prelude::*;

use super::{Kind, bits, downloaded, few, gpu, shape};

/// Writes one sequence in both stores, and compares all bytes and what is read.
fn compare(gpu: &Gpu, x: &Array3<f32>) -> Result<(), TestCaseError> {
    let (heads, n, features) = x.dim();
    let shape = shape(n.max(1), 1, heads, features, features);
    let config = PoolConfig::new(1, shape.n_pages, 1, heads, features);
    let mut cache = PagedCache::<Int8Pages>::new(&config).unwrap();
    let id = cache.create(b"").unwrap();
    cache.append(id, &[x.view()], &[x.view()]).unwrap();
    let pages = GpuPages::<i8>::new(gpu, shape).unwrap();
    let slots = GpuSlots::for_writing(gpu, shape, cache.table(), &[(id, 0..n)]).unwrap();
    let device = gpu.upload(x).unwrap();
    let mut recorder = gpu.recorder();
    pages
        .write(&mut recorder, &slots, &device, &device)
        .unwrap();
    let (k, _) = pages.gather(&mut recorder, &slots).unwrap();
    recorder.submit().unwrap();
    prop_assert_eq!(slots.check_blocking(), Ok(()));
    prop_assert_eq!(i8::gpu_bytes(&pages), i8::cpu_bytes(&cache, 0), "{:?}", x);
    let [want, _] = i8::gather(&cache, 0, id);
    prop_assert_eq!(bits(&downloaded(&k)), bits(&want.into_dyn()));
    Ok(())
}

/// A number of any size that can be quantized.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        1 => Just(0.0_f32),
        1 => Just(-0.0),
        4 => -4.0..4.0_f32,
        2 => (0..0x7f7f_c99f_u32, any::<bool>())
            .prop_map(|(x, sign)| f32::from_bits(x | u32::from(sign) << 31)),
        1 => (0..0x0100_0000_u32).prop_map(f32::from_bits), // around the smallest normal one
        1 => (-260..260_i32).prop_map(|x| x as f32 / 2.0), // halves between codes
    ]
}

#[test]
fn any_numbers_are_quantized_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let sizes = (
        1..3_usize,
        1..4_usize,
        prop_oneof![1..9_usize, 62..67_usize, Just(130)],
    );
    let arrays = sizes.prop_flat_map(|(heads, n, features)| {
        prop::collection::vec(number(), heads * n * features)
            .prop_map(move |x| Array3::from_shape_vec((heads, n, features), x).unwrap())
    });
    proptest!(few(200), |(x in arrays)| compare(&gpu, &x)?);
}

/// Tokens whose numbers are of one size, from the smallest to the largest: so all nine scales, and all steps of rounding, matter at each size.
#[test]
fn tokens_of_each_size_are_quantized_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let random = Philox4x32::new(7);
    let (n, features) = (277, 33);
    let x = Array3::from_shape_fn((1, n, features), |(_, t, d)| {
        let x = random.normal_f64(0, (t * features + d) as u64);
        let power = t as i32 - 149; // up to 2^127
        let scaled = (x / 6.0 * 2.0_f64.powi(power)) as f32;
        scaled.clamp(-3.4e38, 3.4e38)
    });
    compare(&gpu, &x).unwrap();
    // The largest that there may be, where sums of squares are infinite.
    let y = x.mapv(|x| {
        if x.abs() > 1e37 {
            3.4e38_f32.copysign(x)
        } else {
            x
        }
    });
    assert!(y.iter().any(|x| x.abs() == 3.4e38));
    compare(&gpu, &y).unwrap();
}

/// Where the first scale is zero and others are not, and all about it: numbers of a few units of the smallest one.
#[test]
fn the_smallest_tokens_are_quantized_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let x = Array3::from_shape_fn((1, 300, 3), |(_, t, d)| {
        f32::from_bits((t / (d + 1)) as u32)
    });
    compare(&gpu, &x).unwrap();
}

/// Many tokens as models make them.
#[test]
fn gaussian_tokens_are_quantized_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let random = Philox4x32::new(8);
    let mut i = 0;
    let x = Array3::from_shape_simple_fn((4, 100, 128), || {
        i += 1;
        random.normal_f64(0, i) as f32
    });
    compare(&gpu, &x).unwrap();
}

/// What is refused is what the CPU refuses; then no token is written, of this layer or a later one.
#[test]
fn what_cannot_be_quantized_is_refused() {
    let Some(gpu) = gpu() else { return };
    let (heads, n, features) = (2, 5, 3);
    let shape = shape(4, 2, heads, features, features);
    let fine = Array3::<f32>::ones((heads, n, features));
    for wrong in [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        3.401e38,
        f32::MIN,
    ] {
        for (is_key, at) in [(true, [1, 3, 2]), (false, [0, 4, 0]), (true, [0, 0, 0])] {
            let mut x = fine.clone();
            x[at] = wrong;
            let (k, v) = if is_key { (&x, &fine) } else { (&fine, &x) };
            let config = PoolConfig::new(1, 4, 2, heads, features);
            let mut cache = PagedCache::<Int8Pages>::new(&config).unwrap();
            let id = cache.create(b"").unwrap();
            let want = cache.append(id, &[k.view()], &[v.view()]).unwrap_err();
            assert!(matches!(want, KvCacheError::NotQuantizable { .. }));

            let mut table = PageTable::new(4, 2).unwrap();
            let id = table.create(b"").unwrap();
            table.grow(&[(id, n)]).unwrap();
            let slots = GpuSlots::for_writing(&gpu, shape, &table, &[(id, 0..n)]).unwrap();
            let first = GpuPages::<i8>::new(&gpu, shape).unwrap();
            let second = GpuPages::<i8>::new(&gpu, shape).unwrap();
            let (k, v) = (gpu.upload(k).unwrap(), gpu.upload(v).unwrap());
            let fine = gpu.upload(&fine).unwrap();
            let mut recorder = gpu.recorder();
            first.write(&mut recorder, &slots, &k, &v).unwrap();
            second.write(&mut recorder, &slots, &fine, &fine).unwrap();
            second.clear(&mut recorder, &slots).unwrap();
            recorder.submit().unwrap();
            assert_eq!(slots.check_blocking(), Err(want.into()), "{wrong} {at:?}");
            for pages in [first, second] {
                let bytes = i8::gpu_bytes(&pages).concat();
                assert!(bytes.iter().all(|&byte| byte == 0));
            }
        }
    }
}

/// Keys before values, and the first token before the first head.
#[test]
fn of_several_the_first_is_named() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(4, 2, 2, 3, 3);
    let refusal = |wrong_k: &[[usize; 4]], wrong_v: &[[usize; 4]]| {
        let array = |wrong: &[[usize; 4]]| {
            let mut x = Array4::<f32>::zeros((2, 2, 2, 3)); // [batch, kv_heads, seq, head_dim]
            for &at in wrong {
                x[at] = f32::NAN;
            }
            gpu.upload(&x).unwrap()
        };
        let pages = GpuPages::<i8>::new(&gpu, shape).unwrap();
        let on_device = gpu.upload(&array![0_u32, NO_SLOT, 3, 7]).unwrap();
        let mut recorder = gpu.recorder();
        let slots = GpuSlots::on_device(&mut recorder, shape, &on_device).unwrap();
        pages
            .write(&mut recorder, &slots, &array(wrong_k), &array(wrong_v))
            .unwrap();
        recorder.submit().unwrap();
        match slots.check_blocking() {
            Err(GpuKvCacheError::KvCache(KvCacheError::NotQuantizable {
                name,
                head,
                token,
                feature,
                ..
            })) => Some((name, token, head, feature)),
            other => {
                assert_eq!(other, Ok(()));
                None
            }
        }
    };
    assert_eq!(refusal(&[], &[]), None);
    assert_eq!(refusal(&[[0, 1, 1, 2]], &[]), None); // padding
    assert_eq!(
        refusal(&[[1, 1, 0, 2], [1, 0, 1, 0]], &[[0, 0, 0, 0]]),
        Some(("k", 2, 1, 2))
    );
    assert_eq!(
        refusal(&[], &[[1, 1, 1, 2], [1, 1, 1, 1]]),
        Some(("v", 3, 1, 1))
    );
}
