//! Laws of diverse beam search.

use llm_sampling::reference::search::{self as reference, Pick};
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::search::diverse::DiverseBeamSearch;
use ndarray::Array1;
use proptest::prelude::*;

use super::beam::{assert_same, scored, settings};
use super::{log_probs, random_model, run, unchanged};

/// Settings with their beams in so many groups.
fn grouped() -> impl Strategy<Value = (usize, BeamConfig, usize)> {
    (settings(3), 1..4_usize).prop_map(|((vocab, mut config), n_groups)| {
        config.n_beams *= n_groups;
        (vocab, config, n_groups)
    })
}

proptest! {
    #[test]
    fn groups_equal_the_textbook(
        seed in any::<u64>(),
        (vocab, config, n_groups) in grouped(),
        penalty in prop_oneof![Just(0.0), 0.01..3.0, Just(50.0)],
    ) {
        let model = random_model(seed, vocab, 2.0);
        let prompts = [vec![0], vec![1, 2]];
        let search = DiverseBeamSearch::new(&prompts, &config, n_groups, penalty).unwrap();
        let found = run(search, &model, &unchanged).unwrap();
        for (found, prompt) in found.iter().zip(&prompts) {
            let mut model = log_probs(&model, prompt);
            let want = reference::beams(&mut model, prompt.len(), &config, n_groups, penalty, Pick::Best);
            assert_same(found, &want);
        }
    }

    #[test]
    fn one_group_is_beam_search(seed in any::<u64>(), (vocab, config) in settings(5), penalty in 0.0..9.0) {
        let model = random_model(seed, vocab, 2.0);
        let diverse = DiverseBeamSearch::new(&[[1]], &config, 1, penalty).unwrap();
        let plain = BeamSearch::new(&[[1]], &config).unwrap();
        prop_assert_eq!(run(diverse, &model, &unchanged).unwrap(), run(plain, &model, &unchanged).unwrap());
    }

    #[test]
    fn without_a_penalty_each_group_is_a_beam_search(seed in any::<u64>(), (vocab, config, n_groups) in grouped()) {
        let model = random_model(seed, vocab, 2.0);
        let mut alone = config.clone();
        alone.n_beams /= n_groups;
        alone.n_return = alone.n_beams;
        let mut all = config;
        all.n_return = all.n_beams;
        let diverse = run(DiverseBeamSearch::new(&[[1]], &all, n_groups, 0.0).unwrap(), &model, &unchanged).unwrap();
        let plain = run(BeamSearch::new(&[[1]], &alone).unwrap(), &model, &unchanged).unwrap();
        let mut want = Vec::new();
        for h in &plain[0] {
            want.extend(scored(std::slice::from_ref(h)).into_iter().cycle().take(n_groups));
        }
        prop_assert_eq!(scored(&diverse[0]), want);
    }

    #[test]
    fn what_a_hypothesis_paid_is_a_multiple_of_the_penalty(
        seed in any::<u64>(), (vocab, config, n_groups) in grouped(), penalty in 0.1..3.0,
    ) {
        let model = random_model(seed, vocab, 2.0);
        let search = DiverseBeamSearch::new(&[[1]], &config, n_groups, penalty).unwrap();
        for h in &run(search, &model, &unchanged).unwrap()[0] {
            let paid = (h.log_probabilities.iter().sum::<f64>() - h.sum) / penalty;
            prop_assert!(paid > -1e-9 && (paid - paid.round()).abs() < 1e-9, "{paid}");
            // At most each beam of each earlier group at each step.
            prop_assert!(paid.round() as usize <= h.tokens.len() * config.n_beams);
        }
    }
}

#[test]
fn a_large_penalty_keeps_the_first_tokens_of_groups_apart() {
    let config = BeamConfig::transformers(6, 1).with_n_return(6);
    let search = DiverseBeamSearch::new(&[[0]], &config, 3, 1e3).unwrap();
    let found = run(search, random_model(2, 8, 1.0), &unchanged).unwrap();
    let mut tokens: Vec<u32> = found[0].iter().map(|h| h.tokens[0]).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 6);
}

#[test]
fn each_beam_of_an_earlier_group_counts() {
    // p = 0.5, 0.3, 0.2; groups of two, one, one beam would need other sizes, so three groups of one:
    // group 0 takes 0; group 1 pays ln 1.5 for it: 0.5 / 1.5 = 0.33 > 0.3, takes 0; group 2 pays twice: 0.5 / 2.25 = 0.22 < 0.3, takes 1.
    let config = BeamConfig::textbook(3, 1).with_n_return(3);
    let search = DiverseBeamSearch::new(&[[0]], &config, 3, 1.5_f64.ln()).unwrap();
    let model = |_: &[u32]| Array1::from(vec![0.5_f64, 0.3, 0.2]).ln();
    let found = run(search, model, &unchanged).unwrap();
    let tokens: Vec<u32> = found[0].iter().map(|h| h.tokens[0]).collect();
    assert_eq!(tokens, [0, 0, 1]);
    let scores: Vec<f64> = found[0].iter().map(|h| h.score.exp()).collect();
    for (score, want) in scores.iter().zip([0.5, 1.0 / 3.0, 0.3]) {
        assert!((score - want).abs() < 1e-12);
    }
}
