//! Dispatches in one submission.

use llm_gpu::testing::{gpu, options};
use llm_gpu::{Gpu, GpuTensor, Grid, Kernel, Recorder};
use ndarray::Array1;

use crate::kernels::{ADD, AddParams, SCALE, SUM_1_TREE, SUM_2_SUBGROUP, ScaleParams, SumParams};

#[test]
fn a_kernel_does_what_a_loop_does() {
    let Some(gpu) = gpu() else { return };
    let x = Array1::from_iter((0..1000).map(|i| i as f32 - 300.5));
    let on_device = gpu.upload(&x).unwrap();
    let mut recorder = gpu.recorder();
    let params = ScaleParams {
        n: 1000,
        factor: -0.5,
    };
    let grid = Grid::linear(1000, 64).unwrap();
    recorder
        .dispatch(&SCALE, &[], &params, &[on_device.write()], grid)
        .unwrap();
    recorder.submit().unwrap();
    // A product with a power of two is exact.
    assert_eq!(
        on_device.download_blocking().unwrap(),
        (x * -0.5).into_dyn()
    );
}

/// `factor` times each element of `x`, `n_times` over.
fn scale(recorder: &mut Recorder, x: &GpuTensor<f32>, factor: f32, n_times: usize) {
    let params = ScaleParams {
        n: x.len() as u32,
        factor,
    };
    let grid = Grid::linear(x.len(), 64).unwrap();
    for _ in 0..n_times {
        recorder
            .dispatch(&SCALE, &[], &params, &[x.write()], grid)
            .unwrap();
    }
}

/// `z = x + y`.
fn add(recorder: &mut Recorder, x: &GpuTensor<f32>, y: &GpuTensor<f32>, z: &GpuTensor<f32>) {
    let params = AddParams { n: x.len() as u32 };
    let grid = Grid::linear(x.len(), 64).unwrap();
    let bindings = [x.read(), y.read(), z.write()];
    recorder
        .dispatch(&ADD, &[], &params, &bindings, grid)
        .unwrap();
}

#[test]
fn a_dispatch_sees_what_the_ones_before_it_wrote_across_the_ring() {
    let Some(gpu) = gpu() else { return };
    // 2,500 dispatches fill the ring twice. Each doubles or halves, so the result is exact, and no two neighbors have the same parameters.
    let x = gpu.upload_slice(&[3], &[1.0_f32, 2.0, 3.0]).unwrap();
    let mut recorder = gpu.recorder();
    for _ in 0..1250 {
        scale(&mut recorder, &x, 2.0, 1);
        scale(&mut recorder, &x, 0.5, 1);
    }
    scale(&mut recorder, &x, 4.0, 1);
    recorder.submit().unwrap();
    let want = ndarray::array![4.0, 8.0, 12.0].into_dyn();
    assert_eq!(x.download_blocking().unwrap(), want);
}

