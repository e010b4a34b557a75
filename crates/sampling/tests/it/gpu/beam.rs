//! Candidates of beams on the GPU: those of a whole sort in f64, and those that the CPU's beam search takes.

use std::cmp::Ordering;

use llm_sampling::gpu::beam::{self, BeamCandidate, MAX_CANDIDATES};
use llm_sampling::gpu::llm_gpu::Gpu;
use llm_sampling::gpu::{GpuLogits, GpuSamplingError, log_normalization};
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::{Candidates, Context, SamplingError};
use ndarray::{Array2, array};
use proptest::prelude::*;

use super::{LARGE_VOCAB, MASKED, few, gpu, logit, model_logits};

fn on_device(
    gpu: &Gpu,
    log_probs: &Array2<f32>,
    sums: &[f64],
    n_beams: usize,
    n: usize,
) -> Result<Vec<Vec<BeamCandidate>>, GpuSamplingError> {
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &gpu.upload(log_probs)?)?;
    let best = beam::candidates(&mut recorder, &rows, sums, n_beams, n)?;
    recorder.submit()?;
    best.download_blocking()
}

/// All candidates, sorted, as the documentation says.
fn sorted(
    log_probs: &Array2<f32>,
    sums: &[f64],
    n_beams: usize,
    n: usize,
) -> Vec<Vec<BeamCandidate>> {
    let prompts = log_probs.nrows() / n_beams;
    let list = |prompt: usize| {
        let mut all = Vec::new();
        for beam in 0..n_beams {
            let row = prompt * n_beams + beam;
            for (token, x) in log_probs.row(row).iter().enumerate() {
                let log_probability = f64::from(*x);
                let sum = sums[row] + log_probability;
                if sum > f64::NEG_INFINITY {
                    let token = token as u32;
                    all.push(BeamCandidate {
                        beam,
                        token,
                        log_probability,
                        sum,
                    });
                }
            }
        }
        // Stable: equals stay in the order of beams and tokens.
        all.sort_by(|a, b| b.sum.partial_cmp(&a.sum).unwrap_or(Ordering::Equal));
        all.truncate(n);
        all
    };
    (0..prompts).map(list).collect()
}

fn beam_sum() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => Just(f64::NEG_INFINITY),
        3 => (-3..1_i32).prop_map(f64::from),
        1 => Just(-0.0),
        1 => Just(f64::MIN),
        6 => -300.0..0.0_f64,
        1 => any::<f64>().prop_filter("a number", |x| !x.is_nan() && *x < f64::INFINITY),
        1 => Just(-f64::from_bits(7)), // 0 and tiny log-probabilities leave it tiny
    ]
}

fn cases() -> impl Strategy<Value = (Array2<f32>, Vec<f64>, usize)> {
    (
        0..3_usize,
        1..5_usize,
        prop_oneof![1..5_usize, 100..400_usize],
    )
        .prop_flat_map(|(prompts, n_beams, vocab)| {
            let rows = prompts * n_beams;
            let log_probs = prop::collection::vec(logit(), rows * vocab);
            let sums = prop::collection::vec(beam_sum(), rows);
            (log_probs, sums, Just(n_beams)).prop_map(move |(x, sums, n_beams)| {
                (
                    Array2::from_shape_vec((rows, vocab), x).unwrap(),
                    sums,
                    n_beams,
                )
            })
        })
}

#[test]
fn equals_a_whole_sort_in_f64() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |((log_probs, sums, n_beams) in cases(), n in prop_oneof![1..12_usize, 1..MAX_CANDIDATES])| {
        let got = on_device(&gpu, &log_probs, &sums, n_beams, n).unwrap();
        prop_assert_eq!(got, sorted(&log_probs, &sums, n_beams, n));
    });
}

/// Log-probabilities so small beside the sums that many different ones give the same sum: then the place decides.
#[test]
fn equal_sums_go_by_beam_and_token() {
    let Some(gpu) = gpu() else { return };
    let log_probs = Array2::from_shape_fn((4, 3000), |(beam, token)| {
        -1e-20 * ((beam * 7 + token * 11) % 13) as f32
    });
    let sums = [-5.0; 4];
    let got = on_device(&gpu, &log_probs, &sums, 4, 700).unwrap();
    assert_eq!(got, sorted(&log_probs, &sums, 4, 700));
    assert!(got[0].iter().all(|c| c.beam == 0));
}

#[test]
fn a_large_vocabulary_equals_a_whole_sort() {
    let Some(gpu) = gpu() else { return };
    let log_probs = model_logits(4, LARGE_VOCAB, 3);
    let sums = [-3.25, -3.5, f64::NEG_INFINITY, -1.0];
    let got = on_device(&gpu, &log_probs, &sums, 2, 6).unwrap();
    assert_eq!(got, sorted(&log_probs, &sums, 2, 6));
}

