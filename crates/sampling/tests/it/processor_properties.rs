//! Laws of processors: what they do to any row, in any form, after any other.

use core::fmt;
use std::rc::Rc;

use llm_sampling::bad_words::BadWords;
use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::forced_tokens::{ForcedBos, ForcedEos};
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::min_length::{MinLength, MinNewTokens};
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::{EncoderNoRepeatNgram, NoRepeatNgram};
use llm_sampling::prefix_allowed::PrefixAllowed;
use llm_sampling::processor::apply_inplace;
use llm_sampling::remove_invalid::RemoveInvalid;
use llm_sampling::repetition_penalty::{
    EncoderRepetitionPenalty, PenaltyWindow, RepetitionPenalty,
};
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::suppress::{BeginSuppress, Suppress};
use llm_sampling::temperature::Temperature;
use llm_sampling::top_h::TopH;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::typical::Typical;
use llm_sampling::watermark::{Seeding, Watermark};
use llm_sampling::{Candidates, Context, Processor, Sources};
use ndarray::Array2;
use proptest::prelude::*;

const MASKED: f64 = f64::NEG_INFINITY;
const VOCAB: u32 = 12;

/// A processor with its name.
#[derive(Clone)]
struct Named(&'static str, Rc<dyn Processor<f64>>);

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn named(name: &'static str, processor: impl Processor<f64> + 'static) -> Named {
    Named(name, Rc::new(processor))
}

/// A row of logits with one at least that is not masked; ties are frequent, and sums of a grid are exact.
pub(crate) fn row() -> impl Strategy<Value = Vec<f64>> {
    let logit = prop_oneof![
        1 => Just(MASKED),
        3 => (-3..4_i32).prop_map(f64::from),
        4 => (-400..400_i32).prop_map(|x| f64::from(x) / 64.0),
    ];
    let n = VOCAB as usize;
    (prop::collection::vec(logit, n), 0..n).prop_map(|(mut row, stays)| {
        if row[stays] == MASKED {
            row[stays] = 0.5;
        }
        row
    })
}

pub(crate) fn tokens(max: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCAB / 3, 0..=max)
}

fn ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..VOCAB, 1..4)
}

/// Filters: they mask or keep.
fn filter() -> BoxedStrategy<Named> {
    let least = 1..5_usize;
    prop_oneof![
        (1..14_usize, least.clone())
            .prop_map(|(k, n)| named("top_k", TopK::new(k, Ties::Kept, n).unwrap())),
        (1..14_usize, least.clone())
            .prop_map(|(k, n)| named("top_k exact", TopK::new(k, Ties::Exact, n).unwrap())),
        (0.01..1.0, least.clone())
            .prop_map(|(p, n)| named("top_p", TopP::new(p, SumFrom::Smallest, n).unwrap())),
        (0.01..1.0, least.clone()).prop_map(|(p, n)| named(
            "top_p from the largest",
            TopP::new(p, SumFrom::Largest, n).unwrap()
        )),
        (0.0..1.0, least.clone()).prop_map(|(p, n)| named("min_p", MinP::new(p, n).unwrap())),
        (0.001..0.999, least.clone())
            .prop_map(|(e, n)| named("epsilon", EpsilonCutoff::new(e, n).unwrap())),
        (0.001..0.999, least.clone())
            .prop_map(|(e, n)| named("eta", EtaCutoff::new(e, n).unwrap())),
        (0.01..1.0).prop_map(|h| named("top_h", TopH::new(h).unwrap())),
        (0.01..1.0, least).prop_map(|(p, n)| named("typical", Typical::new(p, n).unwrap())),
    ]
    .boxed()
}

