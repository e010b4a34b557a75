//! Draws on the GPU: the tokens of the CPU, unless two choices lie within the stated bound of each other.

use llm_numerics::philox::Philox4x32;
use llm_sampling::gpu::llm_gpu::{Gpu, Recorder};
use llm_sampling::gpu::{GpuDraws, GpuLogits, GpuSamplingError};
use llm_sampling::gpu::{categorical, draws, exponential_race, greedy, gumbel_max};
use llm_sampling::{RowRandom, SamplingError, reference};
use ndarray::{Array1, Array2, ArrayView1, array};
use proptest::prelude::*;

use super::{LARGE_VOCAB, MASKED, any_logit, few, gpu, logit, model_logits, rows_of};

fn draw(
    gpu: &Gpu,
    logits: &Array2<f32>,
    record: impl FnOnce(&mut Recorder, &GpuLogits) -> Result<GpuDraws, GpuSamplingError>,
) -> (Result<Vec<u32>, GpuSamplingError>, Array1<f32>) {
    let x = gpu.upload(logits).unwrap();
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &x).unwrap();
    let drawn = record(&mut recorder, &rows).unwrap();
    let log_probabilities = draws::log_probabilities(&mut recorder, &rows, &drawn).unwrap();
    recorder.submit().unwrap();
    // A draw changes nothing.
    let after = x.download_blocking().unwrap();
    assert!(
        after
            .iter()
            .zip(logits)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    let log_probabilities = log_probabilities.download_blocking().unwrap();
    (
        drawn.download_blocking(),
        log_probabilities.into_dimensionality().unwrap(),
    )
}

/// The first error of the rows, by whatever draws one.
fn first_error(
    logits: &Array2<f32>,
    draw: impl Fn(usize, ArrayView1<'_, f32>) -> Result<u32, SamplingError>,
) -> Result<Vec<u32>, GpuSamplingError> {
    let rows = logits.rows().into_iter().enumerate();
    let drawn = rows.map(|(i, row)| draw(i, row).map_err(|e| super::in_row(e, i)));
    Ok(drawn.collect::<Result<_, _>>()?)
}

fn randoms(batch: usize, key: u64) -> Vec<RowRandom> {
    let late = (1 << 47) - 1; // the last step that there is
    let of = |row: usize| RowRandom::new(key, u64::MAX - row as u64, [0, 1 << 35, late][row % 3]);
    (0..batch).map(of).collect()
}

fn in_f64(row: ArrayView1<'_, f32>) -> Vec<f64> {
    row.iter().map(|x| f64::from(*x)).collect()
}

/// In nats: half a unit in the last place, the error of the logarithm, and what a rounded weight of each token can do to the sum.
fn check_log_probabilities(
    logits: &Array2<f32>,
    tokens: &[u32],
    got: &Array1<f32>,
) -> Result<(), TestCaseError> {
    for ((row, &token), got) in logits.rows().into_iter().zip(tokens).zip(got) {
        let want = reference::categorical::log_softmax(&in_f64(row))[token as usize];
        let rounded = row.len() as f64 * 2_f64.powi(-44);
        let allowed = want.abs() * 2_f64.powi(-24) + 2_f64.powi(-28) + rounded;
        prop_assert!(
            (f64::from(*got) - want).abs() <= allowed,
            "{} {}",
            got,
            want
        );
    }
    Ok(())
}

#[test]
fn greedy_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(logits in rows_of(any_logit()))| {
        let (got, log_probabilities) = draw(&gpu, &logits, greedy::argmax);
        let want = first_error(&logits, |_, row| llm_sampling::greedy::argmax(&row));
        prop_assert_eq!(&got, &want);
        if let Ok(tokens) = got {
            check_log_probabilities(&logits, &tokens, &log_probabilities)?;
        }
    });
    let mut logits = model_logits(2, LARGE_VOCAB, 51);
    logits[[1, 151_000]] = 40.0;
    logits[[1, 90_000]] = 40.0;
    let (got, _) = draw(&gpu, &logits, greedy::argmax);
    let want = first_error(&logits, |_, row| llm_sampling::greedy::argmax(&row));
    assert_eq!(got, want);
    assert_eq!(got.unwrap()[1], 90_000);
}

