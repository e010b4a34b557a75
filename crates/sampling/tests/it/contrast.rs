//! Contrastive search and DoLa: known answers and laws.

use llm_sampling::reference;
use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
use llm_sampling::search::dola::{
    self, Divergence, DolaConfig, DolaLayers, LayerChoice, candidate_layers,
};
use ndarray::{Array2, Array3, Axis, array, s};
use proptest::prelude::*;

const MASKED: f64 = f64::NEG_INFINITY;

fn array3(shape: [usize; 3], range: f64) -> impl Strategy<Value = Array3<f64>> {
    prop::collection::vec(-range..range, shape.iter().product::<usize>())
        .prop_map(move |x| Array3::from_shape_vec(shape, x).unwrap())
}

#[derive(Clone, Debug)]
struct Step {
    context: Array3<f64>,
    mask: Array2<bool>,
    logits: Array2<f64>,
    hidden: Array3<f64>,
    k: usize,
    alpha: f64,
}

fn step() -> impl Strategy<Value = Step> {
    (1..4_usize, 1..6_usize, 1..5_usize, 1..8_usize)
        .prop_flat_map(|(batch, seq, d_model, vocab)| {
            (Just((batch, seq, d_model, vocab)), 1..=vocab)
        })
        .prop_flat_map(|((batch, seq, d_model, vocab), k)| {
            (
                array3([batch, seq, d_model], 3.0),
                prop::collection::vec(0..seq, batch),
                array3([batch, vocab, 1], 4.0),
                array3([batch, k, d_model], 3.0),
                prop_oneof![4 => 0.0..=1.0, 1 => Just(0.0), 1 => Just(1.0)],
            )
                .prop_map(move |(context, padding, logits, hidden, alpha)| Step {
                    mask: Array2::from_shape_fn([batch, seq], |(row, i)| i >= padding[row]),
                    logits: logits.remove_axis(Axis(2)),
                    context,
                    hidden,
                    k,
                    alpha,
                })
        })
}

impl Step {
    fn config(&self) -> ContrastiveConfig {
        ContrastiveConfig::new(self.k, self.alpha).unwrap()
    }

    fn search(&self) -> ContrastiveSearch<f64> {
        ContrastiveSearch::new(self.config(), &self.context, Some(&self.mask)).unwrap()
    }
}

