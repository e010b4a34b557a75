//! What the recording functions refuse: nothing is recorded, nothing panics.

use llm_sampling::gpu::llm_gpu::{Gpu, GpuError, GpuOptions, Recorder};
use llm_sampling::gpu::mask::BitMeaning;
use llm_sampling::gpu::{GpuLogits, GpuSamplingError, MAX_VOCAB};
use llm_sampling::gpu::{
    categorical, draws, exponential_race, greedy, gumbel_max, log_normalization,
};
use llm_sampling::gpu::{history, mask, presence_frequency, repetition_penalty, temperature};
use llm_sampling::gpu::{min_p, top_k, top_p};
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use llm_sampling::{RowRandom, SamplingError};

use super::gpu;

/// Logits of a shape, all 0.
fn zeros(recorder: &mut Recorder, shape: [usize; 2]) -> GpuLogits {
    let x = recorder.gpu().zeros::<f32>(&shape).unwrap();
    GpuLogits::new(recorder, &x).unwrap()
}

#[test]
fn logits_must_have_rows_of_tokens() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let mut refused =
        |shape: &[usize]| GpuLogits::new(&mut r, &gpu.zeros(shape).unwrap()).unwrap_err();
    let (name, expected) = ("logits", 2);
    for shape in [vec![3], vec![1, 2, 3]] {
        let want = GpuSamplingError::Rank {
            name,
            expected,
            got: shape.clone(),
        };
        assert_eq!(refused(&shape), want);
    }
    assert_eq!(refused(&[2, 0]), SamplingError::Vocab(0).into());
    let (limit, got) = (MAX_VOCAB, MAX_VOCAB + 1);
    assert_eq!(refused(&[1, got]), GpuSamplingError::Vocab { limit, got });
    assert_eq!(refused(&[0, got]), GpuSamplingError::Vocab { limit, got });
}

#[test]
fn logits_of_another_device_are_refused() {
    let Some(gpu) = gpu() else { return };
    let Ok(other) = Gpu::new_blocking(&GpuOptions::default()) else {
        return;
    };
    let x = other.zeros::<f32>(&[1, 2]).unwrap();
    let error = GpuLogits::new(&mut gpu.recorder(), &x).unwrap_err();
    let want = GpuError::OtherDevice {
        operation: "logits",
        binding: 1,
    };
    assert_eq!(error, want.into());
}

#[test]
fn settings_must_be_in_range() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let logits = zeros(&mut r, [1, 4]);
    let counts = gpu.zeros::<u32>(&[1, 4]).unwrap();
    for bad in [0.0, -1.0, f64::INFINITY] {
        let error = temperature::apply_inplace(&mut r, &logits, bad).unwrap_err();
        assert_eq!(error, SamplingError::Temperature(bad).into());
        let error = repetition_penalty::apply_inplace(&mut r, &logits, &counts, bad).unwrap_err();
        assert_eq!(error, SamplingError::RepetitionPenalty(bad).into());
    }
    let inf = f64::INFINITY;
    let mut refused =
        |p, f| presence_frequency::apply_inplace(&mut r, &logits, &counts, p, f).unwrap_err();
    assert_eq!(
        refused(inf, 0.0),
        SamplingError::PresencePenalty(inf).into()
    );
    assert_eq!(
        refused(0.0, -inf),
        SamplingError::FrequencyPenalty(-inf).into()
    );
}

#[test]
fn filters_must_keep_something() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let logits = zeros(&mut r, [1, 4]);
    let ties = Ties::Kept;
    let error = top_k::apply_inplace(&mut r, &logits, 0, ties, 1).unwrap_err();
    assert_eq!(error, SamplingError::TopK(0).into());
    let sum_from = SumFrom::Smallest;
    for bad in [0.0, -0.5, 1.1] {
        let error = top_p::apply_inplace(&mut r, &logits, bad, sum_from, 1).unwrap_err();
        assert_eq!(error, SamplingError::TopP(bad).into());
    }
    for bad in [-0.5, 1.1] {
        let error = min_p::apply_inplace(&mut r, &logits, bad, 1).unwrap_err();
        assert_eq!(error, SamplingError::MinP(bad).into());
    }
    for error in [
        top_k::apply_inplace(&mut r, &logits, 1, ties, 0),
        top_p::apply_inplace(&mut r, &logits, 0.5, sum_from, 0),
        min_p::apply_inplace(&mut r, &logits, 0.5, 0),
    ] {
        let want = SamplingError::MinTokensToKeep(0);
        assert_eq!(error.unwrap_err(), want.into());
    }
}

#[test]
fn draws_need_a_number_for_each_row() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let logits = zeros(&mut r, [2, 4]);
    let (expected, got) = (2, 1);
    let error = categorical::draw(&mut r, &logits, &[0.5]).unwrap_err();
    let want = SamplingError::UniformsLen { expected, got };
    assert_eq!(error, want.into());
    for bad in [1.0, -0.1, f64::INFINITY] {
        let error = categorical::draw(&mut r, &logits, &[0.5, bad]).unwrap_err();
        assert_eq!(error, SamplingError::Uniform(bad).into());
    }
    let random = [RowRandom::new(0, 0, 0)];
    let name = "randoms";
    let want = GpuSamplingError::PerRow {
        name,
        expected,
        got,
    };
    let error = gumbel_max::draw(&mut r, &logits, &random).unwrap_err();
    assert_eq!(error, want);
    let error = exponential_race::draw(&mut r, &logits, &random).unwrap_err();
    assert_eq!(error, want);
    let other = zeros(&mut r, [1, 4]);
    let drawn = greedy::argmax(&mut r, &other).unwrap();
    let error = draws::log_probabilities(&mut r, &logits, &drawn).unwrap_err();
    let (name, expected, got) = ("draws", vec![2], vec![1]);
    let want = GpuSamplingError::Shape {
        name,
        expected,
        got,
    };
    assert_eq!(error, want);
}

