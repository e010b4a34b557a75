//! What goes to the device comes back: every element type, any strides, any length.

use std::fmt::Debug;
use std::future::Future as _;

use llm_gpu::half::{bf16, f16};
use llm_gpu::testing::{Profile, gpu, noop};
use llm_gpu::{GpuElement, Grid};
use ndarray::{Array, Array1, Array3, ArrayD, Axis, IxDyn, Slice};
use proptest::prelude::*;

use crate::kernels::WORDS;

/// An array whose elements come from a counter, so that no two neighbors are equal.
fn counted<T: GpuElement>(shape: [usize; 3], from: impl Fn(u32) -> T) -> Array3<T> {
    let mut n = 0_u32;
    Array3::from_shape_simple_fn(shape, || {
        n = n.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        from(n >> 8)
    })
}

/// A view with permuted axes, every second element and one axis reversed, there and back.
fn round_trip<T: GpuElement + Debug>(
    array: &Array3<T>,
    axes: [usize; 3],
    step: isize,
) -> Result<(), TestCaseError> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut view = array.view().permuted_axes(axes);
    view.slice_axis_inplace(Axis(0), Slice::new(0, None, step));
    view.invert_axis(Axis(1));
    let tensor = gpu.upload(&view).unwrap();
    prop_assert_eq!(tensor.shape(), view.shape());
    prop_assert_eq!(tensor.len(), view.len());
    let back = tensor.download_blocking().unwrap();
    prop_assert_eq!(back, view.into_dyn());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arrays_of_any_strides_come_back(
        shape in [0..6_usize, 0..4_usize, 0..7_usize],
        axes in Just([0, 1, 2]).prop_shuffle(),
        step in prop_oneof![Just(1_isize), Just(2), Just(-1), Just(-3)],
    ) {
        round_trip(&counted(shape, |n| n as f32 * 0.37 - 9.0), axes, step)?;
        round_trip(&counted(shape, |n| n), axes, step)?;
        round_trip(&counted(shape, |n| n as i32 - (1 << 23)), axes, step)?;
        round_trip(&counted(shape, |n| f16::from_bits(n as u16 & 0x7bff)), axes, step)?;
        round_trip(&counted(shape, |n| bf16::from_bits(n as u16 & 0x7f7f)), axes, step)?;
    }
}

#[test]
fn bits_are_kept() {
    let Some(gpu) = gpu() else { return };
    let f32s = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        -0.0,
        f32::MIN_POSITIVE / 2.0,
    ];
    let back = gpu
        .upload_slice(&[5], &f32s)
        .unwrap()
        .download_blocking()
        .unwrap();
    let bits = |x: &f32| x.to_bits();
    assert!(back.iter().map(bits).eq(f32s.iter().map(bits)));
    let f16s: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let back = gpu
        .upload_slice(&[1 << 16], &f16s)
        .unwrap()
        .download_blocking()
        .unwrap();
    assert!(back.iter().map(|x| x.to_bits()).eq(0..=u16::MAX));
}

#[test]
fn an_odd_half_precision_array_has_a_zero_beside_its_last_element() {
    let Some(gpu) = gpu() else { return };
    let x: Array1<bf16> = Array1::from_elem(3, bf16::from_f32(-1.5));
    let uploaded = gpu.upload(&x).unwrap();
    let copied = gpu.zeros::<bf16>(&[3]).unwrap();
    let mut recorder = gpu.recorder();
    recorder.copy(&uploaded, &copied).unwrap();
    // Seen by a kernel that binds words.
    let seen = [&uploaded, &copied].map(|tensor| {
        let words = recorder.output::<u32>(&[2]).unwrap();
        let bindings = [tensor.read(), words.write()];
        let grid = Grid::xyz(1, 1, 1).unwrap();
        recorder
            .dispatch(&WORDS, &[], &(), &bindings, grid)
            .unwrap();
        words
    });
    recorder.submit().unwrap();
    let bits = u32::from(x[0].to_bits());
    let want = ndarray::array![bits | bits << 16, bits].into_dyn();
    for words in seen {
        assert_eq!(words.download_blocking().unwrap(), want);
    }
    assert_eq!(copied.download_blocking().unwrap(), x.into_dyn());
}

#[test]
fn a_fresh_tensor_is_zero() {
    let Some(gpu) = gpu() else { return };
    let x = gpu
        .zeros::<i32>(&[3, 5])
        .unwrap()
        .download_blocking()
        .unwrap();
    assert_eq!(x, ArrayD::zeros(IxDyn(&[3, 5])));
}

#[test]
fn zero_length_and_zero_dimensional_tensors_are_tensors() {
    let Some(gpu) = gpu() else { return };
    let huge = usize::MAX;
    for shape in [vec![0], vec![3, 0, 2], vec![0, huge]] {
        let x = gpu.zeros::<bf16>(&shape).unwrap();
        assert!(x.is_empty());
        let n = x.len();
        assert_eq!(n, 0);
        if !shape.contains(&huge) {
            assert_eq!(x.download_blocking().unwrap().shape(), shape);
        }
    }
    let scalar = gpu.upload(&ndarray::arr0(2.5_f32)).unwrap();
    assert_eq!((scalar.len(), scalar.shape()), (1, &[][..]));
    assert_eq!(
        scalar.download_blocking().unwrap(),
        ndarray::arr0(2.5).into_dyn()
    );
    let empty = Array::<f32, _>::zeros((0, 4));
    assert_eq!(
        gpu.upload(&empty).unwrap().download_blocking().unwrap(),
        empty.into_dyn()
    );
}

#[test]
fn another_shape_is_the_same_buffer() {
    let Some(gpu) = gpu() else { return };
    let x = gpu
        .upload(&ndarray::array![[1_u32, 2, 3], [4, 5, 6]])
        .unwrap();
    let y = x.reshape(&[3, 2]).unwrap();
    let want = ndarray::array![[1, 2], [3, 4], [5, 6]].into_dyn();
    assert_eq!(y.download_blocking().unwrap(), want);
    assert_eq!(format!("{y:?}"), "GpuTensor<u32> [3, 2]");
}

/// The future of a download needs no runtime of ours: anything that polls will do.
#[test]
fn a_download_is_a_future() {
    let gpu = noop(Profile::WebMinimum).unwrap();
    let x = gpu.upload(&ndarray::array![1.0_f32, 2.0]).unwrap();
    let mut future = std::pin::pin!(x.download());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(y) = future.as_mut().poll(&mut context) else {
        panic!("natively the first poll waits");
    };
    assert_eq!(y.unwrap(), ndarray::array![1.0, 2.0].into_dyn());
}