/// Each weight of the tail, 1.49 units, loses half a unit: so little does the bound leave.
#[test]
fn a_flat_deep_tail_is_within_the_bound() {
    let Some(gpu) = gpu() else { return };
    let mut logits = Array2::from_elem((1, LARGE_VOCAB), -29.406_f32);
    logits[[0, 0]] = 0.0;
    let (got, log_probabilities) = draw(&gpu, &logits, greedy::argmax);
    assert_eq!(got, Ok(vec![0]));
    check_log_probabilities(&logits, &[0], &log_probabilities).unwrap();
    let want = reference::categorical::log_softmax(&in_f64(logits.row(0)))[0];
    let lost = f64::from(log_probabilities[0]) - want;
    assert!(lost > 2_f64.powi(-27), "{lost:e}"); // the term of the vocabulary is there for something
}

/// Half the distance of two sums in which the device may choose the other.
const NOISE_BOUND: f64 = 1.0 / (1 << 26) as f64;

/// The two largest sums of a logit and noise in f64, with the uniform numbers that the CPU documents.
fn two_best(row: ArrayView1<'_, f32>, random: RowRandom) -> ((f64, u32), (f64, u32)) {
    let (mut best, mut second) = ((f64::NEG_INFINITY, u32::MAX), (f64::NEG_INFINITY, u32::MAX));
    for (token, &x) in row.iter().enumerate() {
        let u = llm_sampling::gumbel_max::uniform(random, token as u32);
        let sum = f64::from(x) - (-u.ln()).ln();
        if sum > best.0 {
            (second, best) = (best, (sum, token as u32));
        } else if sum > second.0 {
            second = (sum, token as u32);
        }
    }
    (best, second)
}

fn check_gumbel(
    gpu: &Gpu,
    logits: &Array2<f32>,
    randoms: &[RowRandom],
) -> Result<(), TestCaseError> {
    let (got, log_probabilities) = draw(gpu, logits, |r, x| gumbel_max::draw(r, x, randoms));
    let want = first_error(logits, |i, row| {
        Ok(llm_sampling::gumbel_max::draw(&row, randoms[i])?.token)
    });
    let (Ok(tokens), Ok(want)) = (&got, &want) else {
        prop_assert_eq!(got, want);
        return Ok(());
    };
    check_log_probabilities(logits, tokens, &log_probabilities)?;
    for (row, ((got, want), lane)) in tokens.iter().zip(want).zip(logits.rows()).enumerate() {
        if got != want {
            let (best, second) = two_best(lane, randoms[row]);
            prop_assert!(
                best.0 - second.0 <= 2.0 * NOISE_BOUND,
                "{:?} {:?}",
                best,
                second
            );
            prop_assert_eq!(*got, second.1);
        }
    }
    Ok(())
}

#[test]
fn gumbel_max_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(96), |(logits in rows_of(any_logit()), key in any::<u64>())| {
        check_gumbel(&gpu, &logits, &randoms(logits.nrows(), key))?;
    });
    let logits = model_logits(3, LARGE_VOCAB, 61);
    check_gumbel(&gpu, &logits, &randoms(3, 7)).unwrap();
}