#[test]
fn counts_and_masks_must_fit_the_logits() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let logits = zeros(&mut r, [2, 40]);
    for got in [vec![2, 39], vec![1, 40], vec![80]] {
        let counts = gpu.zeros::<u32>(&got).unwrap();
        let (name, expected) = ("counts", vec![2, 40]);
        let want = GpuSamplingError::Shape {
            name,
            expected,
            got,
        };
        let error = repetition_penalty::apply_inplace(&mut r, &logits, &counts, 2.0).unwrap_err();
        assert_eq!(error, want);
        let error = presence_frequency::apply_inplace(&mut r, &logits, &counts, 1.0, 1.0);
        assert_eq!(error.unwrap_err(), want);
    }
    for got in [vec![2, 1], vec![3, 2], vec![0, 2]] {
        let bits = gpu.zeros::<u32>(&got).unwrap();
        let (name, expected) = ("mask", vec![2, 2]);
        let want = GpuSamplingError::Shape {
            name,
            expected,
            got,
        };
        let error = mask::apply_inplace(&mut r, &logits, &bits, BitMeaning::OneAllows);
        assert_eq!(error.unwrap_err(), want);
    }
    let flat = gpu.zeros::<u32>(&[2]).unwrap();
    let error = mask::apply_inplace(&mut r, &logits, &flat, BitMeaning::OneAllows).unwrap_err();
    let (name, expected, got) = ("mask", 2, vec![2]);
    assert_eq!(
        error,
        GpuSamplingError::Rank {
            name,
            expected,
            got
        }
    );
}

#[test]
fn windows_must_lie_in_the_history() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let tokens = gpu.zeros::<u32>(&[2, 3]).unwrap();
    let (row, length) = (1, 3);
    for (start, end) in [(0, 4), (2, 1), (usize::MAX, usize::MAX)] {
        let windows = [0..3, start..end];
        let want = GpuSamplingError::Window {
            row,
            length,
            start,
            end,
        };
        let error = history::count(&mut r, &tokens, &windows, 5).unwrap_err();
        assert_eq!(error, want);
    }
    let (name, expected, got) = ("windows", 2, 1);
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "one window, as a list of windows"
    )]
    let error = history::count(&mut r, &tokens, &[0..3], 5).unwrap_err();
    assert_eq!(
        error,
        GpuSamplingError::PerRow {
            name,
            expected,
            got
        }
    );
    let windows = [0..3, 0..3];
    let error = history::count(&mut r, &tokens, &windows, 0).unwrap_err();
    assert_eq!(error, SamplingError::Vocab(0).into());
    let (limit, got) = (MAX_VOCAB, MAX_VOCAB + 1);
    let error = history::count(&mut r, &tokens, &windows, got).unwrap_err();
    assert_eq!(error, GpuSamplingError::Vocab { limit, got });
    let flat = gpu.zeros::<u32>(&[6]).unwrap();
    let (name, expected, got) = ("tokens", 2, vec![6]);
    let error = history::count(&mut r, &flat, &windows, 5).unwrap_err();
    assert_eq!(
        error,
        GpuSamplingError::Rank {
            name,
            expected,
            got
        }
    );
}

/// Axes beside a zero may have any length: nothing is looped over for them.
#[test]
fn empty_batches_and_histories_are_fine() {
    let Some(gpu) = gpu() else { return };
    let mut r = gpu.recorder();
    let logits = zeros(&mut r, [0, 7]);
    temperature::apply_inplace(&mut r, &logits, 0.5).unwrap();
    let tokens = gpu.zeros::<u32>(&[0, usize::MAX]).unwrap();
    let counts = history::count(&mut r, &tokens, &[], 7).unwrap();
    repetition_penalty::apply_inplace(&mut r, &logits, &counts, 2.0).unwrap();
    log_normalization::apply_inplace(&mut r, &logits).unwrap();
    top_k::apply_inplace(&mut r, &logits, 3, Ties::Exact, 2).unwrap();
    top_p::apply_inplace(&mut r, &logits, 0.5, SumFrom::Largest, 2).unwrap();
    min_p::apply_inplace(&mut r, &logits, 0.5, 2).unwrap();
    let drawn = [
        greedy::argmax(&mut r, &logits).unwrap(),
        categorical::draw(&mut r, &logits, &[]).unwrap(),
        gumbel_max::draw(&mut r, &logits, &[]).unwrap(),
    ];
    let log_p = draws::log_probabilities(&mut r, &logits, &drawn[0]).unwrap();
    assert_eq!(log_p.shape(), [0]);
    let tokens = gpu.zeros::<u32>(&[2, 0]).unwrap();
    let counts = history::count(&mut r, &tokens, &[0..0, 0..0], 7).unwrap();
    r.submit().unwrap();
    logits.check_blocking().unwrap();
    for drawn in drawn {
        assert_eq!(drawn.download_blocking(), Ok(vec![]));
    }
    assert!(counts.download_blocking().unwrap().iter().all(|n| *n == 0));
}
