//! What the recording functions refuse: nothing is recorded, nothing panics.

use llm_posenc::PosencError;
use llm_posenc::alibi::{self as alibi_cpu, AlibiOrigin, AlibiRounding};
use llm_posenc::gpu::chatglm::GpuChatGlmTable;
use llm_posenc::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
use llm_posenc::gpu::rope::GpuRopeTable;
use llm_posenc::gpu::{alibi, chatglm, kerple, learned, rope, t5};
use llm_posenc::kerple::KerpleKernel;
use llm_posenc::rope::chatglm::ChatGlmTable;
use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
use llm_posenc::t5::{T5Config, T5Direction};
use ndarray::{Array1, ArrayD, array};

use super::{gpu, run};

const PAIRING: RopePairing = RopePairing::HalfSplit;

#[test]
fn rope_refuses_what_does_not_fit() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let table = RopeTable::from_config(&RopeConfig::new(4, PAIRING), &array![0, 1]).unwrap();
    let table = GpuRopeTable::upload(&gpu, &table).unwrap();
    let flat = gpu.zeros::<f32>(&[2, 2, 4]).unwrap();
    let error = rope::apply(&mut recorder, &flat, &table, PAIRING).unwrap_err();
    let (expected, got) = (4, 3);
    assert_eq!(error, PosencError::Rank { expected, got });
    let long = gpu.zeros::<f32>(&[1, 1, 3, 4]).unwrap();
    let error = rope::backward(&mut recorder, &long, &table, PAIRING).unwrap_err();
    assert!(
        matches!(error, PosencError::TableRows { got: 2, .. }),
        "{error}"
    );
    let narrow = gpu.zeros::<f32>(&[1, 1, 2, 3]).unwrap();
    let error = rope::apply_inplace(&mut recorder, &narrow, &table, PAIRING).unwrap_err();
    let (rotary_dim, head_dim) = (4, 3);
    let want = PosencError::RotaryDimAboveHeadDim {
        rotary_dim,
        head_dim,
    };
    assert_eq!(error, want);
    let positions = gpu.zeros::<u32>(&[2]).unwrap();
    let bad = array![1.0, f64::NAN];
    let error = GpuRopeTable::record(&mut recorder, &positions, &bad, 1.0).unwrap_err();
    assert!(
        matches!(error, PosencError::InvFreq { index: 1, .. }),
        "{error}"
    );
    let one = array![1.0];
    let (rows, columns) = (1, 1 << 50);
    let repeated = one.broadcast(columns).unwrap();
    let error = GpuRopeTable::record(&mut recorder, &positions, &repeated, 1.0).unwrap_err();
    assert_eq!(error, PosencError::TooLarge { rows, columns });
    // The shader has it in f32.
    for got in [f64::INFINITY, 1e39] {
        let error = GpuRopeTable::record(&mut recorder, &positions, &array![1.0], got).unwrap_err();
        assert_eq!(error, PosencError::AttentionFactor { got });
    }
}

#[test]
fn chatglm_refuses_another_head_size_and_moves_need_a_distance_each() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let table = ChatGlmTable::new(8, &array![[0, 1]], &array![[0, 0]]).unwrap();
    let table = GpuChatGlmTable::upload(&gpu, &table).unwrap();
    let x = gpu.zeros::<f32>(&[1, 1, 2, 12]).unwrap();
    let error = chatglm::apply_v1(&mut recorder, &x, &table).unwrap_err();
    let (expected, got) = (8, 12);
    assert_eq!(error, PosencError::ChatGlmHeadDim { expected, got });
    let inv_freq = array![1.0];
    let distances = array![1, 2, 3];
    let error = rope::reposition_inplace(&mut recorder, &x, &distances, &inv_freq, PAIRING);
    let (seq, got) = (2, 3);
    assert_eq!(error.unwrap_err(), PosencError::Distances { seq, got });
}