/// Two tokens so nearly equal that one step of f32 decides: that is where the noise of the device is compared with that of f64.
/// The noise of the extreme tokens of a large vocabulary is as large, and as small, as one in 150,000 is.
#[test]
fn noise_is_right_to_the_last_digits() {
    let Some(gpu) = gpu() else { return };
    let random = RowRandom::new(3, 4, 5);
    let noise = |token: u32| -(-llm_sampling::gumbel_max::uniform(random, token).ln()).ln();
    let mut order: Vec<u32> = (0..LARGE_VOCAB as u32).collect();
    order.sort_by(|&a, &b| noise(a).total_cmp(&noise(b)));
    let n = order.len();
    for place in [0, 1, 2, 10, n / 4, n / 2, n - 9, n - 4, n - 3, n - 2] {
        // Of the smaller noise, the logit that makes up for it, and its neighbors.
        let (a, b) = (order[place], order[place + 1]);
        let vocab = a.max(b) as usize + 1;
        let even = (noise(b) - noise(a)) as f32;
        for up in [false, true] {
            let sum = |x: f32| f64::from(x) + noise(a) - noise(b);
            let mut x = even;
            while sum(x).abs() <= 2.0 * NOISE_BOUND {
                x = if up { x.next_up() } else { x.next_down() };
            }
            let mut logits = Array2::from_elem((1, vocab), MASKED);
            logits[[0, a as usize]] = x;
            logits[[0, b as usize]] = 0.0;
            let want = if sum(x) > 0.0 { a } else { b };
            let (got, _) = draw(&gpu, &logits, |r, x| gumbel_max::draw(r, x, &[random]));
            assert_eq!(got, Ok(vec![want]), "{a} {b} {x} {:e}", sum(x));
        }
    }
    // Many pairs of usual noise.
    let batch = 600;
    let randoms: Vec<RowRandom> = (0..batch).map(|i| RowRandom::new(9, i as u64, 0)).collect();
    let mut logits = Array2::zeros((batch, 2));
    let mut want = Vec::new();
    for (row, random) in randoms.iter().enumerate() {
        let noise = |token| -(-llm_sampling::gumbel_max::uniform(*random, token).ln()).ln();
        let mut x = (noise(0) - noise(1)) as f32;
        let sum = |x: f32| f64::from(x) + noise(1) - noise(0);
        while sum(x).abs() <= 2.0 * NOISE_BOUND {
            x = if row % 2 == 0 {
                x.next_up()
            } else {
                x.next_down()
            };
        }
        logits[[row, 1]] = x;
        want.push(u32::from(sum(x) > 0.0));
    }
    let (got, _) = draw(&gpu, &logits, |r, x| gumbel_max::draw(r, x, &randoms));
    assert_eq!(got, Ok(want));
}

/// The CPU's probabilities are of f32: its quotients are right to some units in the last place.
#[test]
fn the_exponential_race_equals_the_cpu() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(64), |(logits in rows_of(any_logit()), key in any::<u64>())| {
        let randoms = randoms(logits.nrows(), key);
        let (got, _) = draw(&gpu, &logits, |r, x| exponential_race::draw(r, x, &randoms));
        let want = first_error(&logits, |i, row| Ok(llm_sampling::exponential_race::draw(&row, randoms[i])?.token));
        let (Ok(got), Ok(want)) = (&got, &want) else {
            prop_assert_eq!(got, want);
            return Ok(());
        };
        for (row, (got, want)) in got.iter().zip(want).enumerate() {
            if got != want {
                let (best, second) = two_best(logits.row(row), randoms[row]);
                prop_assert!(best.0 - second.0 <= 1e-6);
                prop_assert_eq!(*got, second.1);
            }
        }
    });
}

