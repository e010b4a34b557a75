//! Each processor does what its textbook form does.

use llm_sampling::bad_words::BadWords;
use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::guidance::{GuidanceSpace, guide};
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::{EncoderNoRepeatNgram, NoRepeatNgram};
use llm_sampling::prefix_allowed::{PrefixAllowed, apply_beams_inplace};
use llm_sampling::processor::apply_inplace;
use llm_sampling::remove_invalid::RemoveInvalid;
use llm_sampling::repetition_penalty::{
    EncoderRepetitionPenalty, PenaltyWindow, RepetitionPenalty,
};
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_h::TopH;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::typical::Typical;
use llm_sampling::{Context, Processor, Sources, reference};
use ndarray::Array2;
use proptest::prelude::*;

use super::processor_properties::{row, tokens};

fn run(
    logits: &[f64],
    processor: &impl Processor<f64>,
    prompt: &[u32],
    generated: &[u32],
) -> Vec<f64> {
    let mut x = Array2::from_shape_vec([1, logits.len()], logits.to_vec()).unwrap();
    apply_inplace(&mut x, &[Context::new(prompt, generated)], processor).unwrap();
    x.into_raw_vec_and_offset().0
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.iter()
        .zip(b)
        .all(|(a, b)| a == b || (a - b).abs() <= 1e-12 * b.abs().max(1.0))
}

/// A long row of usual logits, so that there is something to sort.
fn long_row() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        row(),
        prop::collection::vec(-9.0..9.0_f64, 1..300),
        prop::collection::vec((-20..20_i32).prop_map(|x| f64::from(x) / 4.0), 1..300),
    ]
}

