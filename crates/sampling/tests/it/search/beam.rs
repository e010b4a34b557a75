//! Laws of beam search.

use std::cell::Cell;

use llm_sampling::generate::{GenerateConfig, StopReason, generate};
use llm_sampling::reference::search::{self as reference, Pick};
use llm_sampling::search::Hypothesis;
use llm_sampling::search::beam::{BeamConfig, BeamSearch, Bookkeeping, EarlyStopping, LengthRule};
use llm_sampling::{Candidates, Context, SamplingConfig, SamplingError, reference as textbook};
use ndarray::{Array1, Array2, ShapeBuilder};
use proptest::prelude::*;

use super::{Stepper, log_probs, logits_of, random_model, run, unchanged};

pub(super) fn length() -> impl Strategy<Value = LengthRule> {
    let exponent = prop_oneof![Just(0.0), Just(1.0), -2.0..2.0];
    prop_oneof![
        Just(LengthRule::Sum),
        exponent
            .clone()
            .prop_map(|penalty| LengthRule::Generated { penalty }),
        exponent
            .clone()
            .prop_map(|penalty| LengthRule::Whole { penalty }),
        exponent.prop_map(|alpha| LengthRule::Gnmt { alpha }),
    ]
}

/// A vocabulary and settings for it, with up to `max_beams` beams.
pub(super) fn settings(max_beams: usize) -> impl Strategy<Value = (usize, BeamConfig)> {
    let early = prop_oneof![
        Just(EarlyStopping::WhenFull),
        Just(EarlyStopping::Heuristic),
        Just(EarlyStopping::Never)
    ];
    let books = prop_oneof![Just(Bookkeeping::Vectorized), Just(Bookkeeping::Scorer)];
    let stops = prop::collection::vec(0..4_u32, 0..3);
    (
        3..9_usize,
        1..=max_beams,
        1..7_usize,
        any::<prop::sample::Index>(),
    )
        .prop_flat_map(move |(vocab, beams, new, n_return)| {
            let n_return = n_return.index(beams) + 1;
            (
                Just((vocab, beams, new, n_return)),
                length(),
                early.clone(),
                books.clone(),
                stops.clone(),
            )
        })
        .prop_map(
            |((vocab, beams, new, n_return), length, early, books, stops)| {
                let config = BeamConfig::textbook(beams, new)
                    .with_n_return(n_return)
                    .with_length(length)
                    .with_early_stopping(early)
                    .with_bookkeeping(books)
                    .with_stop_ids(stops);
                (vocab, config)
            },
        )
}

/// Tokens and scores.
pub(super) fn scored(hypotheses: &[Hypothesis]) -> Vec<(Vec<u32>, f64)> {
    hypotheses
        .iter()
        .map(|h| (h.tokens.clone(), h.score))
        .collect()
}

pub(super) fn assert_same(found: &[Hypothesis], want: &[reference::Scored]) {
    let tokens: Vec<_> = found.iter().map(|h| &h.tokens).collect();
    let expected: Vec<_> = want.iter().map(|s| &s.tokens).collect();
    assert_eq!(tokens, expected, "{found:?}\n{want:?}");
    for (h, s) in found.iter().zip(want) {
        assert!(
            (h.score - s.score).abs() <= 1e-10 * (1.0 + s.score.abs()),
            "{h:?} {s:?}"
        );
    }
}

fn search(prompts: &[Vec<u32>], config: &BeamConfig) -> BeamSearch {
    BeamSearch::new(prompts, config).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    // ANCHOR: law
    fn beams_as_wide_as_the_tree_find_the_best_sequences(
        seed in any::<u64>(),
        // Vocabulary, tokens; leaves: tokens that do not end, to the power of the tokens before the last, times the vocabulary.
        (vocab, new) in prop_oneof![Just((4, 6)), Just((5, 4)), Just((6, 4)), Just((6, 3)), Just((4, 2))],
        length in length(),
        prompt in prop::collection::vec(0..4_u32, 1..4),
        n_stops in 0..3_u32,
    ) {
        let leaves = vocab * (vocab - 1_usize).pow(new - 1);
        let leaves = if n_stops == 0 { vocab.pow(new) } else { leaves };
        prop_assume!(leaves < 1400);
        let config = BeamConfig::textbook(leaves, new as usize)
            .with_length(length)
            .with_stop_ids((0..n_stops).collect())
            .with_n_return(5);
        let model = random_model(seed, vocab, 2.0);
        let found = run(search(std::slice::from_ref(&prompt), &config), &model, &unchanged).unwrap();
        let mut all = reference::all(&mut log_probs(&model, &prompt), prompt.len(), &config);
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        all.truncate(5);
        assert_same(&found[0], &all);
    }
    // ANCHOR_END: law
}