#[test]
fn recorders_on_several_threads_do_not_mix_their_parameters() {
    let Some(gpu) = gpu() else { return };
    // Each thread has its own power of two, goes up and down by it, and ends where it began. They cross the ring at different places.
    let results: Vec<f32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=4_usize)
            .map(|thread| {
                let gpu = gpu.clone();
                scope.spawn(move || {
                    let x = gpu.upload_slice(&[1], &[thread as f32]).unwrap();
                    let factor = 2.0_f32.powi(thread as i32);
                    for _ in 0..20 {
                        let mut recorder = gpu.recorder();
                        for _ in 0..(100 * thread) {
                            scale(&mut recorder, &x, factor, 1);
                            scale(&mut recorder, &x, factor.recip(), 1);
                        }
                        scale(&mut recorder, &x, factor, 1);
                        recorder.submit().unwrap();
                        let mut recorder = gpu.recorder();
                        scale(&mut recorder, &x, factor.recip(), 1);
                        recorder.submit().unwrap();
                    }
                    x.download_blocking().unwrap()[[0]]
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(results, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_recording_that_is_dropped_does_not_run() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.upload_slice(&[1], &[1.0_f32]).unwrap();
    let mut recorder = gpu.recorder();
    scale(&mut recorder, &x, 2.0, 3);
    drop(recorder);
    assert_eq!(x.download_blocking().unwrap()[[0]], 1.0);
    gpu.check().unwrap();
}

#[test]
fn copies_and_dispatches_run_in_the_order_of_recording() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.upload_slice(&[2], &[1.0_f32, 2.0]).unwrap();
    let [y, z] = [(); 2].map(|()| gpu.zeros::<f32>(&[2]).unwrap());
    let mut recorder = gpu.recorder();
    recorder.copy(&x, &y).unwrap();
    scale(&mut recorder, &x, 10.0, 1);
    add(&mut recorder, &x, &y, &z);
    recorder.copy(&z, &x).unwrap();
    scale(&mut recorder, &z, 0.0, 1);
    recorder.submit().unwrap();
    let want = ndarray::array![11.0, 22.0].into_dyn();
    assert_eq!(x.download_blocking().unwrap(), want);
    assert_eq!(y.download_blocking().unwrap(), (want / 11.0));
}

#[test]
fn constants_choose_another_pipeline_of_the_same_kernel() {
    let Some(gpu) = gpu() else { return };
    let x = gpu.upload_slice(&[100], &[1.0_f32; 100]).unwrap();
    let mut recorder = gpu.recorder();
    for workgroup_size in [1_u32, 32, 100] {
        let params = ScaleParams {
            n: 100,
            factor: 2.0,
        };
        let grid = Grid::linear(100, workgroup_size).unwrap();
        let constants = [("WORKGROUP_SIZE", f64::from(workgroup_size))];
        recorder
            .dispatch(&SCALE, &constants, &params, &[x.write()], grid)
            .unwrap();
    }
    recorder.submit().unwrap();
    let x = x.download_blocking().unwrap();
    assert!(x.iter().all(|x| *x == 8.0), "{x}");
}

/// A device of its own, so that no other test borrows from its pool.
fn own_gpu() -> Option<Gpu> {
    gpu()?;
    let mask = std::env::var("LLM_GPU_MASK").ok();
    Some(Gpu::new_blocking(&options(mask.as_deref()).unwrap()).unwrap())
}

#[test]
fn scratch_serves_again_within_a_recording_and_after_it() {
    let Some(gpu) = own_gpu() else { return };
    let n = 5000;
    let x = gpu
        .upload(&Array1::from_iter((0..n).map(|i| i as f32)))
        .unwrap();
    for round in 0..3 {
        let mut recorder = gpu.recorder();
        let out = recorder.output::<f32>(&[n]).unwrap();
        recorder.copy(&x, &out).unwrap();
        // x + x by a scratch tensor, 40 times over: out = 41 x.
        for _ in 0..40 {
            let twice = recorder.scratch::<f32>(&[n]).unwrap();
            let sum = recorder.scratch::<f32>(&[n]).unwrap();
            add(&mut recorder, &x, &x, &twice);
            scale(&mut recorder, &twice, 0.5, 1);
            add(&mut recorder, &twice, &out, &sum);
            recorder.copy(&sum, &out).unwrap();
        }
        assert_eq!(gpu.idle_scratch().0, 0, "all in use, round {round}");
        recorder.submit().unwrap();
        let out = out.download_blocking().unwrap();
        let want = Array1::from_iter((0..n).map(|i| 41.0 * i as f32));
        assert_eq!(out, want.into_dyn()); // whole numbers below 2^24: exact
        // Two buffers served for 80 tensors, and again in the next round.
        let (buffers, bytes) = gpu.idle_scratch();
        assert_eq!(buffers, 2, "round {round}");
        assert!((40_000..=50_000).contains(&bytes), "{bytes}");
    }
    gpu.free_scratch();
    assert_eq!(gpu.idle_scratch(), (0, 0));
}

#[test]
fn scratch_of_an_open_recording_is_not_lent_to_another() {
    let Some(gpu) = own_gpu() else { return };
    let n = 64;
    let x = gpu.upload_slice(&[n], &[1.0_f32; 64]).unwrap();
    let [first_out, second_out] = [(); 2].map(|()| gpu.zeros::<f32>(&[n]).unwrap());
    let record = |factor, out: &GpuTensor<f32>| {
        let mut recorder = gpu.recorder();
        let scratch = recorder.scratch::<f32>(&[n]).unwrap();
        add(&mut recorder, &x, &x, &scratch);
        scale(&mut recorder, &scratch, factor, 1);
        // Part of the first recording is sent off while its scratch still waits to be read.
        for _ in 0..1030 {
            scale(&mut recorder, &scratch, 1.0, 1);
        }
        add(&mut recorder, &scratch, &x, out);
        recorder // the tensor is dropped, the recording is open
    };
    let first = record(3.0, &first_out);
    assert_eq!(gpu.idle_scratch().0, 0);
    let second = record(5.0, &second_out);
    second.submit().unwrap();
    assert_eq!(
        gpu.idle_scratch().0,
        1,
        "the second one's; the first one's is held"
    );
    // A third one may take what the second left.
    record(7.0, &second_out).submit().unwrap();
    assert_eq!(gpu.idle_scratch().0, 1);
    first.submit().unwrap();
    assert_eq!(gpu.idle_scratch().0, 2);
    assert_eq!(first_out.download_blocking().unwrap()[[0]], 7.0);
    assert_eq!(second_out.download_blocking().unwrap()[[0]], 15.0);
}

#[test]
fn a_scratch_tensor_that_somebody_still_has_is_not_lent() {
    let Some(gpu) = own_gpu() else { return };
    let mut recorder = gpu.recorder();
    let x = gpu.upload_slice(&[2], &[1.0_f32, 2.0]).unwrap();
    let kept = recorder.scratch::<f32>(&[2]).unwrap();
    add(&mut recorder, &x, &x, &kept);
    let other = recorder.scratch::<f32>(&[2]).unwrap();
    scale(&mut recorder, &other, 0.0, 1);
    recorder.submit().unwrap();
    drop(other);
    let mut recorder = gpu.recorder();
    let third = recorder.scratch::<f32>(&[2]).unwrap();
    scale(&mut recorder, &third, 0.0, 1);
    recorder.submit().unwrap();
    let want = ndarray::array![2.0, 4.0].into_dyn();
    assert_eq!(kept.download_blocking().unwrap(), want);
}

/// The sum of `x` by a kernel of one workgroup.
fn sum(gpu: &Gpu, kernel: &'static Kernel, x: &GpuTensor<f32>) -> f32 {
    let mut recorder = gpu.recorder();
    let out = recorder.output::<f32>(&[1]).unwrap();
    let params = SumParams { n: x.len() as u32 };
    let grid = Grid::xyz(1, 1, 1).unwrap();
    recorder
        .dispatch(kernel, &[], &params, &[x.read(), out.write()], grid)
        .unwrap();
    recorder.submit().unwrap();
    out.download_blocking().unwrap()[[0]]
}

#[test]
fn a_sum_has_the_same_bits_each_time_and_is_close_to_f64() {
    let Some(gpu) = gpu() else { return };
    let mut kernels = vec![&SUM_1_TREE];
    if gpu.capabilities().meets(&SUM_2_SUBGROUP.needs) {
        kernels.push(&SUM_2_SUBGROUP);
    }
    for n in [0, 1, 63, 64, 65, 1000, 4099] {
        let x = Array1::from_iter((0..n).map(|i| ((i * 7919) % 1013) as f32 / 1013.0));
        let want: f64 = x.iter().map(|x| f64::from(*x)).sum();
        let on_device = gpu.upload(&x).unwrap();
        for kernel in &kernels {
            let got = sum(&gpu, kernel, &on_device);
            // At most n / 64 + 6 (or 64) additions follow each other, all terms are positive: each costs half a unit in the last place.
            let steps = n as f64 / 64.0 + 64.0;
            let tolerance = steps * f64::from(f32::EPSILON) / 2.0 * want;
            assert!(
                (f64::from(got) - want).abs() <= tolerance,
                "{}: {got} {want}",
                kernel.name
            );
            for _ in 0..3 {
                assert_eq!(sum(&gpu, kernel, &on_device).to_bits(), got.to_bits());
            }
        }
    }
}
