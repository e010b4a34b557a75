//! What the recording functions refuse: nothing is recorded, nothing panics.

use llm_posenc::PosencError;
use llm_posenc::alibi::AlibiOrigin;
use llm_posenc::gpu::chatglm::GpuChatGlmTable;
use llm_posenc::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
use llm_posenc::gpu::rope::GpuRopeTable;
use llm_posenc::gpu::{alibi, chatglm, kerple, learned, rope, t5};
use llm_posenc::kerple::KerpleKernel;
use llm_posenc::rope::chatglm::ChatGlmTable;
use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
use llm_posenc::t5::{T5Config, T5Direction};
use ndarray::array;

use super::gpu;

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
    let got = f64::INFINITY;
    let error = GpuRopeTable::record(&mut recorder, &positions, &array![1.0], got).unwrap_err();
    assert_eq!(error, PosencError::AttentionFactor { got });
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
