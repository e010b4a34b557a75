//! Times of kernels.

use llm_gpu::testing::gpu;
use llm_gpu::{Grid, KernelTime};

use crate::kernels::{SCALE, SUM_1_TREE, ScaleParams, SumParams};

#[test]
fn each_dispatch_has_a_time_also_beyond_the_ring() {
    let Some(gpu) = gpu() else { return };
    if !gpu.capabilities().timestamps {
        return;
    }
    let n = 4096;
    let x = gpu.zeros::<f32>(&[n]).unwrap();
    let sum = gpu.zeros::<f32>(&[1]).unwrap();
    let mut recorder = gpu.timed_recorder().unwrap();
    let scale = ScaleParams {
        n: n as u32,
        factor: 1.5,
    };
    // 1,050 in all: more than one ring.
    for _ in 0..525 {
        let grid = Grid::linear(n, 64).unwrap();
        recorder
            .dispatch(&SCALE, &[], &scale, &[x.write()], grid)
            .unwrap();
        let grid = Grid::xyz(1, 1, 1).unwrap();
        let bindings = [x.read(), sum.write()];
        recorder
            .dispatch(
                &SUM_1_TREE,
                &[],
                &SumParams { n: n as u32 },
                &bindings,
                grid,
            )
            .unwrap();
    }
    let start = std::time::Instant::now();
    let times = recorder.submit().unwrap().timings_blocking().unwrap();
    let waited = start.elapsed().as_nanos() as f64;
    let names: Vec<_> = times.iter().map(|time| time.kernel).collect();
    assert_eq!(names, ["scale", "sum_1_tree"].repeat(525));
    let nanoseconds = |time: &KernelTime| time.nanoseconds;
    assert!(
        times
            .iter()
            .map(nanoseconds)
            .all(|t| (0.0..10e9).contains(&t))
    );
    let sum: f64 = times.iter().map(nanoseconds).sum();
    assert!(sum > 0.0, "no time passed");
    // The first part was under way before the clock on the host started, so only the order of magnitude can be compared.
    assert!(sum < 100.0 * (waited + 1e8), "{sum} {waited}");
}

#[test]
fn a_timed_recording_of_nothing_has_no_times() {
    let Some(gpu) = gpu() else { return };
    if gpu.capabilities().timestamps {
        let recorder = gpu.timed_recorder().unwrap();
        assert_eq!(recorder.submit().unwrap().timings_blocking(), Ok(vec![]));
    }
}