/// Processors that mask tokens by what came before, whatever the logits are.
fn mask() -> BoxedStrategy<Named> {
    prop_oneof![
        ids().prop_map(|t| named("suppress", Suppress::new(t))),
        (ids(), 0..9_usize).prop_map(|(t, n)| named("begin_suppress", BeginSuppress::new(t, n))),
        (ids(), 0..9_usize).prop_map(|(t, n)| named("min_length", MinLength::new(n, t))),
        (ids(), 0..5_usize).prop_map(|(t, n)| named("min_new_tokens", MinNewTokens::new(n, t))),
        (1..4_usize).prop_map(|n| named("no_repeat_ngram", NoRepeatNgram::new(n).unwrap())),
        (1..4_usize, tokens(9)).prop_map(|(n, source)| named(
            "encoder_no_repeat_ngram",
            EncoderNoRepeatNgram::new(n, Sources::one(source)).unwrap()
        )),
        prop::collection::vec(prop::collection::vec(0..VOCAB / 3, 1..4), 0..6)
            .prop_map(|words| named("bad_words", BadWords::new(words, &[0]).unwrap())),
    ]
    .boxed()
}

/// Processors that change logits, but bring none back.
fn change() -> BoxedStrategy<Named> {
    let sequence = prop::collection::vec(0..VOCAB / 3, 1..3);
    prop_oneof![
        (0.1..5.0).prop_map(|t| named("temperature", Temperature::new(t).unwrap())),
        Just(named("log_normalization", LogNormalization)),
        (0.5..2.0).prop_map(|p| named(
            "repetition_penalty",
            RepetitionPenalty::new(p, PenaltyWindow::All).unwrap()
        )),
        (0.5..2.0, tokens(6)).prop_map(|(p, source)| named(
            "encoder_repetition_penalty",
            EncoderRepetitionPenalty::new(p, Sources::one(source)).unwrap()
        )),
        prop::collection::vec((sequence, -2.0..2.0), 0..5)
            .prop_map(|biases| named("sequence_bias", SequenceBias::new(biases).unwrap())),
        (0..4_usize, 0.7..1.4, ids()).prop_map(|(start, f, t)| named(
            "exponential_decay_length",
            ExponentialDecayLength::new(start, f, t).unwrap()
        )),
        (0.1..0.9, 0..2_usize).prop_map(|(ratio, self_hash)| {
            let seeding = [Seeding::LeftHash, Seeding::SelfHash][self_hash];
            named(
                "watermark",
                Watermark::new(ratio, 2.0, 5, seeding, 2).unwrap(),
            )
        }),
    ]
    .boxed()
}

