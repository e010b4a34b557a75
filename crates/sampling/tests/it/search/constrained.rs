//! Laws of constrained beam search.

use llm_sampling::reference::search::{self as reference, Pick};
use llm_sampling::search::beam::{BeamConfig, BeamSearch, EarlyStopping};
use llm_sampling::search::constrained::{ConstrainedBeamSearch, Constraint, ConstraintRule};
use llm_sampling::{Candidates, Context, SamplingError};
use ndarray::Array1;
use proptest::prelude::*;

use super::beam::{assert_same, length, settings};
use super::{log_probs, random_model, run, unchanged};

const RULES: [ConstraintRule; 2] = [ConstraintRule::Occurs, ConstraintRule::Transformers];

/// A phrase, or two of which neither begins with the other; without the tokens below 3, which may be stop ids.
fn constraint(vocab: u32) -> impl Strategy<Value = Constraint> {
    let phrase = move || prop::collection::vec(3..vocab, 1..4);
    prop_oneof![
        2 => phrase().prop_map(Constraint::phrase),
        1 => (phrase(), phrase())
            .prop_filter("a prefix", |(a, b)| !a.starts_with(b) && !b.starts_with(a))
            .prop_map(|(a, b)| Constraint::any_of(vec![a, b])),
    ]
}

fn longest(constraint: &Constraint) -> usize {
    constraint
        .alternatives()
        .iter()
        .map(Vec::len)
        .max()
        .unwrap()
}

fn fulfilled(tokens: &[u32], constraint: &Constraint) -> bool {
    let mut phrases = constraint.alternatives().iter();
    phrases.any(|phrase| tokens.windows(phrase.len()).any(|window| window == phrase))
}

/// Settings with room for a vocabulary of 7 whose stop ids are below 3.
fn roomy(max_beams: usize) -> impl Strategy<Value = BeamConfig> {
    settings(max_beams).prop_map(|(_, mut config)| {
        config.stop_ids.retain(|id| *id < 3);
        config.max_new_tokens += 3;
        config
    })
}

