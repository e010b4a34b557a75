//! The rotation on the GPU equals the rotation matrix of the paper.

use llm_numerics::testing::Tolerance;
use llm_posenc::gpu::chatglm::{self as gpu_chatglm, GpuChatGlmTable};
use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
use llm_posenc::reference;
use llm_posenc::rope::chatglm::{self, ChatGlmTable};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array, Array1, Array2, Array4};
use proptest::prelude::*;

use super::{close, config, gpu, run, wave};

const PAIRINGS: [RopePairing; 3] = [
    RopePairing::Interleaved,
    RopePairing::HalfSplit,
    RopePairing::ReadInterleavedWriteHalfSplit,
];

/// Elements are at most 2; cosine and sine are rounded to f32 or formed on the device (3e-7), and a pair
/// adds two products: 2 · 2 · 3e-7, and some roundings of 2^-24 · 4.
const F32: Tolerance = Tolerance::new(2e-6, 0.0);

#[derive(Clone, Debug)]
struct Case {
    shape: [usize; 4],
    config: RopeConfig,
    /// One row for all, or one for each batch row.
    positions: Vec<Vec<usize>>,
    factor: f64,
}

impl Case {
    fn x(&self) -> Array4<f32> {
        let n = self.shape.iter().product();
        Array::from_iter((0..n).map(wave))
            .into_shape_with_order(self.shape)
            .unwrap()
    }

    fn table(&self) -> RopeTable {
        let inv_freq = rope::inv_freq(&self.config).unwrap();
        let rows = self.positions.len();
        let flat: Vec<usize> = self.positions.concat();
        let positions = Array2::from_shape_vec((rows, self.shape[2]), flat).unwrap();
        match rows {
            1 => RopeTable::new(&inv_freq, &positions.row(0), self.factor).unwrap(),
            _ => RopeTable::for_batch(&inv_freq, &positions, self.factor).unwrap(),
        }
    }

    /// The reference, batch row by batch row.
    fn want(&self, x: &Array4<f32>, backward: bool) -> Array4<f64> {
        let x = x.mapv(f64::from);
        let inv_freq = reference::rope::inv_freq(&self.config);
        let mut y = x.clone();
        for (b, mut y) in y.outer_iter_mut().enumerate() {
            let positions: Array1<usize> = self.positions[b % self.positions.len()].clone().into();
            let angles = reference::rope::angles(&positions, &inv_freq);
            let x = x.slice(ndarray::s![b..b + 1, .., .., ..]).to_owned();
            let op = match backward {
                true => reference::rope::backward,
                false => reference::rope::apply,
            };
            let row = op(&x, &angles, self.config.pairing, self.factor).unwrap();
            y.assign(&row.index_axis(ndarray::Axis(0), 0));
        }
        y
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let pairing = prop::sample::select(&PAIRINGS[..]);
    let axes = (0_usize..4, 0_usize..4, 0_usize..8, 1_usize..20, 0_usize..4);
    (axes, pairing, 1.5_f64..1e6, any::<bool>(), 0.5_f64..1.0).prop_flat_map(
        |((batch, heads, seq, planes, tail), pairing, base, shared, factor)| {
            let rows = if shared || batch == 0 { 1 } else { batch };
            let row = prop::collection::vec(0_usize..1_000_000, seq);
            prop::collection::vec(row, rows).prop_map(move |positions| Case {
                shape: [batch, heads, seq, 2 * planes + tail],
                config: RopeConfig::new(2 * planes, pairing).with_base(base),
                positions,
                factor,
            })
        },
    )
}

/// Forward, backward, in place, with one table for all or one for each batch row, on any shape.
#[test]
fn equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(case in cases())| {
        let (x, pairing) = (case.x(), case.config.pairing);
        let table = GpuRopeTable::upload(&gpu, &case.table()).unwrap();
        let device = gpu.upload(&x).unwrap();
        let got = run(&gpu, |r| gpu_rope::apply(r, &device, &table, pairing));
        close(&got, &case.want(&x, false), F32)?;
        let got = run(&gpu, |r| gpu_rope::backward(r, &device, &table, pairing));
        close(&got, &case.want(&x, true), F32)?;

        let inplace = gpu.upload(&x).unwrap();
        let got = run(&gpu, |r| {
            gpu_rope::apply_inplace(r, &inplace, &table, pairing)?;
            Ok(inplace.clone())
        });
        close(&got, &case.want(&x, false), F32)?;
        let inplace = gpu.upload(&x).unwrap();
        let got = run(&gpu, |r| {
            gpu_rope::backward_inplace(r, &inplace, &table, pairing)?;
            Ok(inplace.clone())
        });
        close(&got, &case.want(&x, true), F32)?;

    });
}