proptest! {
    /// In `f64`, and in `f32` where rounding does not decide.
    #[test]
    fn filters_match_the_reference(row in long_row(), p in 0.001..0.999, least in 1..6_usize) {
        type Textbook = fn(&[f64], f64, usize) -> Vec<f64>;
        type Filter = fn(f64, usize) -> (Box<dyn Processor<f64>>, Box<dyn Processor<f32>>);
        let filters: [(Textbook, Filter); 7] = [
            (reference::min_p::apply, |p, n| (Box::new(MinP::new(p, n).unwrap()), Box::new(MinP::new(p, n).unwrap()))),
            (reference::epsilon_cutoff::apply, |p, n| (Box::new(EpsilonCutoff::new(p, n).unwrap()), Box::new(EpsilonCutoff::new(p, n).unwrap()))),
            (reference::eta_cutoff::apply, |p, n| (Box::new(EtaCutoff::new(p, n).unwrap()), Box::new(EtaCutoff::new(p, n).unwrap()))),
            (reference::typical::apply, |p, n| (Box::new(Typical::new(p, n).unwrap()), Box::new(Typical::new(p, n).unwrap()))),
            (|x, p, _| reference::top_h::apply(x, p), |p, _| (Box::new(TopH::new(p).unwrap()), Box::new(TopH::new(p).unwrap()))),
            (|x, p, n| reference::top_p::apply(x, p, SumFrom::Smallest, n), |p, n| {
                let top_p = TopP::new(p, SumFrom::Smallest, n).unwrap();
                (Box::new(top_p), Box::new(top_p))
            }),
            (|x, p, n| reference::top_k::apply(x, (p * 20.0) as usize + 1, Ties::Kept, n), |p, n| {
                let top_k = TopK::new((p * 20.0) as usize + 1, Ties::Kept, n).unwrap();
                (Box::new(top_k), Box::new(top_k))
            }),
        ];
        // Scaled so that small bounds are tried too.
        for (which, (textbook, filter)) in filters.into_iter().enumerate() {
            let p = if which < 3 { p * p * p } else { p };
            for (width, margin) in [(64, 1e-9), (32, 1e-4)] {
                let row: Vec<f64> = if width == 32 { row.iter().map(|x| f64::from(*x as f32)).collect() } else { row.clone() };
                let expected = textbook(&row, p, least);
                let near = |p: f64| textbook(&row, p.min(1.0), least) == expected;
                if !(near(p * (1.0 - margin)) && near(p * (1.0 + margin)) && near(1.0 - (1.0 - p) * (1.0 - margin)) && near(1.0 - (1.0 - p) * (1.0 + margin))) {
                    continue; // rounding may decide
                }
                let (wide, narrow) = filter(p, least);
                let context = [Context::new(&[], &[])];
                let got: Vec<f64> = if width == 64 {
                    let mut x = Array2::from_shape_vec([1, row.len()], row.clone()).unwrap();
                    apply_inplace(&mut x, &context, &*wide).unwrap();
                    x.into_iter().collect()
                } else {
                    let mut x = Array2::from_shape_fn([1, row.len()], |(_, i)| row[i] as f32);
                    apply_inplace(&mut x, &context, &*narrow).unwrap();
                    x.into_iter().map(f64::from).collect()
                };
                prop_assert_eq!(got, expected, "filter {}, f{}", which, width);
            }
        }
    }

    #[test]
    fn settings_that_keep_everything_do(row in long_row()) {
        prop_assert_eq!(&run(&row, &Typical::new(1.0, 1).unwrap(), &[], &[]), &row);
        prop_assert_eq!(&run(&row, &MinP::new(0.0, 1).unwrap(), &[], &[]), &row);
        prop_assert_eq!(run(&row, &TopH::new(1.0).unwrap(), &[], &[]), reference::top_k::apply(&row, 100, Ties::Exact, 1));
        prop_assert_eq!(&run(&row, &Temperature::new(1.0).unwrap(), &[], &[]), &row);
    }

    #[test]
    fn changes_match_the_reference(row in row(), t in 0.1..5.0, prompt in tokens(6), generated in tokens(4), skip in 0..12_usize) {
        prop_assert_eq!(run(&row, &Temperature::new(t).unwrap(), &[], &[]), reference::temperature::apply(&row, t));
        prop_assert!(close(&run(&row, &LogNormalization, &[], &[]), &reference::categorical::log_softmax(&row)));
        let all = [&prompt[..], &generated].concat();
        for (window, seen) in [
            (PenaltyWindow::All, &all[..]),
            (PenaltyWindow::Generated, &generated[..]),
            (PenaltyWindow::SkipFirst(skip), &all[skip.min(all.len())..]),
            (PenaltyWindow::Last(skip), &all[all.len().saturating_sub(skip)..]),
        ] {
            let penalty = RepetitionPenalty::new(t, window).unwrap();
            prop_assert_eq!(run(&row, &penalty, &prompt, &generated), reference::repetition_penalty::apply(&row, seen, t));
        }
        let penalty = EncoderRepetitionPenalty::new(t, Sources::one(prompt.clone())).unwrap();
        prop_assert!(close(&run(&row, &penalty, &[], &generated), &reference::repetition_penalty::apply(&row, &prompt, 1.0 / t)));
    }

    #[test]
    fn repeats_match_the_reference(row in row(), n in 1..5_usize, prompt in tokens(9), generated in tokens(9), source in tokens(9)) {
        let all = [&prompt[..], &generated].concat();
        let no_repeat = NoRepeatNgram::new(n).unwrap();
        prop_assert_eq!(run(&row, &no_repeat, &prompt, &generated), reference::no_repeat_ngram::apply(&row, &all, &all, n));
        let no_repeat = EncoderNoRepeatNgram::new(n, Sources::one(source.clone())).unwrap();
        prop_assert_eq!(run(&row, &no_repeat, &prompt, &generated), reference::no_repeat_ngram::apply(&row, &source, &all, n));
    }

    #[test]
    fn sequences_match_the_reference(
        row in row(),
        prompt in tokens(4),
        generated in tokens(4),
        biases in prop::collection::vec((prop::collection::vec(0..4_u32, 1..5), prop_oneof![9 => -3.0..3.0, 1 => Just(f64::NEG_INFINITY)]), 0..12),
        stop_ids in prop::collection::vec(0..4_u32, 0..2),
    ) {
        let all = [&prompt[..], &generated].concat();
        let bias = SequenceBias::new(biases.clone()).unwrap();
        prop_assert!(close(&run(&row, &bias, &prompt, &generated), &reference::sequence_bias::apply(&row, &all, &biases)));
        let words: Vec<Vec<u32>> = biases.into_iter().map(|(word, _)| word).collect();
        let bad_words = BadWords::new(words.clone(), &stop_ids).unwrap();
        prop_assert_eq!(run(&row, &bad_words, &prompt, &generated), reference::bad_words::apply(&row, &all, &words, &stop_ids));
    }

    #[test]
    fn lengths_match_the_reference(row in row(), factor in 0.5..1.5, start in 0..6_usize, generated in tokens(9), ids in prop::collection::vec(0..12_u32, 0..4)) {
        let n = generated.len().saturating_sub(start);
        let decay = ExponentialDecayLength::new(start, factor, ids.clone()).unwrap();
        let expected = reference::exponential_decay_length::apply(&row, &ids, factor, n);
        prop_assert!(close(&run(&row, &decay, &[1, 2], &generated), &expected));
    }

    #[test]
    fn invalid_numbers_match_the_reference(row in prop::collection::vec(prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), -9.0..9.0], 1..9)) {
        prop_assert_eq!(run(&row, &RemoveInvalid, &[], &[]), reference::remove_invalid::apply(&row, f64::MAX));
    }

    /// Beams of two sequences; with one beam the plain processor.
    #[test]
    fn allowed_tokens_match_the_reference(
        rows in prop::collection::vec(prop::collection::vec(prop_oneof![3 => Just(f64::NEG_INFINITY), 1 => -3.0..3.0], 5), 6),
        lists in prop::collection::vec(prop::collection::vec(0..5_u32, 1..3), 6),
        n_beams in prop_oneof![Just(1_usize), Just(2), Just(3), Just(6)],
    ) {
        let list = lists.clone();
        let processor = PrefixAllowed::new(move |context: &Context<'_>, ids: &mut Vec<u32>| ids.extend(&list[context.row]));
        let contexts = [Context::new(&[], &[]); 6];
        let logits = Array2::from_shape_fn([6, 5], |(i, j)| rows[i][j]);
        let mut beams = logits.clone();
        apply_beams_inplace(&mut beams, &contexts, n_beams, &processor).unwrap();
        let expected: Vec<Vec<f64>> = rows.chunks(n_beams).zip(lists.chunks(n_beams)).flat_map(|(rows, lists)| reference::prefix_allowed::apply(rows, lists)).collect();
        prop_assert_eq!(&beams, &Array2::from_shape_fn([6, 5], |(i, j)| expected[i][j]));
        if n_beams == 1 {
            let mut plain = logits;
            apply_inplace(&mut plain, &contexts, &processor).unwrap();
            prop_assert_eq!(plain, beams);
        }
    }

    #[test]
    fn guidance_matches_the_reference(c in row(), u in row(), scale in -2.0..8.0) {
        let array = |x: &[f64]| Array2::from_shape_vec([1, x.len()], x.to_vec()).unwrap();
        for space in [GuidanceSpace::Logits, GuidanceSpace::LogProbabilities] {
            let got = guide(&array(&c), &array(&u), scale, space).unwrap();
            prop_assert!(close(&got.row(0).to_vec(), &reference::guidance::guide(&c, &u, scale, space)));
        }
    }

    /// A scale of 1 is the conditional model, 0 the unconditional one, and what is between lies on a line.
    #[test]
    fn guidance_is_a_line(c in prop::collection::vec(-5.0..5.0_f64, 6), u in prop::collection::vec(-5.0..5.0_f64, 6), scale in -2.0..8.0) {
        let array = |x: &[f64]| Array2::from_shape_vec([1, x.len()], x.to_vec()).unwrap();
        let at = |scale, space| guide(&array(&c), &array(&u), scale, space).unwrap().into_raw_vec_and_offset().0;
        prop_assert!(close(&at(1.0, GuidanceSpace::Logits), &c));
        prop_assert!(close(&at(0.0, GuidanceSpace::Logits), &u));
        for space in [GuidanceSpace::Logits, GuidanceSpace::LogProbabilities] {
            let (zero, one) = (at(0.0, space), at(1.0, space));
            let line: Vec<f64> = zero.iter().zip(&one).map(|(z, o)| z + scale * (o - z)).collect();
            prop_assert!(close(&at(scale, space), &line));
        }
        prop_assert!(close(&at(1.0, GuidanceSpace::LogProbabilities), &run(&c, &LogNormalization, &[], &[])));
    }
}