#[test]
fn tensors_must_fit_each_other() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let dout = gpu.zeros::<f32>(&[2, 3, 4]).unwrap();
    let positions = gpu.zeros::<u32>(&[2, 2]).unwrap();
    let error = learned::backward(&mut recorder, &dout, &positions, 5).unwrap_err();
    let (expected, got) = (vec![2, 3], vec![2, 2]);
    assert_eq!(error, PosencError::GpuShape { expected, got });
    let r1 = gpu.zeros::<f32>(&[2]).unwrap();
    let r2 = gpu.zeros::<f32>(&[3]).unwrap();
    let error = kerple::bias(&mut recorder, &r1, &r2, 1, 1, KerpleKernel::Power).unwrap_err();
    let (expected, got) = (vec![2], vec![3]);
    assert_eq!(error, PosencError::GpuShape { expected, got });
    let config = T5Config::new(8, 20, T5Direction::Causal).unwrap();
    let table = gpu.zeros::<f32>(&[7, 2]).unwrap();
    let error = t5::bias(&mut recorder, &table, 1, 1, 0, &config).unwrap_err();
    let (expected, got) = (8, 7);
    assert_eq!(error, PosencError::T5Table { expected, got });
}

/// As on the CPU: no heads are a mistake, and so are more than anything has.
#[test]
fn each_bias_needs_heads() {
    let Some(gpu) = gpu() else { return };
    let config = T5Config::new(8, 20, T5Direction::Causal).unwrap();
    let (origin, kernel) = (AlibiOrigin::KeyIndex, KerpleKernel::Power);
    let rounding = AlibiRounding::Product;
    for got in [0, alibi_cpu::MAX_HEADS + 1] {
        let mut r = gpu.recorder();
        let per_head = gpu.zeros::<f32>(&[got]).unwrap();
        let dbias = gpu.zeros::<f32>(&[got, 1, 1]).unwrap();
        let rows = gpu.zeros::<f32>(&[1, got, 1, 1]).unwrap();
        let table = gpu.zeros::<f32>(&[8, got]).unwrap();
        let positions = gpu.zeros::<u32>(&[1, 1]).unwrap();
        let errors = [
            alibi::bias(&mut r, &per_head, 1, 1, origin).map(drop),
            alibi::backward(&mut r, &dbias, origin).map(drop),
            alibi::bias_at(&mut r, &per_head, &positions, rounding).map(drop),
            alibi::backward_at(&mut r, &rows, &positions).map(drop),
            kerple::bias(&mut r, &per_head, &per_head, 1, 1, kernel).map(drop),
            kerple::backward(&mut r, &dbias, &per_head, &per_head, kernel).map(drop),
            t5::bias(&mut r, &table, 1, 1, 0, &config).map(drop),
            t5::backward(&mut r, &dbias, 0, &config).map(drop),
        ];
        for (op, error) in errors.into_iter().enumerate() {
            assert_eq!(error, Err(PosencError::Heads { got }), "op {op}");
        }
    }
}