proptest! {
    #[test]
    // ANCHOR: law
    fn the_chosen_candidate_has_the_highest_score(step in step()) {
        let mut search = step.search();
        let proposal = search.propose(&step.logits).unwrap();
        let choices = search.choose(&proposal, &step.hidden).unwrap();
        for (row, choice) in choices.iter().enumerate() {
            let p = reference::speculative::softmax(&step.logits.row(row).to_vec());
            // The k likeliest, in order.
            let mut order: Vec<usize> = (0..p.len()).collect();
            order.sort_by(|&i, &j| p[j].total_cmp(&p[i]));
            for (i, &token) in order.iter().take(step.k).enumerate() {
                prop_assert!((proposal.probabilities[[row, i]] - p[token]).abs() < 1e-12);
                let proposed = proposal.tokens[[row, i]] as usize;
                prop_assert_eq!(step.logits[[row, proposed]], step.logits[[row, token]]);
            }
            let context: Vec<_> = (0..step.context.dim().1).filter(|&j| step.mask[[row, j]])
                .map(|j| step.context.slice(s![row, j, ..]).to_vec()).collect();
            let hidden: Vec<_> = step.hidden.index_axis(Axis(0), row).rows().into_iter().map(|x| x.to_vec()).collect();
            let scores = reference::contrastive::scores(&proposal.probabilities.row(row).to_vec(), &hidden, &context, step.alpha);
            let best = scores.iter().copied().fold(MASKED, f64::max);
            prop_assert!((choice.score - best).abs() < 1e-12, "{} {:?}", choice.score, scores);
            prop_assert!((scores[choice.index] - best).abs() < 1e-12);
            prop_assert_eq!(choice.token, proposal.tokens[[row, choice.index]]);
            prop_assert_eq!(choice.cache_row, row * step.k + choice.index);
            let p = proposal.probabilities[[row, choice.index]];
            prop_assert_eq!(choice.log_probability, p.ln());
            prop_assert!(((1.0 - step.alpha) * p - step.alpha * choice.penalty - choice.score).abs() < 1e-15);
        }
    }
    // ANCHOR_END: law

    /// After a step the search is one that began with the chosen hidden states behind the context.
    #[test]
    fn a_step_adds_the_chosen_state_to_the_context(step in step()) {
        let mut search = step.search();
        let proposal = search.propose(&step.logits).unwrap();
        let choices = search.choose(&proposal, &step.hidden).unwrap();
        let (batch, seq, d_model) = step.context.dim();
        let longer = Array3::from_shape_fn([batch, seq + 1, d_model], |(row, i, f)| {
            if i < seq { step.context[[row, i, f]] } else { step.hidden[[row, choices[row].index, f]] }
        });
        let mask = Array2::from_shape_fn([batch, seq + 1], |(row, i)| i == seq || step.mask[[row, i]]);
        prop_assert_eq!(search, ContrastiveSearch::new(step.config(), &longer, Some(&mask)).unwrap());
    }

    #[test]
    fn no_penalty_is_greedy_and_lengths_do_not_matter(mut step in step(), factor in 1e-200..1e200_f64) {
        let chosen = |step: &Step| {
            let mut search = step.search();
            let proposal = search.propose(&step.logits).unwrap();
            search.choose(&proposal, &step.hidden).unwrap()
        };
        let before = chosen(&step);
        step.hidden *= factor;
        for (x, y) in before.iter().zip(chosen(&step)) {
            prop_assert!((x.score - y.score).abs() < 1e-12);
        }
        step.alpha = 0.0;
        for (row, choice) in chosen(&step).iter().enumerate() {
            prop_assert_eq!(choice.token as usize, reference::greedy::argmax(&step.logits.row(row).to_vec()));
        }
    }

    #[test]
    fn masked_positions_do_not_count_and_rows_do_not_meet(step in step(), noise in -9.0..9.0_f64) {
        let mut other = step.clone();
        for ((row, i), counts) in step.mask.indexed_iter() {
            if !counts {
                other.context.slice_mut(s![row, i, ..]).fill(noise);
            }
        }
        prop_assert_eq!(step.search(), other.search());
        let mut together = step.search();
        let proposal = together.propose(&step.logits).unwrap();
        let choices = together.choose(&proposal, &step.hidden).unwrap();
        for (row, choice) in choices.into_iter().enumerate() {
            let mut alone = ContrastiveSearch::new(
                step.config(), &step.context.slice(s![row..=row, .., ..]), Some(&step.mask.slice(s![row..=row, ..]))).unwrap();
            let proposal = alone.propose(&step.logits.slice(s![row..=row, ..])).unwrap();
            let mut one = alone.choose(&proposal, &step.hidden.slice(s![row..=row, .., ..])).unwrap()[0];
            one.cache_row += row * step.k;
            prop_assert_eq!(one, choice);
        }
    }

    #[test]
    fn contrasts_match_the_reference(
        (last, premature) in (1..4_usize, 1..9_usize, 1..5_usize).prop_flat_map(|(batch, vocab, layers)| {
            (array3([1, batch, vocab], 6.0).prop_map(|x| x.remove_axis(Axis(0))), array3([layers, batch, vocab], 6.0))
        }),
        relative_top in prop_oneof![4 => 0.0..=1.0, 1 => Just(0.0), 1 => Just(0.1)],
        reversed in any::<bool>(), per_batch in any::<bool>(),
    ) {
        let config = DolaConfig::paper()
            .with_relative_top(relative_top)
            .with_divergence(if reversed { Divergence::Reversed } else { Divergence::JensenShannon })
            .with_choice(if per_batch { LayerChoice::PerBatch } else { LayerChoice::PerRow });
        let found = dola::contrast(&last, &premature, &config).unwrap();
        let (layers, batch, vocab) = premature.dim();
        let softmax = |x: ndarray::ArrayView1<'_, f64>| reference::speculative::softmax(&x.to_vec());
        let distance = |layer: usize, row: usize| {
            reference::dola::divergence(&softmax(last.row(row)), &softmax(premature.slice(s![layer, row, ..])), reversed)
        };
        for row in 0..batch {
            let of = |layer: usize| -> f64 {
                if per_batch { (0..batch).map(|row| distance(layer, row)).sum() } else { distance(layer, row) }
            };
            let most = (0..layers).map(of).fold(MASKED, f64::max);
            let layer = found.layers[row];
            prop_assert!(of(layer) >= most - 1e-12);
            if layers > 1 {
                prop_assert!((found.divergences[[layer, row]] - distance(layer, row)).abs() < 1e-12);
            }
            let p = softmax(last.row(row));
            let max = p.iter().copied().fold(0.0, f64::max);
            let expected = reference::dola::contrast(&last.row(row).to_vec(), &premature.slice(s![layer, row, ..]).to_vec(), relative_top);
            for token in 0..vocab {
                if (p[token] - relative_top * max).abs() < 1e-12 && p[token] < max {
                    continue; // rounding decides whether it stays
                }
                let x = found.logits[[row, token]];
                prop_assert!(x == expected[token] || (x - expected[token]).abs() < 1e-12, "{x} {}", expected[token]);
            }
        }
    }

    /// The paper's divergence is symmetric, and at most ln 2.
    #[test]
    fn the_divergence_is_bounded(last in array3([1, 2, 6], 30.0), other in array3([2, 2, 6], 30.0)) {
        let last = last.remove_axis(Axis(0));
        let there = dola::contrast(&last, &other, &DolaConfig::paper().with_relative_top(1.0)).unwrap();
        for layer in 0..2 {
            let mut back = other.clone();
            back.slice_mut(s![layer, .., ..]).assign(&last);
            let last = other.index_axis(Axis(0), layer);
            let back = dola::contrast(&last, &back, &DolaConfig::paper().with_relative_top(1.0)).unwrap();
            for row in 0..2 {
                let d = there.divergences[[layer, row]];
                prop_assert!((-1e-15..=2_f64.ln() + 1e-12).contains(&d));
                prop_assert!((back.divergences[[layer, row]] - d).abs() < 1e-12);
            }
        }
    }
}