proptest! {
    #[test]
    fn without_constraints_it_is_beam_search(seed in any::<u64>(), (vocab, config) in settings(5)) {
        let model = random_model(seed, vocab, 2.0);
        let plain = run(BeamSearch::new(&[[1]], &config).unwrap(), &model, &unchanged).unwrap();
        for rule in RULES {
            let search = ConstrainedBeamSearch::new(&[[1]], &config, &[], rule).unwrap();
            prop_assert_eq!(&run(search, &model, &unchanged).unwrap(), &plain);
        }
    }

    #[test]
    fn constrained_beams_equal_the_textbook(
        seed in any::<u64>(),
        config in roomy(5),
        constraints in prop::collection::vec(constraint(6), 1..4),
    ) {
        let model = random_model(seed, 7, 2.0);
        let prompts = [vec![0], vec![4, 5, 3]];
        for rule in RULES {
            let search = ConstrainedBeamSearch::new(&prompts, &config, &constraints, rule).unwrap();
            let found = run(search, &model, &unchanged).unwrap();
            for (found, prompt) in found.iter().zip(&prompts) {
                let mut model = log_probs(&model, prompt);
                let pick = Pick::Constrained(&constraints, rule, prompt);
                let want = reference::beams(&mut model, prompt.len(), &config, 1, 0.0, pick);
                assert_same(found, &want);
                for h in found {
                    let all = [&prompt[..], &h.tokens].concat();
                    let seen = if rule == ConstraintRule::Occurs { &h.tokens } else { &all };
                    prop_assert_eq!(h.unmet, reference::unmet(seen, &constraints, rule));
                }
            }
        }
    }

    #[test]
    fn constraints_are_fulfilled_wherever_there_is_room(
        seed in any::<u64>(),
        config in roomy(4),
        constraints in prop::collection::vec(constraint(7), 1..4),
        spread in 0.5..6.0,
    ) {
        let mut config = config;
        config.max_new_tokens = config.max_new_tokens.max(constraints.iter().map(longest).sum());
        let search = ConstrainedBeamSearch::new(&[[1]], &config, &constraints, ConstraintRule::Occurs).unwrap();
        let best = &run(search, random_model(seed, 7, spread), &unchanged).unwrap()[0][0];
        prop_assert_eq!(best.unmet, 0);
        for constraint in &constraints {
            prop_assert!(fulfilled(&best.tokens, constraint), "{constraint:?} in {best:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn beams_as_wide_as_the_tree_find_the_best_that_fulfills(
        seed in any::<u64>(),
        length in length(),
        constraints in prop::collection::vec(constraint(5), 1..3),
        stop in 0..3_u32,
    ) {
        // 5 * 4^4 = 1280 leaves.
        let config = BeamConfig::textbook(1280, 5).with_length(length).with_stop_ids(vec![stop]);
        let model = random_model(seed, 5, 2.0);
        let search = ConstrainedBeamSearch::new(&[[1]], &config, &constraints, ConstraintRule::Occurs).unwrap();
        let found = run(search, &model, &unchanged).unwrap();
        let all = reference::all(&mut log_probs(&model, &[1]), 1, &config);
        let unmet = |tokens: &[u32]| constraints.iter().filter(|c| !fulfilled(tokens, c)).count();
        let best = all.iter().min_by(|a, b| {
            unmet(&a.tokens).cmp(&unmet(&b.tokens)).then(b.score.total_cmp(&a.score))
        });
        // With too little room for all, only sequences of full length are returned, so the best may be another.
        if unmet(&best.unwrap().tokens) == 0 {
            assert_same(&found[0], &[best.unwrap().clone()]);
        } else {
            prop_assert!(found[0][0].unmet > 0);
        }
    }
}

fn tokens(
    model: impl Fn(&[u32]) -> Array1<f64>,
    config: &BeamConfig,
    constraints: &[Constraint],
    rule: ConstraintRule,
) -> (Vec<u32>, usize) {
    let search = ConstrainedBeamSearch::new(&[[0]], config, constraints, rule).unwrap();
    let best = run(search, model, &unchanged).unwrap()[0][0].clone();
    (best.tokens, best.unmet)
}

#[test]
fn a_phrase_may_begin_in_the_middle_of_itself() {
    // 1 1 1 2 has 1 1 2 in it. Walking through it from the first 1 misses that.
    let model = |sequence: &[u32]| {
        let next = [1, 1, 1, 2, 0][sequence.len() - 1];
        Array1::from_shape_fn(3, |i| if i == next { 9.0 } else { 0.0 })
    };
    let constraints = [Constraint::phrase(vec![1, 1, 2])];
    let config = BeamConfig::textbook(1, 4);
    let found = tokens(model, &config, &constraints, ConstraintRule::Occurs);
    assert_eq!(found, (vec![1, 1, 2, 2], 0)); // one beam: the phrase is gone for at once
    assert_eq!(
        reference::unmet(&[1, 1, 1, 2], &constraints, ConstraintRule::Occurs),
        0
    );
    assert_eq!(
        reference::unmet(&[1, 1, 1, 2], &constraints, ConstraintRule::Transformers),
        1
    );
    let config = BeamConfig::textbook(30, 4);
    let found = tokens(model, &config, &constraints, ConstraintRule::Occurs);
    assert_eq!(found, (vec![1, 1, 1, 2], 0));
}

#[test]
fn phrases_may_share_tokens() {
    let constraints = [
        Constraint::phrase(vec![1, 2]),
        Constraint::phrase(vec![2, 3]),
    ];
    let flat = |_: &[u32]| Array1::zeros(4);
    let config = BeamConfig::textbook(4, 3);
    assert_eq!(
        tokens(flat, &config, &constraints, ConstraintRule::Occurs),
        (vec![1, 2, 3], 0)
    );
    // One after the other they need four tokens.
    assert_eq!(
        tokens(flat, &config, &constraints, ConstraintRule::Transformers).1,
        1
    );
}

#[test]
fn a_prompt_counts_only_for_transformers() {
    let constraints = [Constraint::phrase(vec![0])];
    let model = |_: &[u32]| Array1::from(vec![0.0, 5.0, 1.0]);
    let config = BeamConfig::textbook(2, 2);
    assert_eq!(
        tokens(model, &config, &constraints, ConstraintRule::Transformers).0,
        [1, 1]
    );
    assert!(
        tokens(model, &config, &constraints, ConstraintRule::Occurs)
            .0
            .contains(&0)
    );
}

#[test]
fn what_is_not_fulfilled_is_counted() {
    // Token 2 is masked out, so its constraint cannot be met; the other one is.
    let constraints = [Constraint::phrase(vec![2]), Constraint::phrase(vec![3])];
    let no_2 = |candidates: &mut Candidates<f64>, _: &Context<'_>| {
        candidates
            .get_mut(2)
            .into_iter()
            .for_each(|x| *x = f64::NEG_INFINITY);
        Ok::<_, SamplingError>(())
    };
    for rule in RULES {
        let config = BeamConfig::textbook(3, 3)
            .with_n_return(3)
            .with_stop_ids(vec![1]);
        let search = ConstrainedBeamSearch::new(&[[0]], &config, &constraints, rule).unwrap();
        let found = run(search, random_model(8, 4, 1.0), &no_2).unwrap();
        assert_eq!(found[0][0].unmet, 1);
        assert!(found[0][0].tokens.contains(&3));
        assert!(
            found[0]
                .windows(2)
                .all(|pair| pair[0].unmet <= pair[1].unmet)
        );
    }
}

#[test]
fn a_stop_token_does_not_end_what_is_not_fulfilled() {
    // The stop token is by far the likeliest.
    let model = |_: &[u32]| Array1::from(vec![0.0, 9.0, 0.5, 0.2]);
    let constraints = [Constraint::phrase(vec![3, 2])];
    for rule in RULES {
        for early in [EarlyStopping::WhenFull, EarlyStopping::Never] {
            let config = BeamConfig::textbook(3, 6)
                .with_stop_ids(vec![1])
                .with_early_stopping(early);
            let found = tokens(model, &config, &constraints, rule);
            assert_eq!(found, (vec![3, 2, 1], 0), "{rule:?} {early:?}");
        }
    }
}
