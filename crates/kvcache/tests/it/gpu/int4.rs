//! Quantizing to 4 bits on the device: the steps, least values and codes of the CPU, for every kind of number.

use llm_kvcache::KvCacheError;
use llm_kvcache::gpu::llm_gpu::Gpu;
use llm_kvcache::gpu::{GpuPages, GpuSlots, Int4};
use llm_kvcache::paged::{Int4Pages, PagedCache, PoolConfig};
use llm_numerics::philox::Philox4x32;
use ndarray::{Array3, Axis, array, concatenate};
use proptest::prelude::*;

use super::half::f16;
use super::{bits, downloaded, few, gpu, shape};

/// Writes one sequence in both stores, and compares what is read.
fn compare(gpu: &Gpu, x: &Array3<f32>) -> Result<(), TestCaseError> {
    let (heads, n, features) = x.dim();
    let shape = shape(n.max(1), 1, heads, features, features);
    let config = PoolConfig::new(1, shape.n_pages, 1, heads, features);
    let mut cache = PagedCache::<Int4Pages>::new(&config).unwrap();
    let id = cache.create(b"").unwrap();
    cache.append(id, &[x.view()], &[x.view()]).unwrap();
    let pages = GpuPages::<Int4>::new(gpu, shape).unwrap();
    let slots = GpuSlots::for_writing(gpu, shape, cache.table(), &[(id, 0..n)]).unwrap();
    let device = gpu.upload(x).unwrap();
    let mut recorder = gpu.recorder();
    pages
        .write(&mut recorder, &slots, &device, &device)
        .unwrap();
    let (k, v) = pages.gather(&mut recorder, &slots).unwrap();
    recorder.submit().unwrap();
    prop_assert_eq!(slots.check_blocking(), Ok(()));
    let (want_k, want_v) = cache.gather(0, id).unwrap();
    for (got, want) in [(k, want_k), (v, want_v)] {
        let got = bits(&downloaded(&got));
        prop_assert_eq!(got, bits(&want.into_dyn()), "{:?}", x);
    }
    Ok(())
}

/// A number of any size that can be quantized.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        1 => Just(0.0_f32),
        1 => Just(-0.0),
        4 => -4.0..4.0_f32,
        1 => Just(65504.0),
        1 => Just(-65504.0),
        2 => (0..0x477f_e000_u32, any::<bool>())
            .prop_map(|(x, sign)| f32::from_bits(x | u32::from(sign) << 31)),
        2 => (0..0x7c00_u16, any::<bool>())
            .prop_map(|(x, sign)| f16::from_bits(x | u16::from(sign) << 15).to_f32()),
        1 => (-64..64_i32).prop_map(|x| x as f32 / 2.0), // halves between codes
    ]
}

#[test]
fn any_numbers_are_quantized_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let sizes = (
        1..3_usize,
        1..8_usize,
        prop_oneof![1..9_usize, 62..67_usize, Just(130)],
    );
    let arrays = sizes.prop_flat_map(|(heads, n, features)| {
        prop::collection::vec(number(), heads * n * features)
            .prop_map(move |x| Array3::from_shape_vec((heads, n, features), x).unwrap())
    });
    proptest!(few(200), |(x in arrays)| compare(&gpu, &x)?);
}

/// Tokens of each size, from the smallest to the largest.
#[test]
fn tokens_of_each_size_are_quantized_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let random = Philox4x32::new(7);
    let (n, features) = (170, 33);
    let x = Array3::from_shape_fn((1, n, features), |(_, t, d)| {
        let x = random.normal_f64(0, (t * features + d) as u64);
        let scaled = x / 6.0 * 2.0_f64.powi(t as i32 - 149);
        scaled.clamp(-65504.0, 65504.0) as f32
    });
    compare(&gpu, &x).unwrap();
    compare(&gpu, &x.mapv(f32::abs)).unwrap();
    compare(&gpu, &x.mapv(|x| -x.abs())).unwrap();
}