/// Step by step, the search of the CPU takes the candidates that the device found from the same logits.
#[test]
fn the_beam_search_of_the_cpu_takes_these() {
    let Some(gpu) = gpu() else { return };
    let (n_beams, vocab) = (3, 500);
    let config = BeamConfig::textbook(n_beams, 6);
    let none = |_: &mut Candidates<f32>, _: &Context<'_>| Ok(());
    let mut search = BeamSearch::new(&[vec![1_u32], vec![2]], &config).unwrap();
    let masked = f64::NEG_INFINITY;
    let mut sums = vec![0.0, masked, masked, 0.0, masked, masked]; // one beam of each prompt
    for step in 0..4 {
        let logits = model_logits(2 * n_beams, vocab, 100 + step);
        let mut recorder = gpu.recorder();
        let rows = GpuLogits::new(&mut recorder, &gpu.upload(&logits).unwrap()).unwrap();
        log_normalization::apply_inplace(&mut recorder, &rows).unwrap();
        let best = beam::candidates(
            &mut recorder,
            &rows,
            &sums,
            n_beams,
            config.n_candidates(n_beams),
        )
        .unwrap();
        recorder.submit().unwrap();
        let best = best.download_blocking().unwrap();
        search.step(&logits, &none).unwrap();
        let (mut tokens, mut parents) = (Vec::new(), Vec::new());
        for (prompt, list) in best.iter().enumerate() {
            assert_eq!(list.len(), 2 * n_beams);
            for (beam, candidate) in list[..n_beams].iter().enumerate() {
                tokens.push(candidate.token);
                parents.push(prompt * n_beams + candidate.beam);
                sums[prompt * n_beams + beam] = candidate.sum;
            }
        }
        assert_eq!(search.tokens(), tokens);
        assert_eq!(search.parents(), parents);
    }
}

/// The words on the device, too, say that a prompt whose rows were refused has no candidates, and the others have theirs.
#[test]
fn refused_prompts_have_no_candidates() {
    let Some(gpu) = gpu() else { return };
    let x = array![
        [-1.0_f32, -2.0],
        [f32::NAN, -2.0],
        [-1.0, -2.0],
        [-3.0, -4.0]
    ];
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &gpu.upload(&x).unwrap()).unwrap();
    let best = beam::candidates(&mut recorder, &rows, &[0.0; 4], 2, 3).unwrap();
    recorder.submit().unwrap();
    let words = best.words().download_blocking().unwrap();
    let tokens: Vec<u32> = (0..6).map(|i| words[[i / 3, i % 3, 0]]).collect();
    assert_eq!(tokens, [u32::MAX, u32::MAX, u32::MAX, 0, 1, 0]);
    let want = SamplingError::NanLogits { row: 1, token: 0 };
    assert_eq!(best.download_blocking(), Err(want.into()));
}

#[test]
fn wrong_rows_and_numbers_are_refused() {
    let Some(gpu) = gpu() else { return };
    let x = array![[-1.0_f32, -2.0], [-1.0, -2.0], [-1.0, -2.0]];
    let sums = [0.0; 3];
    let refused = |sums: &[f64], n_beams, n| on_device(&gpu, &x, sums, n_beams, n).unwrap_err();
    let batch = 3;
    for n_beams in [0, 2] {
        let want = SamplingError::BeamRows { batch, n_beams };
        assert_eq!(refused(&sums, n_beams, 4), want.into());
    }
    let (name, expected, got) = ("sums", 3, 2);
    let want = GpuSamplingError::PerRow {
        name,
        expected,
        got,
    };
    assert_eq!(refused(&sums[..2], 3, 4), want);
    for got in [0, MAX_CANDIDATES + 1] {
        let limit = MAX_CANDIDATES;
        let want = GpuSamplingError::BeamCandidates { limit, got };
        assert_eq!(refused(&sums, 3, got), want);
    }
    let (row, got) = (1, f64::INFINITY);
    assert_eq!(
        refused(&[0.0, got, 0.0], 3, 4),
        GpuSamplingError::BeamSum { row, got }
    );
    let error = refused(&[0.0, 0.0, f64::NAN], 3, 4);
    assert!(matches!(error, GpuSamplingError::BeamSum { row: 2, .. }));
    for (bad, want) in [
        (f32::NAN, SamplingError::NanLogits { row: 1, token: 1 }),
        (
            f32::INFINITY,
            SamplingError::InfiniteLogits { row: 1, token: 1 },
        ),
    ] {
        let mut x = x.clone();
        x[[1, 1]] = bad;
        let error = on_device(&gpu, &x, &sums, 3, 4).unwrap_err();
        assert_eq!(error, want.into());
    }
    // A beam that cannot go on is no error; neither is a prompt of such.
    let masked = Array2::from_elem((3, 2), MASKED);
    assert_eq!(on_device(&gpu, &masked, &sums, 3, 4), Ok(vec![vec![]]));
    let none = Array2::from_elem((0, 2), 0.0);
    assert_eq!(on_device(&gpu, &none, &[], 3, 4), Ok(vec![]));
}