/// The token of the reference; or, only if an edge is near, the neighbor behind or before it.
fn check_categorical(
    gpu: &Gpu,
    logits: &Array2<f32>,
    uniforms: &[f64],
) -> Result<(), TestCaseError> {
    let (got, log_probabilities) = draw(gpu, logits, |r, x| categorical::draw(r, x, uniforms));
    let cpu = first_error(logits, |i, row| {
        Ok(llm_sampling::categorical::draw(&row, uniforms[i])?.token)
    });
    let (Ok(tokens), Ok(cpu)) = (&got, &cpu) else {
        prop_assert_eq!(got, cpu);
        return Ok(());
    };
    check_log_probabilities(logits, tokens, &log_probabilities)?;
    let near = 2_f64.powi(-27) + logits.ncols() as f64 * 2_f64.powi(-44);
    for (row, lane) in logits.rows().into_iter().enumerate() {
        let log_p = reference::categorical::log_softmax(&in_f64(lane));
        let (u, token) = (uniforms[row], tokens[row] as usize);
        let before: f64 = log_p[..token].iter().map(|x| x.exp()).sum();
        let up_to = before + log_p[token].exp();
        prop_assert!(lane[token] > MASKED);
        prop_assert!(
            before - near <= u && u <= up_to + near,
            "{} {} {}",
            before,
            u,
            up_to
        );
        if tokens[row] != cpu[row] {
            let edge = (u - before).abs().min((u - up_to).abs());
            prop_assert!(edge <= near + 1e-6, "{} {} {}", before, u, up_to);
        }
    }
    Ok(())
}

fn uniform() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..1.0_f64, 1 => Just(0.0), 1 => Just(1.0 - f64::EPSILON / 2.0)]
}

#[test]
fn the_inverse_cdf_equals_the_reference() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(128), |(logits in rows_of(any_logit()), u in prop::collection::vec(uniform(), 3))| {
        check_categorical(&gpu, &logits, &u[..logits.nrows()])?;
    });
    let logits = model_logits(3, LARGE_VOCAB, 71);
    check_categorical(&gpu, &logits, &[0.0, 0.613, 1.0 - f64::EPSILON / 2.0]).unwrap();
    // Each u to its token, though tokens lie in different groups and runs.
    let flat = Array2::from_elem((5, LARGE_VOCAB), 1.5_f32);
    let tokens = [0, 31, 32, 8192, LARGE_VOCAB as u32 - 1];
    let u = tokens.map(|t| (f64::from(t) + 0.5) / LARGE_VOCAB as f64);
    let (got, _) = draw(&gpu, &flat, |r, x| categorical::draw(r, x, &u));
    assert_eq!(got, Ok(tokens.to_vec()));
}

/// A row's token depends on that row and its numbers, not on those beside it.
#[test]
fn tokens_do_not_depend_on_the_batch() {
    let Some(gpu) = gpu() else { return };
    let logits = model_logits(6, 9000, 81);
    let randoms = randoms(6, 5);
    let uniforms: Vec<f64> = randoms.iter().map(|r| r.uniform(0)).collect();
    let (together, _) = draw(&gpu, &logits, |r, x| gumbel_max::draw(r, x, &randoms));
    let (together_u, _) = draw(&gpu, &logits, |r, x| categorical::draw(r, x, &uniforms));
    let alone = |row: usize| logits.slice(ndarray::s![row..=row, ..]).to_owned();
    for row in 0..6 {
        let (one, _) = draw(&gpu, &alone(row), |r, x| {
            gumbel_max::draw(r, x, &randoms[row..=row])
        });
        assert_eq!(one.unwrap()[0], together.as_ref().unwrap()[row]);
        let (one, _) = draw(&gpu, &alone(row), |r, x| {
            categorical::draw(r, x, &uniforms[row..=row])
        });
        assert_eq!(one.unwrap()[0], together_u.as_ref().unwrap()[row]);
    }
}

/// A row that is refused does not keep the others from their tokens.
#[test]
fn refused_rows_have_no_token() {
    let Some(gpu) = gpu() else { return };
    let logits = array![[1.0_f32, 0.0], [MASKED, MASKED], [0.0, 9.0]];
    let x = gpu.upload(&logits).unwrap();
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &x).unwrap();
    let all = [
        greedy::argmax(&mut recorder, &rows).unwrap(),
        categorical::draw(&mut recorder, &rows, &[0.1; 3]).unwrap(),
        gumbel_max::draw(&mut recorder, &rows, &randoms(3, 1)).unwrap(),
    ];
    let log_p = draws::log_probabilities(&mut recorder, &rows, &all[0]).unwrap();
    recorder.submit().unwrap();
    let log_p = log_p.download_blocking().unwrap();
    assert!(log_p[[1]].is_nan() && log_p[[0]] < 0.0);
    for drawn in all {
        let tokens = drawn.tokens().download_blocking().unwrap();
        assert_eq!(tokens[[1]], u32::MAX);
        assert_eq!(tokens[[2]], 1);
        let want = SamplingError::MaskedRow { row: 1 };
        assert_eq!(drawn.download_blocking(), Err(want.into()));
    }
}