/// Probabilities 0.6 and 0.3; cosines 1 and 0. At alpha 0.2: 0.48 - 0.2 = 0.28 and 0.24; at 0.4: -0.04 and 0.18.
#[test]
fn the_penalty_outweighs_probability_from_some_alpha_on() {
    let context = array![[[2.0_f64, 0.0, 0.0], [0.0, 1.0, 0.0]]];
    let logits = array![[0.6_f64.ln(), 0.3_f64.ln(), 0.1_f64.ln()]];
    let hidden = array![[[0.5, 0.0, 0.0], [0.0, 0.0, 7.0]]];
    for (alpha, token, score) in [(0.2, 0, 0.28), (0.4, 1, 0.18)] {
        let config = ContrastiveConfig::new(2, alpha).unwrap();
        let mut search = ContrastiveSearch::new(config, &context, None).unwrap();
        let proposal = search.propose(&logits).unwrap();
        assert_eq!(proposal.tokens, array![[0, 1]]);
        let choice = search.choose(&proposal, &hidden).unwrap()[0];
        assert_eq!(choice.token, token);
        assert!((choice.score - score).abs() < 1e-15);
    }
}

#[test]
fn masked_candidates_and_zero_states_are_harmless() {
    let context = array![[[1.0_f32, 1.0]]];
    let config = ContrastiveConfig::new(2, 1.0).unwrap();
    let mut search = ContrastiveSearch::new(config, &context, None).unwrap();
    // The second candidate has probability 0, and would have the smaller penalty.
    let proposal = search.propose(&array![[f32::NEG_INFINITY, 1.0]]).unwrap();
    assert_eq!(proposal.tokens, array![[1, 0]]);
    let choice = search
        .choose(&proposal, &array![[[1.0, 1.0], [-1.0, -1.0]]])
        .unwrap()[0];
    assert_eq!(choice.token, 1);
    let choice = search
        .choose(&proposal, &array![[[0.0, 0.0], [-1.0, -1.0]]])
        .unwrap()[0];
    assert_eq!((choice.token, choice.penalty), (1, 0.0));
    // No features at all.
    let mut none = ContrastiveSearch::new(config, &Array3::<f32>::zeros([1, 1, 0]), None).unwrap();
    assert_eq!(
        none.choose(&proposal, &Array3::zeros([1, 2, 0])).unwrap()[0].penalty,
        0.0
    );
}

