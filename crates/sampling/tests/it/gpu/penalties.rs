//! Penalties on the GPU: the bits of the CPU, for ragged histories with repeats and with ids that there are not.

use core::ops::Range;

use llm_sampling::gpu::llm_gpu::{Gpu, GpuTensor, Recorder};
use llm_sampling::gpu::{GpuLogits, GpuSamplingError, history};
use llm_sampling::gpu::{presence_frequency, repetition_penalty};
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::{Context, SamplingError};
use ndarray::{Array2, array};
use proptest::prelude::*;

use super::{LARGE_VOCAB, any_logit, apply, few, gpu, model_logits, on_the_cpu, rows_of, same};

/// Logits; a token tensor as wide as the longest row; what of it counts.
fn cases() -> impl Strategy<Value = (Array2<f32>, Array2<u32>, Vec<Range<usize>>)> {
    (rows_of(any_logit()), 0..40_usize).prop_flat_map(|(logits, length)| {
        let (batch, vocab) = logits.dim();
        // Few ids, so that they repeat; some beyond the vocabulary.
        let most = (vocab as u32 + 2).min(12);
        let token = prop_oneof![20 => 0..most, 1 => Just(u32::MAX)];
        let tokens = prop::collection::vec(token, batch * length);
        let windows = prop::collection::vec((0..=length, 0..=length), batch);
        (Just(logits), tokens, windows).prop_map(move |(logits, tokens, windows)| {
            let tokens = Array2::from_shape_vec((batch, length), tokens).unwrap();
            let windows = windows.iter().map(|&(a, b)| a.min(b)..a.max(b)).collect();
            (logits, tokens, windows)
        })
    })
}

fn penalties() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.5..2.0_f64,
        1 => Just(1.0),
        2 => (1_u64..0x7ff0_0000_0000_0000).prop_map(f64::from_bits),
        2 => (-45.0..45.0_f64).prop_map(|x| 10_f64.powf(x)),
    ]
}

/// Numbers of any size and sign; as sums of counts, below the smallest `f64` there is nothing to compare.
fn shifts() -> impl Strategy<Value = f64> {
    let size = prop_oneof![4 => 0.0..2.0_f64, 1 => Just(0.0), 2 => (-250.0..308.2_f64).prop_map(|x| 10_f64.powf(x))];
    (size, any::<bool>()).prop_map(|(x, negative)| if negative { -x } else { x })
}

fn counted(
    gpu: &Gpu,
    recorder: &mut Recorder,
    logits: &GpuLogits,
    tokens: &Array2<u32>,
    windows: &[Range<usize>],
) -> Result<GpuTensor<u32>, GpuSamplingError> {
    let tokens = gpu.upload(tokens).unwrap();
    history::count(recorder, &tokens, windows, logits.vocab())
}

/// The window of each row as the CPU gets it.
fn windows_of<'a>(tokens: &'a Array2<u32>, windows: &[Range<usize>]) -> Vec<Context<'a>> {
    let of = |(row, window): (usize, &Range<usize>)| {
        let all = tokens.as_slice().unwrap();
        let start = row * tokens.ncols();
        Context::new(&all[start + window.start..start + window.end], &[])
    };
    windows.iter().enumerate().map(of).collect()
}

#[test]
fn the_repetition_penalty_equals_the_cpu_bit_for_bit() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |((logits, tokens, windows) in cases(), penalty in penalties())| {
        let got = apply(&gpu, &logits, |r, x| {
            let counts = counted(&gpu, r, x, &tokens, &windows)?;
            repetition_penalty::apply_inplace(r, x, &counts, penalty)
        });
        let on_cpu = RepetitionPenalty::new(penalty, PenaltyWindow::All).unwrap();
        same(&got, &on_the_cpu(&logits, &windows_of(&tokens, &windows), &on_cpu))?;
    });
}