/// Angles formed on the device, in whole numbers, are those of f64.
#[test]
fn tables_are_exact_at_any_position() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(case in cases(), far in 0_u32..1 << 30)| {
        let inv_freq = rope::inv_freq(&case.config).unwrap();
        let mut positions: Vec<usize> = case.positions.concat();
        positions.push(far as usize);
        let words: Vec<u32> = positions.iter().map(|&p| p as u32).collect();
        let device = gpu.upload_slice(&[words.len()], &words).unwrap();
        let mut recorder = gpu.recorder();
        let table = GpuRopeTable::record(&mut recorder, &device, &inv_freq, case.factor).unwrap();
        recorder.submit().unwrap();
        let want = Array2::from_shape_fn((positions.len(), inv_freq.len()), |(t, i)| {
            positions[t] as f64 * inv_freq[i]
        });
        let tolerance = Tolerance::new(3e-7, 0.0);
        let cos = table.cos().download_blocking().unwrap();
        close(&cos, &want.mapv(|a| case.factor * a.cos()), tolerance)?;
        let sin = table.sin().download_blocking().unwrap();
        close(&sin, &want.mapv(|a| case.factor * a.sin()), tolerance)?;

    });
}

/// Frequencies of more than a turn per token, negative ones and zero fall into one turn.
#[test]
fn any_finite_frequency_works() {
    let Some(gpu) = gpu() else { return };
    let inv_freq = ndarray::array![0.0, -0.5, 7.0, -100.25, 1.0];
    let positions = [0_u32, 1, 5, 1000];
    let device = gpu.upload_slice(&[4], &positions).unwrap();
    let mut recorder = gpu.recorder();
    let table = GpuRopeTable::record(&mut recorder, &device, &inv_freq, 1.0).unwrap();
    recorder.submit().unwrap();
    let want = Array2::from_shape_fn((4, 5), |(t, i)| {
        (f64::from(positions[t]) * inv_freq[i]).cos()
    });
    let cos = table.cos().download_blocking().unwrap();
    close(&cos, &want, Tolerance::new(3e-7, 0.0)).unwrap();
}

/// The same input gives the same bits, time after time.
#[test]
fn runs_repeat_bit_by_bit() {
    let Some(gpu) = gpu() else { return };
    let case = Case {
        shape: [2, 3, 5, 12],
        config: RopeConfig::new(10, RopePairing::HalfSplit),
        positions: vec![vec![3, 1, 4, 1, 5]],
        factor: 1.0,
    };
    let table = GpuRopeTable::upload(&gpu, &case.table()).unwrap();
    let device = gpu.upload(&case.x()).unwrap();
    let once = run(&gpu, |r| {
        gpu_rope::apply(r, &device, &table, case.config.pairing)
    });
    for _ in 0..5 {
        let again = run(&gpu, |r| {
            gpu_rope::apply(r, &device, &table, case.config.pairing)
        });
        assert_eq!(once, again);
    }
}

/// NaN does not leave its plane (what it is there is up to the shader compiler); the rest of the row is as without it.
#[test]
fn nan_does_not_leave_its_plane() {
    let Some(gpu) = gpu() else { return };
    let config = RopeConfig::new(4, RopePairing::HalfSplit);
    let table = RopeTable::from_config(&config, &ndarray::array![3]).unwrap();
    let table = GpuRopeTable::upload(&gpu, &table).unwrap();
    let [y, without] = [f32::NAN, 1.0].map(|first| {
        let x = gpu
            .upload(&ndarray::array![[[[first, 1.0, 1.0, 1.0]]]])
            .unwrap();
        run(&gpu, |r| gpu_rope::apply(r, &x, &table, config.pairing))
    });
    for other in [1, 3] {
        assert_eq!(y[[0, 0, 0, other]], without[[0, 0, 0, other]]);
    }
}