/// Axes beside a zero may have any length: nothing may be looped over or counted for them.
#[test]
fn long_axes_of_empty_tensors_cost_nothing() {
    let Some(gpu) = gpu() else { return };
    let long = (1 << 30) - 1;
    let config = T5Config::new(8, 20, T5Direction::Causal).unwrap();
    let ones = gpu.upload(&Array1::<f32>::ones(64)).unwrap();
    for shape in [[64, long, 0], [64, 0, long]] {
        let dbias = gpu.zeros::<f32>(&shape).unwrap();
        let zeros = ArrayD::<f32>::zeros(vec![64]);
        let got = run(&gpu, |r| alibi::backward(r, &dbias, AlibiOrigin::KeyIndex));
        assert_eq!(got, zeros);
        let kernel = KerpleKernel::Logarithmic;
        let got = run(&gpu, |r| {
            Ok(kerple::backward(r, &dbias, &ones, &ones, kernel)?.1)
        });
        assert_eq!(got, zeros);
        let got = run(&gpu, |r| t5::backward(r, &dbias, 0, &config));
        assert_eq!(got, ArrayD::<f32>::zeros(vec![8, 64]));
        let got = run(&gpu, |r| {
            alibi::bias(r, &ones, shape[1], shape[2], AlibiOrigin::KeyIndex)
        });
        assert_eq!(got.shape(), shape);
        let got = run(&gpu, |r| {
            kerple::bias(r, &ones, &ones, shape[1], shape[2], kernel)
        });
        assert_eq!(got.shape(), shape);
        let table = gpu.zeros::<f32>(&[8, 64]).unwrap();
        let got = run(&gpu, |r| {
            t5::bias(r, &table, shape[1], shape[2], 0, &config)
        });
        assert_eq!(got.shape(), shape);
    }
    for (batch, seq, kv_seq) in [(usize::MAX, 1, 0), (1, usize::MAX, 0), (0, usize::MAX, 7)] {
        let dbias = gpu.zeros::<f32>(&[batch, 64, seq, kv_seq]).unwrap();
        let positions = gpu.zeros::<u32>(&[batch, kv_seq]).unwrap();
        let got = run(&gpu, |r| alibi::backward_at(r, &dbias, &positions));
        assert_eq!(got, ArrayD::<f32>::zeros(vec![64]));
    }
    let (table, positions) = (
        gpu.zeros::<f32>(&[usize::MAX, 0]).unwrap(),
        gpu.zeros::<u32>(&[2, 3]).unwrap(),
    );
    let y = run(&gpu, |r| learned::embed(r, &table, &positions));
    assert_eq!(y.shape(), [2, 3, 0]);
    let dout = gpu.zeros::<f32>(&[2, 3, 0]).unwrap();
    let dtable = run(&gpu, |r| learned::backward(r, &dout, &positions, 7));
    assert_eq!(dtable.shape(), [7, 0]);
}

#[test]
fn empty_rotations_of_any_length_are_answered() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    // No row to fill, so no frequency has to go to the device.
    let one = array![0.5];
    let many = one.broadcast(1 << 28).unwrap();
    let positions = gpu.zeros::<u32>(&[0]).unwrap();
    let table = GpuRopeTable::record(&mut recorder, &positions, &many, 1.0).unwrap();
    assert_eq!(table.cos().shape(), [0, 1 << 28]);
    let table = ChatGlmTable::new(8, &array![[0, 1]], &array![[0, 0]]).unwrap();
    let table = GpuChatGlmTable::upload(&gpu, &table).unwrap();
    let rows = usize::MAX;
    let x = gpu.zeros::<f32>(&[0, 1, rows, 8]).unwrap();
    let want = PosencError::TooLarge { rows, columns: 8 };
    let got = chatglm::apply_v1(&mut recorder, &x, &table).unwrap_err();
    assert_eq!(got, want);
    let got = chatglm::backward_v1_inplace(&mut recorder, &x, &table).unwrap_err();
    assert_eq!(got, want);
}

#[test]
fn sizes_beyond_the_device_are_errors() {
    let Some(gpu) = gpu() else { return };
    let mut recorder = gpu.recorder();
    let slopes = gpu.zeros::<f32>(&[2]).unwrap();
    let shape = [2, 1 << 30, 1];
    let error = alibi::bias(
        &mut recorder,
        &slopes,
        shape[1],
        shape[2],
        AlibiOrigin::KeyIndex,
    );
    assert_eq!(error.unwrap_err(), PosencError::BiasTooLarge { shape });
    let n = 1 << 29; // 2 · 2^29 · 2^29 words
    let error = alibi::bias(&mut recorder, &slopes, n, n, AlibiOrigin::KeyIndex);
    assert!(matches!(error, Err(PosencError::Gpu(_))), "{error:?}");
}

#[test]
fn tensors_of_another_device_are_refused() {
    let Some(gpu) = gpu() else { return };
    let other = Gpu::new_blocking(&GpuOptions::default()).unwrap();
    let mut recorder = gpu.recorder();
    let slopes = other.zeros::<f32>(&[2]).unwrap();
    let error = alibi::bias(&mut recorder, &slopes, 2, 2, AlibiOrigin::KeyIndex).unwrap_err();
    assert!(
        matches!(error, PosencError::Gpu(GpuError::OtherDevice { .. })),
        "{error}"
    );
}