#[test]
fn presence_and_frequency_equal_the_cpu_bit_for_bit() {
    let Some(gpu) = gpu() else { return };
    let close = (Just(0.5), Just(-0.25));
    let settings = prop_oneof![3 => (shifts(), shifts()).boxed(), 1 => close.boxed()];
    proptest!(few(128), |((logits, tokens, windows) in cases(), (presence, frequency) in settings)| {
        let got = apply(&gpu, &logits, |r, x| {
            let counts = counted(&gpu, r, x, &tokens, &windows)?;
            presence_frequency::apply_inplace(r, x, &counts, presence, frequency)
        });
        let on_cpu = PresenceFrequency::new(presence, frequency, PenaltyWindow::All).unwrap();
        same(&got, &on_the_cpu(&logits, &windows_of(&tokens, &windows), &on_cpu))?;
    });
}

/// A penalty that overflows leaves infinite logits alone, and makes others infinite.
#[test]
fn overflowing_penalties_leave_infinite_logits_alone() {
    let Some(gpu) = gpu() else { return };
    let inf = f32::INFINITY;
    let logits = array![[-inf, inf, 1.0, 2.0, f32::MAX, -inf, inf]];
    let tokens = array![[0_u32, 0, 1, 1, 2, 2, 4, 4, 5]];
    let window = 0..9;
    let windows = core::slice::from_ref(&window);
    for (presence, frequency, made) in [
        (0.0, f64::MAX, -inf),
        (0.0, -f64::MAX, inf),
        (f64::MAX, f64::MAX, -inf),
        (-f64::MAX, -f64::MAX, inf),
        (-f64::MAX, f64::MAX, -inf), // 2 frequency is infinite before the presence comes to it
    ] {
        let got = apply(&gpu, &logits, |r, x| {
            let counts = counted(&gpu, r, x, &tokens, windows)?;
            presence_frequency::apply_inplace(r, x, &counts, presence, frequency)
        });
        let on_cpu = PresenceFrequency::new(presence, frequency, PenaltyWindow::All).unwrap();
        let cpu = on_the_cpu(&logits, &windows_of(&tokens, windows), &on_cpu);
        for (after, refused) in [&got, &cpu] {
            assert_eq!(refused, &Ok(()));
            assert_eq!(after, array![[-inf, inf, made, 2.0, made, -inf, inf]]);
        }
    }
}

#[test]
fn a_large_vocabulary_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let logits = model_logits(2, LARGE_VOCAB, 9);
    let tokens = Array2::from_shape_fn((2, 3000), |(row, i)| (i * i * 7 + row) as u32 % 160_000);
    let windows = [0..3000, 100..2500];
    let got = apply(&gpu, &logits, |r, x| {
        let counts = counted(&gpu, r, x, &tokens, &windows)?;
        repetition_penalty::apply_inplace(r, x, &counts, 1.3)?;
        presence_frequency::apply_inplace(r, x, &counts, 0.7, 0.3)
    });
    let contexts = windows_of(&tokens, &windows);
    let repetition = RepetitionPenalty::new(1.3, PenaltyWindow::All).unwrap();
    let (after, _) = on_the_cpu(&logits, &contexts, &repetition);
    let presence = PresenceFrequency::new(0.7, 0.3, PenaltyWindow::All).unwrap();
    same(&got, &on_the_cpu(&after, &contexts, &presence)).unwrap();
}

/// A NaN is refused only where its token occurred.
#[test]
fn nan_is_refused_where_it_is_used() {
    let Some(gpu) = gpu() else { return };
    let logits = array![[f32::NAN, 1.0, f32::NAN], [f32::NAN, 1.0, 2.0]];
    let tokens = array![[2_u32, 1], [1, 1]];
    let (after, refused) = apply(&gpu, &logits, |r, x| {
        let counts = counted(&gpu, r, x, &tokens, &[0..2, 0..2])?;
        repetition_penalty::apply_inplace(r, x, &counts, 2.0)
    });
    let want = SamplingError::NanLogits { row: 0, token: 2 };
    assert_eq!(refused, Err(want.into()));
    assert_eq!([after[[0, 1]], after[[1, 1]]], [1.0, 0.5]);
}