/// Tokens of other logits tell nothing of a row that is refused.
#[test]
fn refused_rows_have_no_log_probability() {
    let Some(gpu) = gpu() else { return };
    let likely = gpu
        .upload(&array![[1.0_f32, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
        .unwrap();
    let refused = gpu
        .upload(&array![
            [1.0_f32, 0.0],
            [0.5, f32::NAN],
            [f32::INFINITY, 0.0],
            [MASKED, MASKED]
        ])
        .unwrap();
    let mut recorder = gpu.recorder();
    let likely = GpuLogits::new(&mut recorder, &likely).unwrap();
    let drawn = greedy::argmax(&mut recorder, &likely).unwrap();
    let rows = GpuLogits::new(&mut recorder, &refused).unwrap();
    let log_p = draws::log_probabilities(&mut recorder, &rows, &drawn).unwrap();
    recorder.submit().unwrap();
    assert_eq!(drawn.download_blocking(), Ok(vec![0; 4]));
    let log_p = log_p.download_blocking().unwrap();
    assert!((log_p[[0]] + 0.313_261_7).abs() < 1e-6); // ln(1 + 1/e)
    assert!(log_p.iter().skip(1).all(|x| x.is_nan()), "{log_p}");
    let want = SamplingError::NanLogits { row: 1, token: 1 };
    assert_eq!(rows.check_blocking(), Err(want.into()));
}

/// The share of each token among many draws is near its probability: a test of the whole, by chi-square with 7 degrees of freedom.
#[test]
fn many_draws_have_the_distribution() {
    let Some(gpu) = gpu() else { return };
    let p = [0.3, 0.25, 0.2, 0.1, 0.08, 0.04, 0.02, 0.01_f64];
    let n = 20_000;
    let logits = Array2::from_shape_fn((n, 8), |(_, i)| p[i].ln() as f32);
    let random: Vec<RowRandom> = (0..n as u64).map(|i| RowRandom::new(11, i, i)).collect();
    let uniforms: Vec<f64> = (0..n as u64)
        .map(|i| Philox4x32::new(5).uniform_f64(i, 0))
        .collect();
    let drawn = [
        draw(&gpu, &logits, |r, x| gumbel_max::draw(r, x, &random))
            .0
            .unwrap(),
        draw(&gpu, &logits, |r, x| categorical::draw(r, x, &uniforms))
            .0
            .unwrap(),
    ];
    for tokens in drawn {
        let mut counts = [0.0; 8];
        tokens.iter().for_each(|&t| counts[t as usize] += 1.0);
        let terms = counts
            .iter()
            .zip(p)
            .map(|(c, p)| (c - n as f64 * p).powi(2) / (n as f64 * p));
        let chi_square: f64 = terms.sum();
        assert!(chi_square < 24.3, "{chi_square}"); // one in a thousand is above
    }
}

#[test]
fn single_tokens_are_drawn() {
    let Some(gpu) = gpu() else { return };
    proptest!(few(24), |(x in logit())| {
        prop_assume!(x > MASKED);
        let logits = array![[MASKED, x, MASKED]];
        let (got, log_p) = draw(&gpu, &logits, |r, l| gumbel_max::draw(r, l, &randoms(1, 3)));
        prop_assert_eq!(got, Ok(vec![1]));
        prop_assert_eq!(log_p[0], 0.0);
    });
}
