//! The same bits for any number of threads.

use llm_ffn::glu::GluPacking;
use llm_ffn::swiglu::{self, SwigluWeights};
use llm_ffn::{FfnError, rms_norm};
use ndarray::{Array1, Array2};

fn wave(rows: usize, columns: usize, phase: f32) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        ((i * columns + j) as f32 * 0.73 + phase).sin()
    })
}

/// Everything that sums or is cut into tasks, at a size that is cut.
fn everything() -> Result<Vec<Array2<f32>>, FfnError> {
    let (x, dout) = (wave(300, 96, 0.0), wave(300, 96, 1.0));
    let (gate_up, down) = (wave(2 * 640, 96, 2.0), wave(96, 640, 3.0));
    let weight = Array1::from_iter(wave(1, 96, 4.0));
    let (normed, rstd) = rms_norm::forward_with_rstd(&x, &weight, 1e-6)?;
    let weights = SwigluWeights::new(gate_up.view(), down.view(), GluPacking::Interleaved)?;
    let (y, saved) = swiglu::forward_saved(&normed, &weights)?;
    let gradients = swiglu::block_backward(&dout, &normed, &weights, &saved)?;
    let (dx, dweight) = rms_norm::backward(&gradients.dx, &x, &weight, &rstd)?;
    let dweight = dweight.insert_axis(ndarray::Axis(0));
    Ok(vec![
        normed,
        y,
        gradients.dgate_up,
        gradients.ddown,
        dx,
        dweight,
    ])
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap();
        pool.install(everything).unwrap()
    };
    let one = with(1);
    assert!(one.iter().all(|x| x.iter().all(|x| x.is_finite())));
    for n in [2, 3, 7] {
        assert_eq!(with(n), one, "{n} threads");
    }
}
