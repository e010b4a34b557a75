//! Prompt lookup, best-of-n, majorities, and what is told about a token: known answers and laws.

use llm_sampling::generate::StopReason;
use llm_sampling::output::{Distribution, describe};
use llm_sampling::search::best_of::{SampleScore, best, majority, scores, weighted_majority};
use llm_sampling::search::prompt_lookup::{
    LengthLimit, MatchOrder, PromptLookupConfig, candidates,
};
use llm_sampling::{Candidates, reference};
use ndarray::{Array1, array, s};
use proptest::prelude::*;

fn config(ngram: usize, tokens: usize) -> PromptLookupConfig {
    PromptLookupConfig::new(ngram, tokens).unwrap()
}

proptest! {
    #[test]
    fn lookups_match_the_reference(
        tokens in prop::collection::vec(0..3_u32, 0..30), ngram in 1..6_usize, n in 1..6_usize,
        newest in any::<bool>(), stop_ids in prop::collection::vec(0..3_u32, 0..2),
    ) {
        let order = if newest { MatchOrder::Newest } else { MatchOrder::Oldest };
        let config = config(ngram, n).with_order(order).with_stop_ids(stop_ids.clone());
        let found = candidates(&tokens, &config).unwrap();
        prop_assert_eq!(found, reference::prompt_lookup::candidates(&tokens, ngram, n, newest, &stop_ids));
    }

    /// A limit cuts the draft of no limit, so that draft and one token more fit.
    #[test]
    fn drafts_leave_room_for_one_more_token(tokens in prop::collection::vec(0..2_u32, 1..20), n in 1..6_usize, room in 0..30_usize) {
        let free = candidates(&tokens, &config(2, n)).unwrap();
        let limited = config(2, n).with_limit(LengthLimit::Room(room));
        let found = candidates(&tokens, &limited).unwrap();
        let most = room.saturating_sub(tokens.len() + 1);
        prop_assert_eq!(found, &free[..free.len().min(most)]);
    }

    #[test]
    fn huge_settings_do_not_overflow(tokens in prop::collection::vec(0..2_u32, 0..20), max in prop_oneof![Just(usize::MAX), 0..30_usize]) {
        for limit in [LengthLimit::None, LengthLimit::Room(max), LengthLimit::HuggingFace(max)] {
            for order in [MatchOrder::Oldest, MatchOrder::Newest] {
                let config = config(usize::MAX, usize::MAX).with_limit(limit).with_order(order);
                prop_assert!(candidates(&tokens, &config).unwrap().len() < tokens.len().max(1));
            }
        }
    }

    #[test]
    fn the_best_sample_has_the_best_score(
        samples in prop::collection::vec(prop::collection::vec(prop_oneof![-5.0..0.0, Just(0.0), Just(f64::NEG_INFINITY)], 1..5), 1..6),
        mean in any::<bool>(),
    ) {
        let score = if mean { SampleScore::Mean } else { SampleScore::Sum };
        let by_hand: Vec<f64> = samples.iter().map(|tokens| {
            tokens.iter().sum::<f64>() / if mean { tokens.len() as f64 } else { 1.0 }
        }).collect();
        prop_assert_eq!(scores(&samples, score).unwrap(), by_hand.clone());
        let found = best(&samples, score).unwrap();
        prop_assert!(by_hand[..found].iter().all(|x| *x < by_hand[found]));
        prop_assert!(by_hand.iter().all(|x| *x <= by_hand[found]));
    }

    #[test]
    fn a_majority_is_counted(answers in prop::collection::vec(prop::option::of(0..4_u8), 1..12), weights in prop::collection::vec(0..5_u8, 12)) {
        let weights: Vec<f64> = weights[..answers.len()].iter().map(|w| f64::from(*w)).collect();
        let count = |answer: u8| -> f64 {
            answers.iter().zip(&weights).filter(|(other, _)| **other == Some(answer)).map(|(_, w)| w).sum()
        };
        let found = weighted_majority(&answers, &weights).unwrap();
        let most = answers.iter().flatten().map(|&answer| count(answer)).fold(f64::NEG_INFINITY, f64::max);
        match found {
            None => prop_assert!(answers.iter().all(Option::is_none)),
            Some(found) => {
                let answer = answers[found.sample].unwrap();
                prop_assert_eq!(found.weight, most);
                prop_assert_eq!(count(answer), most);
                // The first of its kind, and no answer with as much came before.
                prop_assert!(answers[..found.sample].iter().flatten().all(|&other| other != answer && count(other) < most));
                let total: f64 = weights.iter().sum();
                prop_assert_eq!(found.share, if total > 0.0 { most / total } else { 0.0 });
            }
        }
        let ones = vec![1.0; answers.len()];
        prop_assert_eq!(majority(&answers).unwrap(), weighted_majority(&answers, &ones).unwrap());
    }

    /// Against sums written out, for any part of the vocabulary that is left, dense or not.
    #[test]
    fn a_token_is_described_by_both_distributions(
        raw in prop::collection::vec(prop_oneof![5 => -6.0..6.0, 2 => (-2..3_i32).prop_map(f64::from), 1 => Just(f64::NEG_INFINITY)], 1..12),
        shift in -3.0..3.0_f64, keep in prop::collection::vec(any::<bool>(), 12), compact in any::<bool>(),
        pick in any::<prop::sample::Index>(), top_n in 0..14_usize,
    ) {
        let mut processed: Vec<f64> = raw.iter().zip(&keep).map(|(x, keep)| if *keep { 2.0 * x + shift } else { f64::NEG_INFINITY }).collect();
        let mut raw = raw;
        if processed.iter().all(|x| *x == f64::NEG_INFINITY) {
            raw[0] = 1.0;
            processed[0] = 0.5;
        }
        let left: Vec<usize> = (0..raw.len()).filter(|&i| processed[i] > f64::NEG_INFINITY).collect();
        let token = left[pick.index(left.len())];
        let mut candidates = Candidates::new();
        candidates.fill(&processed).unwrap();
        if compact {
            candidates.compact();
        }
        let p = reference::speculative::softmax(&raw);
        let q = reference::speculative::softmax(&processed);
        let entropy = |p: &[f64]| -> f64 { p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum() };
        for (of, distribution, logits) in [(Distribution::Raw, &p, &raw), (Distribution::Processed, &q, &processed)] {
            let found = describe(&Array1::from(raw.clone()), &candidates, token as u32, top_n, of).unwrap();
            prop_assert_eq!(found.token as usize, token);
            prop_assert!((found.log_probability - q[token].ln()).abs() < 1e-12);
            prop_assert!((found.raw_log_probability - p[token].ln()).abs() < 1e-12);
            prop_assert!((found.entropy - entropy(&q)).abs() < 1e-12 && (found.raw_entropy - entropy(&p)).abs() < 1e-12);
            prop_assert_eq!(found.kept, left.len());
            prop_assert_eq!(found.rank, raw.iter().filter(|x| **x > raw[token]).count());
            let mut order: Vec<usize> = (0..raw.len()).filter(|&i| logits[i] > f64::NEG_INFINITY).collect();
            order.sort_by(|&i, &j| logits[j].partial_cmp(&logits[i]).unwrap());
            order.truncate(top_n);
            prop_assert_eq!(found.top.iter().map(|top| top.token as usize).collect::<Vec<_>>(), order.clone());
            for (top, i) in found.top.iter().zip(order) {
                prop_assert!((top.log_probability - distribution[i].ln()).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn the_longest_ngram_decides_even_if_its_draft_is_empty() {
    let tokens = [8, 2, 5, 1, 2, 0, 7, 1, 2];
    // "1 2" was followed by the stop token; "2" alone would have been followed by 5.
    let stops = config(2, 3).with_stop_ids(vec![0]);
    assert_eq!(candidates(&tokens, &stops), Ok([].as_slice()));
    assert_eq!(candidates(&tokens, &config(2, 3)), Ok([0, 7, 1].as_slice()));
    assert_eq!(candidates(&tokens, &config(1, 3)), Ok([5, 1, 2].as_slice()));
    // A single token has nothing before it.
    assert_eq!(candidates(&[3], &config(2, 3)), Ok([].as_slice()));
    assert_eq!(candidates(&[], &config(2, 3)), Ok([].as_slice()));
    // A draft may run into the end.
    assert_eq!(candidates(&[7, 7, 7], &config(2, 9)), Ok([7].as_slice()));
}

#[test]
fn certainty_has_no_entropy_and_a_uniform_row_the_most() {
    let mut candidates = Candidates::new();
    candidates
        .fill(&[f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY])
        .unwrap();
    let raw = array![1.0_f32, 9.0, 1.0, 9.0, 1.0];
    let found = describe(
        &raw.slice(s![..;2]),
        &candidates,
        1,
        5,
        Distribution::Processed,
    )
    .unwrap();
    assert_eq!(
        (found.log_probability, found.entropy, found.kept),
        (0.0, 0.0, 1)
    );
    assert!((found.raw_log_probability + 3_f64.ln()).abs() < 1e-15);
    assert!((found.raw_entropy - 3_f64.ln()).abs() < 1e-15);
    assert_eq!((found.rank, found.top.len()), (0, 1));
}

#[test]
fn reasons_have_the_names_of_openai() {
    assert_eq!(StopReason::MaxNewTokens.finish_reason(), "length");
    for reason in [
        StopReason::StopToken(3),
        StopReason::Callback,
        StopReason::StopString(0),
    ] {
        assert_eq!(reason.finish_reason(), "stop");
    }
}