proptest! {
    #[test]
    fn beams_equal_the_textbook(
        seed in any::<u64>(),
        (vocab, config) in settings(5),
        prompts in prop::collection::vec(prop::collection::vec(0..3_u32, 1..5), 1..3),
    ) {
        let model = random_model(seed, vocab, 2.0);
        let found = run(search(&prompts, &config), &model, &unchanged).unwrap();
        for (found, prompt) in found.iter().zip(&prompts) {
            let mut model = log_probs(&model, prompt);
            let want = reference::beams(&mut model, prompt.len(), &config, 1, 0.0, Pick::Best);
            assert_same(found, &want);
        }
    }

    #[test]
    fn one_beam_is_greedy_decoding(seed in any::<u64>(), vocab in 1..9_usize, new in 1..9_usize, stop in 0..4_u32) {
        let config = BeamConfig::textbook(1, new).with_stop_ids(vec![stop]);
        let model = random_model(seed, vocab, 2.0);
        let found = run(search(&[vec![1]], &config), &model, &unchanged).unwrap();
        let greedy = GenerateConfig::new(SamplingConfig::greedy(), new).with_stop_ids(vec![stop]);
        let mut seen = Vec::new();
        let step = |new: &[u32]| -> Result<Array1<f64>, core::convert::Infallible> {
            seen.extend_from_slice(new);
            Ok(model(&seen))
        };
        let want = generate(&[1], &greedy, step, |_| core::ops::ControlFlow::Continue(())).unwrap();
        prop_assert_eq!(&found[0][0].tokens, &want.tokens);
        prop_assert_eq!(found[0][0].stop, want.stop);
    }

    #[test]
    fn a_hypothesis_adds_up(seed in any::<u64>(), (vocab, config) in settings(5)) {
        let model = random_model(seed, vocab, 2.0);
        let prompt = vec![2, 0, 1];
        let mut search = search(&[vec![1], prompt.clone()], &config);
        let mut steps = Vec::new();
        while !search.is_done() {
            steps.push(logits_of(&search, &model));
            search.step(&steps[steps.len() - 1], &unchanged).unwrap();
        }
        for h in &search.finish()[1] {
            prop_assert_eq!(h.log_probabilities.len(), h.tokens.len());
            let mut sum = 0.0;
            for (t, &token) in h.tokens.iter().enumerate() {
                let sequence = [&prompt[..], &h.tokens[..t]].concat();
                let log_p = textbook::categorical::log_softmax(&model(&sequence).to_vec())[token as usize];
                prop_assert!((h.log_probabilities[t] - log_p).abs() < 1e-12);
                // The row that it came from had the logits of this sequence.
                prop_assert_eq!(steps[t].row(h.beam_indices[t]), model(&sequence));
                prop_assert!(h.beam_indices[t] / config.n_beams == 1);
                sum += log_p;
            }
            prop_assert!((h.sum - sum).abs() < 1e-12);
            let score = reference::score(sum, &h.tokens, prompt.len(), &config);
            prop_assert!((h.score - score).abs() <= 1e-12 * (1.0 + score.abs()));
            let last = h.tokens[h.tokens.len() - 1];
            prop_assert_eq!(h.stop, match config.stop_ids.contains(&last) {
                true => StopReason::StopToken(last),
                false => StopReason::MaxNewTokens,
            });
        }
    }

    #[test]
    fn prompts_do_not_know_of_each_other(seed in any::<u64>(), (vocab, config) in settings(4)) {
        let model = random_model(seed, vocab, 2.0);
        let prompts = [vec![0], vec![1, 2, 0, 1], vec![2, 2]];
        let together = run(search(&prompts, &config), &model, &unchanged).unwrap();
        for (prompt, found) in prompts.iter().zip(&together) {
            let alone = run(search(std::slice::from_ref(prompt), &config), &model, &unchanged).unwrap();
            prop_assert_eq!(scored(&alone[0]), scored(found));
        }
    }

    #[test]
    fn hypotheses_are_sorted_and_different(seed in any::<u64>(), (vocab, config) in settings(6)) {
        let found = run(search(&[vec![0]], &config), random_model(seed, vocab, 1.0), &unchanged).unwrap();
        prop_assert!(found[0].len() <= config.n_return);
        for pair in found[0].windows(2) {
            prop_assert!(pair[0].score >= pair[1].score);
        }
        for (i, h) in found[0].iter().enumerate() {
            prop_assert!(found[0][..i].iter().all(|other| other.tokens != h.tokens));
        }
    }

    #[test]
    fn a_stricter_rule_to_stop_takes_more_steps_and_finds_no_worse(seed in any::<u64>(), (vocab, config) in settings(4)) {
        let rules = [EarlyStopping::WhenFull, EarlyStopping::Heuristic, EarlyStopping::Never];
        let model = random_model(seed, vocab, 2.0);
        let mut before = (0, f64::NEG_INFINITY);
        for rule in rules {
            let steps = Cell::new(0);
            let count = |_: &mut Candidates<f64>, context: &Context<'_>| -> Result<(), SamplingError> {
                steps.set(steps.get().max(context.generated.len()));
                Ok(())
            };
            let config = config.clone().with_early_stopping(rule);
            let found = run(search(&[vec![1]], &config), &model, &count).unwrap();
            let now = (steps.get(), found[0][0].score);
            prop_assert!(now.0 >= before.0 && now.1 >= before.1, "{rule:?}: {before:?} {now:?}");
            before = now;
        }
    }

    #[test]
    fn strides_do_not_matter(seed in any::<u64>(), (vocab, config) in settings(4)) {
        let model = random_model(seed, vocab, 2.0);
        let (mut a, mut b) = (search(&[vec![1]], &config), search(&[vec![1]], &config));
        while !a.is_done() {
            let logits = logits_of(&a, &model);
            let mut turned = Array2::zeros(logits.dim().f());
            turned.assign(&logits);
            a.step(&logits, &unchanged).unwrap();
            b.step(&turned, &unchanged).unwrap();
        }
        prop_assert_eq!(a.finish(), b.finish());
    }
}

