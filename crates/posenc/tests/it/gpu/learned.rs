//! Learned positions on the GPU: rows come through bit by bit, gradients add up.

use llm_numerics::testing::Tolerance;
use llm_posenc::gpu::learned as gpu_learned;
use llm_posenc::learned;
use llm_posenc::reference;
use ndarray::{Array2, Array3};
use proptest::prelude::*;

use super::{close, config, gpu, run, wave};

fn cases() -> impl Strategy<Value = (usize, usize, Array2<usize>)> {
    (1_usize..12, 0_usize..9, 0_usize..4, 0_usize..9).prop_flat_map(
        |(n_positions, d_model, batch, seq)| {
            prop::collection::vec(0..n_positions, batch * seq).prop_map(move |positions| {
                let positions = Array2::from_shape_vec((batch, seq), positions).unwrap();
                (n_positions, d_model, positions)
            })
        },
    )
}

#[test]
fn equals_the_cpu_and_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |((n_positions, d_model, positions) in cases())| {
        let table = Array2::from_shape_fn((n_positions, d_model), |(p, i)| wave(p * d_model + i));
        let on_device = gpu.upload(&positions.mapv(|p| p as u32)).unwrap();
        let device_table = gpu.upload(&table).unwrap();
        let got = run(&gpu, |r| gpu_learned::embed(r, &device_table, &on_device));
        let want = learned::embed(&table, &positions).unwrap();
        prop_assert_eq!(got, want.into_dyn()); // copies: the same bits

        let (batch, seq) = positions.dim();
        let dout = Array3::from_shape_fn((batch, seq, d_model), |(b, t, i)| wave(b + 3 * t + 7 * i));
        let device_dout = gpu.upload(&dout).unwrap();
        let got = run(&gpu, |r| gpu_learned::backward(r, &device_dout, &on_device, n_positions));
        let want = reference::learned::backward(&dout.mapv(f64::from), &positions, n_positions).unwrap();
        // At most 36 terms of at most 2, added in f32.
        close(&got, &want, Tolerance::new(36.0 * 72.0 * 6e-8, 0.0))?;

    });
}

/// The device cannot return an error, so a position that has no row gives one that nobody can overlook.
#[test]
fn a_position_outside_the_table_gives_nan() {
    let Some(gpu) = gpu() else { return };
    let table = gpu.upload(&Array2::<f32>::ones((3, 2))).unwrap();
    let positions = gpu.upload_slice(&[1, 3], &[2_u32, 3, u32::MAX]).unwrap();
    let y = run(&gpu, |r| gpu_learned::embed(r, &table, &positions));
    let nan: Vec<bool> = y.iter().map(|y| y.is_nan()).collect();
    assert_eq!(nan, [false, false, true, true, true, true]);
}
