//! A device that goes away.

use llm_gpu::testing::{gpu, options};
use llm_gpu::{Gpu, GpuError, Grid};

use crate::kernels::{SCALE, ScaleParams};

#[test]
fn every_call_on_a_lost_device_says_so_and_none_panics() {
    // One of its own: the others go on with theirs.
    if gpu().is_none() {
        return;
    }
    let gpu = Gpu::new_blocking(&options(None).unwrap()).unwrap();
    let x = gpu.upload(&ndarray::array![1.0_f32, 2.0]).unwrap();
    let y = gpu.zeros::<f32>(&[2]).unwrap();
    let params = ScaleParams { n: 2, factor: 2.0 };
    let grid = Grid::linear(2, 64).unwrap();
    let mut recorder = gpu.recorder();
    recorder
        .dispatch(&SCALE, &[], &params, &[x.write()], grid)
        .unwrap();
    let waiting = gpu.recorder().submit().unwrap();

    gpu.destroy();

    let lost = |outcome: Result<(), GpuError>| {
        assert!(
            matches!(outcome, Err(GpuError::DeviceLost { .. })),
            "{outcome:?}"
        );
    };
    lost(recorder.dispatch(&SCALE, &[], &params, &[x.write()], grid));
    lost(recorder.copy(&x, &y));
    lost(recorder.submit().map(drop));
    lost(gpu.check());
    lost(gpu.check()); // it stays lost
    lost(waiting.wait_blocking());
    lost(x.download_blocking().map(drop));
    lost(gpu.upload(&ndarray::array![1.0_f32]).map(drop));
    lost(gpu.zeros::<f32>(&[1]).map(drop));
    lost(gpu.recorder().output::<f32>(&[1]).map(drop));
    lost(gpu.recorder().scratch::<f32>(&[1]).map(drop));
    lost(gpu.recorder().submit().map(drop));
    drop(x);
}

#[test]
fn a_device_that_is_lost_while_it_works_says_so() {
    if gpu().is_none() {
        return;
    }
    let gpu = Gpu::new_blocking(&options(None).unwrap()).unwrap();
    let n = 1 << 20;
    let x = gpu.zeros::<f32>(&[n]).unwrap();
    let mut recorder = gpu.recorder();
    let params = ScaleParams {
        n: n as u32,
        factor: 2.0,
    };
    let grid = Grid::linear(n, 64).unwrap();
    for _ in 0..50 {
        recorder
            .dispatch(&SCALE, &[], &params, &[x.write()], grid)
            .unwrap();
    }
    recorder.submit().unwrap();
    let waiter = {
        let x = x.clone();
        std::thread::spawn(move || x.download_blocking())
    };
    gpu.destroy();
    // The download was quicker, or was cut off.
    match waiter.join().unwrap() {
        Ok(_) | Err(GpuError::DeviceLost { .. } | GpuError::Map { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
}