/// p = (1/2, 1/2, 0), q = (1/2, 0, 1/2), m = (1/2, 1/4, 1/4): KL(p, m) = KL(q, m) = 1/2 ln 2, and so is their mean.
/// The other way round one term is 1/4 ln(1/4 / 0): infinite.
#[test]
fn the_divergence_of_thirds_is_known() {
    let last = array![[0.0, 0.0, MASKED]];
    let premature = array![[[0.0, MASKED, 0.0]], [[0.0, 0.0, MASKED]]];
    let config = DolaConfig::paper().with_relative_top(1.0);
    let error = dola::contrast(&last, &premature, &config);
    // The farthest layer rules token 1 out.
    assert!(error.is_err());
    let nearer = array![[[0.0, -700.0, 0.0]], [[0.0, 0.0, MASKED]]];
    let found = dola::contrast(&last, &nearer, &config).unwrap();
    assert_eq!(found.layers, [0]);
    assert!((found.divergences[[0, 0]] - 2_f64.ln() / 2.0).abs() < 1e-15);
    assert_eq!(found.divergences[[1, 0]], 0.0);
    assert!((found.logits[[0, 0]]).abs() < 1e-15);
    assert_eq!(found.logits[[0, 2]], MASKED);
    let reversed = config.with_divergence(Divergence::Reversed);
    let found = dola::contrast(&last, &nearer, &reversed).unwrap();
    assert_eq!(found.divergences[[0, 0]], f64::INFINITY);
}

#[test]
fn rows_may_have_their_own_layers() {
    let last = array![[0.0_f32, 1.0], [1.0, 0.0]];
    let premature = array![[[0.0, 1.0], [-3.0, 0.0]], [[2.0, 1.0], [1.0, 0.0]]];
    let per_row = dola::contrast(&last, &premature, &DolaConfig::paper()).unwrap();
    assert_eq!(per_row.layers, [1, 0]);
    let per_batch = dola::contrast(&last, &premature, &DolaConfig::hugging_face()).unwrap();
    assert_eq!(per_batch.layers, [0, 0]);
    let one = dola::contrast(
        &last,
        &premature.slice(s![..1, .., ..]),
        &DolaConfig::paper(),
    )
    .unwrap();
    assert_eq!(
        (one.layers, one.divergences),
        (vec![0, 0], array![[0.0, 0.0]])
    );
}

#[test]
fn candidate_layers_are_those_of_the_library() {
    let low = |n, tied| candidate_layers(n, tied, DolaLayers::Low);
    let high = |n| candidate_layers(n, false, DolaLayers::High);
    assert_eq!(low(32, false), [0, 2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(low(32, true), [2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(low(48, false), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    assert_eq!(high(32), [16, 18, 20, 22, 24, 26, 28, 30]);
    assert_eq!(high(41), [21, 23, 25, 27, 29, 31, 33, 35, 37, 39]);
    assert_eq!(
        (low(4, true), low(2, true), low(1, true), low(1, false)),
        (vec![2], vec![1], vec![0], vec![0])
    );
    assert_eq!((high(1), high(0)), (vec![0], vec![]));
}