/// ChatGLM-6B turns the halves of a head by different positions: its matrix, its transpose, each in place too.
#[test]
fn chatglm_equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(
        (batch, heads, quarters) in (0_usize..4, 0_usize..4, 1_usize..6),
        (context, answer) in (1_usize..5, 0_usize..5),
        shared in any::<bool>(),
    )| {
        let seq = context + answer;
        let (positions, blocks) = chatglm::positions_v1(context, context - 1, seq).unwrap();
        let rows = if shared { 1 } else { batch };
        let stack = |x: &Array2<usize>| {
            Array2::from_shape_fn((rows, seq), |(b, t)| x[[0, t]] + 3 * b)
        };
        let (positions, blocks) = (stack(&positions), stack(&blocks));
        let table = ChatGlmTable::new(4 * quarters, &positions, &blocks).unwrap();
        let on_device = GpuChatGlmTable::upload(&gpu, &table).unwrap();
        let shape = (batch, heads, seq, 4 * quarters);
        let x = Array::from_iter((0..batch * heads * seq * 4 * quarters).map(wave))
            .into_shape_with_order(shape)
            .unwrap();
        let device = gpu.upload(&x).unwrap();
        let each = |x: &Array2<usize>| x.broadcast((batch, seq)).unwrap().to_owned();
        let (positions, blocks) = (each(&positions), each(&blocks));
        let apply = |x: &Array4<f64>| reference::rope::apply_chatglm_v1(x, &positions, &blocks);
        let wide = x.mapv(f64::from);
        let forward = apply(&wide);
        close(&run(&gpu, |r| gpu_chatglm::apply_v1(r, &device, &on_device)), &forward, F32)?;
        // The matrix is orthogonal: its transpose gives what it turns into x. Turning back errors adds two of them.
        let got = run(&gpu, |r| gpu_chatglm::backward_v1(r, &device, &on_device));
        let got = got.mapv(f64::from).into_dimensionality().unwrap();
        close(&apply(&got).mapv(|y| y as f32), &wide, Tolerance::new(2.0 * 2e-6, 0.0))?;
        let got = run(&gpu, |r| {
            gpu_chatglm::apply_v1_inplace(r, &device, &on_device)?;
            Ok(device.clone())
        });
        close(&got, &forward, F32)?;
        let got = run(&gpu, |r| {
            gpu_chatglm::backward_v1_inplace(r, &device, &on_device)?;
            Ok(device.clone())
        });
        close(&got, &wide, Tolerance::new(2.0 * 2e-6, 0.0))?; // forward and backward
    });
}

/// Moved keys are where a rotation at the new position would have put them.
#[test]
fn moved_keys_equal_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(config(), |(case in cases(), distance in -1000_i64..1000, all in any::<bool>())| {
        let x = case.x();
        let inv_freq = rope::inv_freq(&case.config).unwrap();
        let seq = if all { 1 } else { case.shape[2] };
        let distances: Array1<i64> = (0..seq as i64).map(|t| distance + 7 * t).collect();
        let pairing = case.config.pairing;
        // Written keys have the layout that was written.
        let written = match pairing {
            RopePairing::ReadInterleavedWriteHalfSplit => RopePairing::HalfSplit,
            same => same,
        };
        let angles = Array2::from_shape_fn((case.shape[2], inv_freq.len()), |(t, plane)| {
            distances[if all { 0 } else { t }] as f64 * inv_freq[plane]
        });
        let want = reference::rope::apply(&x.mapv(f64::from), &angles, written, 1.0).unwrap();
        let device = gpu.upload(&x).unwrap();
        let got = run(&gpu, |r| {
            gpu_rope::reposition_inplace(r, &device, &distances, &inv_freq, pairing)?;
            Ok(device.clone())
        });
        close(&got, &want, F32)?;
    });
}