/// Processors that may give a masked token a finite logit.
fn unmask() -> BoxedStrategy<Named> {
    prop_oneof![
        (0..VOCAB).prop_map(|t| named("forced_bos", ForcedBos::new(t))),
        (0..9_usize, ids()).prop_map(|(n, t)| named("forced_eos", ForcedEos::new(n, t))),
        ids().prop_map(|t| named(
            "prefix_allowed",
            PrefixAllowed::new(move |_: &Context<'_>, ids: &mut Vec<u32>| ids.extend(&t))
        )),
        Just(named("remove_invalid", RemoveInvalid)),
    ]
    .boxed()
}

fn run(logits: &[f64], processor: &Named, prompt: &[u32], generated: &[u32]) -> Vec<f64> {
    let mut x = Array2::from_shape_vec([1, logits.len()], logits.to_vec()).unwrap();
    apply_inplace(&mut x, &[Context::new(prompt, generated)], &*processor.1).unwrap();
    x.into_raw_vec_and_offset().0
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn count(row: &[f64]) -> usize {
    row.iter().filter(|x| **x > MASKED).count()
}

proptest! {
    /// No kept logit is changed, something stays, and the order of likelihood decides (but for typical sampling, which may drop the likeliest).
    #[test]
    fn filters_mask_or_keep_and_keep_the_likeliest(row in row(), filter in filter()) {
        let out = run(&row, &filter, &[], &[]);
        prop_assert!(out.iter().zip(&row).all(|(y, x)| y.to_bits() == x.to_bits() || *y == MASKED));
        prop_assert!(count(&out) > 0);
        if filter.0 != "typical" {
            let max = row.iter().copied().fold(MASKED, f64::max);
            prop_assert!(out.contains(&max));
            let smallest = out.iter().copied().filter(|x| *x > MASKED).fold(f64::INFINITY, f64::min);
            prop_assert!(row.iter().zip(&out).all(|(x, y)| *x <= smallest || x == y), "a larger one was masked");
        }
    }

    /// What a filter drops is left out, so that what follows has little to do.
    #[test]
    fn filters_leave_nothing_masked(row in row(), filter in prop_oneof![filter(), unmask()]) {
        let mut candidates = Candidates::new();
        candidates.fill(&row).unwrap();
        filter.1.apply(&mut candidates, &Context::new(&[0], &[])).unwrap();
        let acted = !(filter.0 == "forced_eos" && candidates.is_dense());
        prop_assert!(!acted || candidates.logits().iter().all(|x| *x > MASKED));
    }

    #[test]
    fn masks_mask_or_keep(row in row(), mask in mask(), prompt in tokens(6), generated in tokens(4)) {
        let out = run(&row, &mask, &prompt, &generated);
        prop_assert!(out.iter().zip(&row).all(|(y, x)| y.to_bits() == x.to_bits() || *y == MASKED));
    }

    /// Of a masked token nothing makes a choice again but what says so.
    #[test]
    fn masked_tokens_stay_masked(row in row(), p in prop_oneof![filter(), mask(), change()], prompt in tokens(6), generated in tokens(4)) {
        let out = run(&row, &p, &prompt, &generated);
        prop_assert!(row.iter().zip(&out).all(|(x, y)| *x > MASKED || *y == MASKED));
        prop_assert!(out.iter().all(|x| !x.is_nan() && *x < f64::INFINITY));
    }

    /// A row that was compacted gives what the dense one gives, and the other way round.
    #[test]
    fn compacted_rows_give_what_dense_ones_give(
        row in row(),
        p in prop_oneof![filter(), mask(), change(), unmask()],
        prompt in tokens(6),
        generated in tokens(4),
    ) {
        let context = Context::new(&prompt, &generated);
        let mut dense = Candidates::new();
        dense.fill(&row).unwrap();
        p.1.apply(&mut dense, &context).unwrap();
        dense.make_dense();
        let mut compacted = Candidates::new();
        compacted.fill(&row).unwrap();
        compacted.compact();
        prop_assert_eq!(compacted.logits().len(), count(&row));
        p.1.apply(&mut compacted, &context).unwrap();
        compacted.make_dense();
        if p.0 == "log_normalization" {
            // Sums are taken in another order.
            for (a, b) in compacted.logits().iter().zip(dense.logits()) {
                prop_assert!(a == b || (a - b).abs() < 1e-14);
            }
        } else {
            prop_assert!(same_bits(compacted.logits(), dense.logits()), "{:?} {:?}", compacted.logits(), dense.logits());
        }
    }

    /// What a row becomes does not depend on its neighbors, nor on what used the memory before.
    #[test]
    fn rows_of_a_batch_are_alone(
        rows in prop::collection::vec(row(), 1..5),
        p in prop_oneof![filter(), mask(), change(), unmask()],
        prompt in tokens(6),
        generated in tokens(4),
    ) {
        let vocab = VOCAB as usize;
        let mut together = Array2::from_shape_fn([rows.len(), vocab], |(i, j)| rows[i][j]);
        let contexts: Vec<_> = (0..rows.len()).map(|i| Context::new(&prompt[..prompt.len().min(i + 1)], &generated)).collect();
        apply_inplace(&mut together, &contexts, &*p.1).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let alone = run(row, &p, contexts[i].prompt, &generated);
            prop_assert!(same_bits(&together.row(i).to_vec(), &alone));
        }
    }

    /// Masks by what came before do not look at logits, so their order does not matter.
    #[test]
    fn masks_commute(row in row(), a in mask(), b in mask(), prompt in tokens(6), generated in tokens(4)) {
        let once = |first: &Named, second: &Named| run(&run(&row, first, &prompt, &generated), second, &prompt, &generated);
        prop_assert!(same_bits(&once(&a, &b), &once(&b, &a)));
        prop_assert!(same_bits(&once(&a, &a), &run(&row, &a, &prompt, &generated)), "twice is not once");
    }

    /// Filters look at probabilities, which a shift of all logits does not change. (The shift is exact here.)
    #[test]
    fn filters_do_not_see_a_shift(row in row(), filter in filter(), shift in -50..50_i32) {
        let shifted: Vec<f64> = row.iter().map(|x| x + f64::from(shift)).collect();
        let kept = |row: &[f64]| row.iter().map(|x| *x > MASKED).collect::<Vec<_>>();
        prop_assert_eq!(kept(&run(&row, &filter, &[], &[])), kept(&run(&shifted, &filter, &[], &[])));
    }

    /// A filter that asks for more keeps no less, and nothing else.
    #[test]
    fn what_a_stricter_filter_keeps_a_laxer_one_keeps(row in row(), a in 0.01..0.99, b in 0.01..0.99, least in 1..4_usize) {
        let (low, high) = (f64::min(a, b), f64::max(a, b));
        let pairs = [
            (named("min_p", MinP::new(high, least).unwrap()), named("min_p", MinP::new(low, least).unwrap())),
            (named("epsilon", EpsilonCutoff::new(high, least).unwrap()), named("epsilon", EpsilonCutoff::new(low, least).unwrap())),
            (named("eta", EtaCutoff::new(high, least).unwrap()), named("eta", EtaCutoff::new(low, least).unwrap())),
            (named("typical", Typical::new(low, least).unwrap()), named("typical", Typical::new(high, least).unwrap())),
            (named("top_h", TopH::new(low).unwrap()), named("top_h", TopH::new(high).unwrap())),
            (named("top_p", TopP::new(low, SumFrom::Smallest, least).unwrap()), named("top_p", TopP::new(high, SumFrom::Smallest, least).unwrap())),
            (named("top_k", TopK::new(least, Ties::Kept, 1).unwrap()), named("top_k", TopK::new(least + 2, Ties::Kept, 1).unwrap())),
        ];
        for (strict, lax) in pairs {
            let (few, many) = (run(&row, &strict, &[], &[]), run(&row, &lax, &[], &[]));
            prop_assert!(few.iter().zip(&many).all(|(x, y)| *x == MASKED || x == y), "{}: {few:?} {many:?}", strict.0);
        }
    }

    #[test]
    fn filters_keep_at_least_what_they_must(row in row(), p in 0.01..0.99, least in 1..14_usize) {
        let available = count(&row);
        for filter in [
            named("min_p", MinP::new(p, least).unwrap()),
            named("epsilon", EpsilonCutoff::new(p, least).unwrap()),
            named("eta", EtaCutoff::new(p, least).unwrap()),
            named("typical", Typical::new(p, least).unwrap()),
            named("top_k", TopK::new(1, Ties::Exact, least).unwrap()),
            named("top_p", TopP::new(p, SumFrom::Smallest, least).unwrap()),
        ] {
            prop_assert!(count(&run(&row, &filter, &[], &[])) >= least.min(available), "{}", filter.0);
        }
    }

    #[test]
    fn normalized_rows_are_log_probabilities(row in row()) {
        let once = run(&row, &named("log", LogNormalization), &[], &[]);
        prop_assert!((once.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-13);
        let gaps = |x: &[f64]| x.iter().map(|y| y - x.iter().copied().fold(MASKED, f64::max)).collect::<Vec<_>>();
        for (a, b) in gaps(&once).into_iter().zip(gaps(&row)) {
            prop_assert!(a == b || (a - b).abs() < 1e-13, "a difference of logits changed");
        }
    }

    /// A penalty and its reward undo each other.
    #[test]
    fn the_penalty_of_a_source_is_the_inverse(row in row(), penalty in 0.3..3.0, source in tokens(8)) {
        let there = run(&row, &named("", RepetitionPenalty::new(penalty, PenaltyWindow::All).unwrap()), &source, &[]);
        let back = run(&there, &named("", EncoderRepetitionPenalty::new(penalty, Sources::one(source)).unwrap()), &[], &[]);
        for (x, y) in back.iter().zip(&row) {
            prop_assert!(x == y || (x - y).abs() < 1e-14 * y.abs());
        }
    }

    // ANCHOR: law
    /// Whatever a model says, no sequence of `n` comes twice, and no forbidden word comes at all.
    #[test]
    fn sequences_keep_to_what_is_forbidden(
        logits in prop::collection::vec(prop::collection::vec(-3.0..3.0_f64, 5), 30),
        n in 1..4_usize,
        words in prop::collection::vec(prop::collection::vec(0..5_u32, 1..3), 0..3),
    ) {
        let no_repeat = NoRepeatNgram::new(n).unwrap();
        let bad_words = BadWords::new(words.clone(), &[]).unwrap();
        let mut made = Vec::new();
        let mut candidates = Candidates::new();
        for row in &logits {
            candidates.fill(row).unwrap();
            let context = Context::new(&[], &made);
            no_repeat.apply(&mut candidates, &context).unwrap();
            bad_words.apply(&mut candidates, &context).unwrap();
            let Ok(max) = candidates.max() else { break };
            let i = candidates.logits().iter().position(|x| *x == max).unwrap();
            made.extend(candidates.token(i));
        }
        let mut ngrams: Vec<_> = made.windows(n).collect();
        let all = ngrams.len();
        ngrams.sort();
        ngrams.dedup();
        prop_assert_eq!(ngrams.len(), all);
        for word in &words {
            prop_assert!(!made.windows(word.len()).any(|w| w == word));
        }
    }
    // ANCHOR_END: law

    /// Where it forces, nothing else is left; where it allows, nothing that is not allowed.
    #[test]
    fn what_is_forced_or_allowed_is_all_that_is_left(row in row(), ids in ids(), other in ids()) {
        let context = Context::new(&[3], &[]);
        let masked = {
            let mut c = Candidates::new();
            c.fill(&row).unwrap();
            Suppress::new(other).apply(&mut c, &context).unwrap();
            c.compact();
            c
        };
        let expected = |c: &Candidates<f64>| (0..c.logits().len())
.filter_map(|i| c.token(i)).collect::<Vec<_>>();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();

        let mut c = masked.clone();
        ForcedEos::new(2, ids.clone()).apply(&mut c, &context).unwrap();
        prop_assert_eq!(expected(&c), sorted.clone());
        prop_assert!(c.logits().iter().all(|x| *x == 0.0));

        let mut c = masked.clone();
        ForcedBos::new(ids[0]).apply(&mut c, &context).unwrap();
        prop_assert_eq!(expected(&c), vec![ids[0]]);

        let mut c = masked.clone();
        let allowed = ids.clone();
        PrefixAllowed::new(move |_: &Context<'_>, list: &mut Vec<u32>| list.extend(&allowed)).apply(&mut c, &context).unwrap();
        let alive: Vec<u32> = sorted.iter().copied().filter(|&t| masked.index(t).is_some()).collect();
        if alive.is_empty() {
            prop_assert_eq!(expected(&c), sorted);
            prop_assert!(c.logits().iter().all(|x| *x == 0.0));
        } else {
            prop_assert_eq!(expected(&c), alive.clone());
            prop_assert!(alive.iter().all(|&t| c.logits()[c.index(t).unwrap()] == row[t as usize]));
        }
    }
}