/// Two numbers whose difference is 15 steps, and the same with the larger or the smaller moved by a little: by an ulp of f32, and by so little
/// that f64 does not see it, or just sees it.
#[test]
fn steps_at_the_edge_of_f64_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let random = Philox4x32::new(9);
    let mut pairs: Vec<f32> = Vec::new();
    for i in 0..600 {
        let step = f16::from_bits(random.below(0, i, 0x7000) as u16);
        let min = f16::from_bits(random.below(1, i, 0x7400) as u16 | ((i as u16 & 1) << 15));
        let exact = f64::from(min) + 15.0 * f64::from(step);
        if exact.abs() > 65504.0 || f64::from(exact as f32) != exact {
            continue;
        }
        let most = exact as f32;
        for near in [most.next_down(), most, most.next_up()] {
            pairs.extend([min.to_f32(), near.clamp(-65504.0, 65504.0)]);
        }
    }
    // Where the larger number is about zero it has bits that the smaller one has not: 15 steps and a little of any size.
    for i in 0..400_u32 {
        let step = f16::from_bits(0x0001 + (random.below(2, u64::from(i), 0x6c00) as u16));
        let min = f16::from_f64(-15.0 * f64::from(step));
        if f64::from(min) != -15.0 * f64::from(step) {
            continue;
        }
        let little = 2.0_f64.powi(-(random.below(3, u64::from(i), 90) as i32));
        for little in [little, -little, 1.5 * little, 0.0] {
            pairs.extend([min.to_f32(), (f64::from(step) * little) as f32]);
        }
    }
    // Half a unit in the last place of f64 goes to the even one: steps that are powers of two, for which f32 can say it.
    for power in -14..9 {
        let step = 2.0_f64.powi(power);
        for little in [-49, -50, -51] {
            let little = step * 2.0_f64.powi(little);
            for little in [
                little,
                little * (1.0 + 2.0_f64.powi(-23)),
                little * (1.0 - 2.0_f64.powi(-24)),
            ] {
                pairs.extend([(-15.0 * step) as f32, little as f32]);
            }
        }
    }
    let n = pairs.len() / 2;
    assert!(n > 600, "{n}");
    compare(&gpu, &Array3::from_shape_vec((1, n, 2), pairs).unwrap()).unwrap();
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let Some(gpu) = gpu() else { return };
    let shape = shape(4, 2, 1, 3, 3);
    for wrong in [f32::NAN, f32::INFINITY, 65504.004, -65505.0] {
        let x = array![[[1.0, 2.0, 3.0], [65504.0, wrong, -65504.0]]];
        let config = PoolConfig::new(1, 4, 2, 1, 3);
        let mut cache = PagedCache::<Int4Pages>::new(&config).unwrap();
        let id = cache.create(b"").unwrap();
        let want = cache.append(id, &[x.view()], &[x.view()]).unwrap_err();
        assert!(matches!(want, KvCacheError::NotQuantizable { .. }));
        let pages = GpuPages::<Int4>::new(&gpu, shape).unwrap();
        let on_device = gpu.upload(&array![0_u32, 1]).unwrap();
        let mut recorder = gpu.recorder();
        let slots = GpuSlots::on_device(&mut recorder, shape, &on_device).unwrap();
        let x = gpu.upload(&x).unwrap();
        pages.write(&mut recorder, &slots, &x, &x).unwrap();
        recorder.submit().unwrap();
        assert_eq!(slots.check_blocking(), Err(want.into()), "{wrong}");
        let groups = pages.groups().download_blocking().unwrap();
        assert!(groups.iter().all(|&group| group == 0));
    }
}

/// One zero: the least value of a token has no sign where it is zero.
#[test]
fn least_values_have_one_zero() {
    let Some(gpu) = gpu() else { return };
    let x = array![[[0.0_f32, -0.0], [-0.0, 0.0], [-0.0, 1.0], [0.0, 0.0]]];
    compare(&gpu, &x).unwrap();
    let negative = x.mapv(|x| -x);
    compare(&gpu, &concatenate![Axis(1), x, negative]).unwrap();
}