#[test]
fn of_equal_candidates_the_lower_beam_comes_first_then_the_lower_id() {
    let config = BeamConfig::textbook(3, 3).with_n_return(3);
    let flat = |_: &[u32]| Array1::<f32>::zeros(4);
    let found = run(search(&[vec![0]], &config), flat, &unchanged).unwrap();
    let tokens: Vec<_> = found[0].iter().map(|h| h.tokens.clone()).collect();
    // Beams 0, 1, 2 after the first step; then all from beam 0.
    assert_eq!(tokens, [[0, 0, 0], [0, 0, 1], [0, 0, 2]]);
}

#[test]
fn of_equal_hypotheses_the_older_one_comes_first() {
    // Token 0 ends; each token has 1/2, so that with this rule (2/n)^1 .. all means are equal.
    let config = BeamConfig::textbook(2, 3)
        .with_stop_ids(vec![0])
        .with_n_return(2)
        .with_length(LengthRule::Generated { penalty: 1.0 });
    let flat = |_: &[u32]| Array1::<f64>::zeros(2);
    let found = run(search(&[vec![1]], &config), flat, &unchanged).unwrap();
    assert_eq!(found[0][0].tokens, [0]);
    assert_eq!(found[0][1].tokens, [1, 0]);
}

#[test]
fn a_processor_sees_the_sequence_and_its_row_and_can_forbid() {
    let prompts = [vec![3, 1], vec![2]];
    let config = BeamConfig::transformers(2, 4).with_n_return(2);
    let model = random_model(5, 6, 1.0);
    let no_repeats = |candidates: &mut Candidates<f64>, context: &Context<'_>| {
        assert_eq!(context.prompt, &prompts[context.row / 2][..]);
        for token in context.tokens() {
            candidates
                .get_mut(token)
                .into_iter()
                .for_each(|x| *x = f64::NEG_INFINITY);
        }
        candidates.compact();
        Ok::<_, SamplingError>(())
    };
    let found = run(search(&prompts, &config), model, &no_repeats).unwrap();
    for (prompt, hypotheses) in prompts.iter().zip(&found) {
        assert_eq!(hypotheses.len(), 2);
        for h in hypotheses {
            let mut all = [&prompt[..], &h.tokens].concat();
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
        }
    }
}

