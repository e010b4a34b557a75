//! Laws of beam-sample.

use llm_sampling::RowRandom;
use llm_sampling::reference::search::{self as reference, Pick};
use llm_sampling::search::beam::BeamConfig;
use llm_sampling::search::beam_sample::BeamSample;
use ndarray::{Array1, Array2};
use proptest::prelude::*;

use super::beam::{assert_same, scored, settings};
use super::{log_probs, logits_of, random_model, run, unchanged};

proptest! {
    #[test]
    fn the_numbers_are_those_of_seed_stream_and_step_and_lead_to_the_textbooks_draws(
        seed in any::<u64>(),
        (vocab, config) in settings(4),
        streams in prop::array::uniform2(any::<u64>()),
    ) {
        let model = random_model(seed, vocab, 1.5);
        let prompts = [vec![0], vec![1, 2]];
        let search = BeamSample::new(&prompts, &config, seed, &streams).unwrap();
        let found = run(search, &model, &unchanged).unwrap();
        let draws = config.n_candidates(config.n_beams);
        for (i, prompt) in prompts.iter().enumerate() {
            let numbers: Vec<Vec<f64>> = (0..config.max_new_tokens as u64)
                .map(|step| {
                    let random = RowRandom::new(seed, streams[i], step);
                    (0..draws as u16).map(|k| random.uniform(32768 + k)).collect()
                })
                .collect();
            let mut model = log_probs(&model, prompt);
            let want = reference::beams(&mut model, prompt.len(), &config, 1, 0.0, Pick::Drawn(&numbers));
            assert_same(&found[i], &want);
        }
    }

    #[test]
    fn a_prompt_draws_the_same_in_any_company(seed in any::<u64>(), (vocab, config) in settings(4)) {
        let model = random_model(seed, vocab, 1.5);
        let prompts = [vec![0], vec![1, 2], vec![0]];
        let search = |p: &[Vec<u32>], s: &[u64]| BeamSample::new(p, &config, 7, s).unwrap();
        let together = run(search(&prompts, &[4, 9, 4]), &model, &unchanged).unwrap();
        let alone = run(search(&prompts[1..2], &[9]), &model, &unchanged).unwrap();
        prop_assert_eq!(scored(&together[1]), scored(&alone[0]));
        prop_assert_eq!(scored(&together[0]), scored(&together[2]));
    }

    #[test]
    fn given_numbers_replace_the_seed(seed in any::<u64>(), (vocab, config) in settings(3)) {
        let model = random_model(seed, vocab, 1.5);
        let draws = config.n_candidates(config.n_beams);
        let mut search = BeamSample::new(&[[1]], &config, 0, &[0]).unwrap();
        let mut step = 0;
        while !search.is_done() {
            let random = RowRandom::new(seed, 3, step);
            let numbers = Array2::from_shape_fn((1, draws), |(_, k)| random.uniform(32768 + k as u16));
            let logits = logits_of(&search, &model);
            search.step_with(&logits, &unchanged, &numbers).unwrap();
            step += 1;
        }
        let want = run(BeamSample::new(&[[1]], &config, seed, &[3]).unwrap(), &model, &unchanged).unwrap();
        prop_assert_eq!(search.finish(), want);
    }
}

/// Exceeded by one in a thousand right samples: the upper 0.001 point of the chi-square distribution with 5 degrees of freedom
/// (NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.4).
const CRITICAL_5: f64 = 20.515;

/// Pearson's statistic of the pairs of tokens that two beams draw at once.
fn statistic(p: [f64; 4], expected: [f64; 4]) -> f64 {
    const PROMPTS: usize = 30_000;
    let config = BeamConfig::textbook(2, 1).with_n_return(2);
    let streams: Vec<u64> = (0..PROMPTS as u64).collect();
    let mut search = BeamSample::new(&vec![[0]; PROMPTS], &config, 11, &streams).unwrap();
    let logits = Array2::from_shape_fn((2 * PROMPTS, 4), |(_, i)| p[i].ln());
    search.step(&logits, &unchanged).unwrap();
    let mut counts = [[0_u32; 4]; 4];
    for pair in search.finish() {
        let (a, b) = (pair[0].tokens[0] as usize, pair[1].tokens[0] as usize);
        counts[a.min(b)][a.max(b)] += 1;
    }
    let mut total = 0.0;
    for a in 0..4 {
        for b in a + 1..4 {
            let (p, q) = (expected[a], expected[b]);
            // Either first: p q / (1 - p) + q p / (1 - q).
            let want = (p * q / (1.0 - p) + q * p / (1.0 - q)) * PROMPTS as f64;
            total += (f64::from(counts[a][b]) - want).powi(2) / want;
        }
    }
    total
}

#[test]
fn pairs_are_drawn_without_replacement() {
    let p = [0.5, 0.3, 0.15, 0.05];
    let found = statistic(p, p);
    assert!(found < CRITICAL_5, "{found}");
}

#[test]
fn the_statistic_of_pairs_tells_another_distribution() {
    let found = statistic([0.5, 0.3, 0.15, 0.05], [0.47, 0.32, 0.16, 0.05]);
    assert!(found > CRITICAL_5, "{found}");
}

#[test]
fn tokens_without_probability_are_never_drawn() {
    let config = BeamConfig::textbook(3, 1).with_n_return(3);
    let model = |_: &[u32]| Array1::from(vec![f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 1.0]);
    for seed in 0..50 {
        let search = BeamSample::new(&[[0]], &config, seed, &[0]).unwrap();
        let found = run(search, model, &unchanged).unwrap();
        let mut tokens: Vec<u32> = found[0].iter().map(|h| h.tokens[0]).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [1, 3]);
    }
}

#[test]
fn large_vocabularies_are_drawn_from_as_by_the_textbook() {
    let config = BeamConfig::transformers(3, 3)
        .with_n_return(3)
        .with_stop_ids(vec![2000]);
    for seed in 0..8 {
        let model = random_model(seed, 3001, 1.0);
        let found = run(
            BeamSample::new(&[[5]], &config, seed, &[1]).unwrap(),
            &model,
            &unchanged,
        )
        .unwrap();
        let numbers: Vec<Vec<f64>> = (0..3)
            .map(|step| {
                let random = RowRandom::new(seed, 1, step);
                (0..6).map(|k| random.uniform(32768 + k)).collect()
            })
            .collect();
        let mut model = log_probs(&model, &[5]);
        let want = reference::beams(&mut model, 1, &config, 1, 0.0, Pick::Drawn(&numbers));
        assert_same(&found[0], &want);
    }
}