#[test]
fn where_nothing_can_go_on_a_prompt_ends_with_what_it_has() {
    let model = random_model(1, 4, 1.0);
    let config = BeamConfig::textbook(2, 5)
        .with_stop_ids(vec![0])
        .with_n_return(2);
    // Only the stop token, and only after one other token.
    let walls = |candidates: &mut Candidates<f64>, context: &Context<'_>| {
        let ends = !context.generated.is_empty();
        for token in 0..4 {
            if (token == 0) != ends {
                candidates
                    .get_mut(token)
                    .into_iter()
                    .for_each(|x| *x = f64::NEG_INFINITY);
            }
        }
        Ok::<_, SamplingError>(())
    };
    let found = run(search(&[vec![1]], &config), &model, &walls).unwrap();
    assert_eq!(found[0].len(), 2);
    assert!(
        found[0]
            .iter()
            .all(|h| h.tokens.len() == 2 && h.stop == StopReason::StopToken(0))
    );
    // And with nothing at all.
    let nothing = |candidates: &mut Candidates<f64>, _: &Context<'_>| {
        candidates.logits_mut().fill(f64::NEG_INFINITY);
        Ok::<_, SamplingError>(())
    };
    let found = run(search(&[vec![1]], &config), &model, &nothing).unwrap();
    assert_eq!(found, [vec![]]);
}

#[test]
fn a_search_that_the_caller_ends_returns_its_beams() {
    let model = random_model(3, 5, 1.0);
    let mut search = search(&[vec![1]], &BeamConfig::textbook(3, 9).with_n_return(3));
    for _ in 0..2 {
        let logits = logits_of(&search, &model);
        search.step(&logits, &unchanged).unwrap();
    }
    let sequences: Vec<_> = (0..3)
        .map(|row| search.sequence(row).unwrap()[1..].to_vec())
        .collect();
    let found = Stepper::finish(search);
    assert_eq!(
        found[0]
            .iter()
            .map(|h| h.tokens.clone())
            .collect::<Vec<_>>(),
        sequences
    );
    assert!(found[0].iter().all(|h| h.stop == StopReason::Callback));
}

#[test]
fn no_tokens_are_made_if_none_are_allowed() {
    let search = search(
        &[vec![1], vec![2]],
        &BeamConfig::transformers(3, 0).with_n_return(3),
    );
    assert!(search.is_done());
    assert_eq!(search.tokens(), [0; 6]);
    let found = search.finish();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[1][0].tokens.len(), found[1][0].score, found[1].len()),
        (0, 0.0, 1)
    );
    assert!(
        BeamSearch::new::<Vec<u32>>(&[], &BeamConfig::textbook(1, 1))
            .unwrap()
            .is_done()
    );
}

#[test]
fn the_books_decide_whose_sum_may_still_win() {
    // Token 0 ends at once with a mean of ln 0.7 = -0.36. Going on may at best bring ln 0.2 / 2 = -0.80, or, as if the candidate that has
    // ended could go on, ln 0.7 / 2 = -0.18.
    for (books, steps) in [(Bookkeeping::Vectorized, 1), (Bookkeeping::Scorer, 2)] {
        let config = BeamConfig::transformers(1, 2)
            .with_stop_ids(vec![0])
            .with_early_stopping(EarlyStopping::Never)
            .with_bookkeeping(books);
        let mut search = search(&[vec![1]], &config);
        let logits = ndarray::array![[0.7_f64, 0.2, 0.1]].ln();
        for step in 0..steps {
            assert!(!search.is_done(), "{books:?} {step}");
            search.step(&logits, &unchanged).unwrap();
        }
        assert!(search.is_done(), "{books:?}");
        assert_eq!(search.finish()[0][0].tokens, [0]);
    }
}

#[test]
fn at_the_last_step_the_books_decide_who_is_a_hypothesis() {
    // One beam: token 0 ends with ln 0.5 and is over a prompt of 1 token, token 1 goes on with ln 0.3 over two tokens. By the mean over
    // prompt and new tokens without the stop token, the second is better: ln 0.5 / 1 = -0.69, ln 0.3 / 2 = -0.60.
    for (books, token) in [(Bookkeeping::Vectorized, 0), (Bookkeeping::Scorer, 1)] {
        let config = BeamConfig::textbook(1, 1)
            .with_stop_ids(vec![0])
            .with_length(LengthRule::Whole { penalty: 1.0 })
            .with_bookkeeping(books);
        let model = |_: &[u32]| ndarray::array![0.5_f64, 0.3, 0.2].ln();
        let found = run(search(&[vec![2]], &config), model, &unchanged).unwrap();
        assert_eq!(found[0][0].tokens, [token], "{books:?}");
    }
}
