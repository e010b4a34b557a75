//! One test for each error of a processor.

use llm_sampling::bad_words::BadWords;
use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::forced_tokens::{ForcedBos, ForcedEos};
use llm_sampling::guidance::{GuidanceSpace, guide};
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::{EncoderNoRepeatNgram, NoRepeatNgram};
use llm_sampling::prefix_allowed::{PrefixAllowed, apply_beams_inplace};
use llm_sampling::processor::apply_inplace;
use llm_sampling::repetition_penalty::{
    EncoderRepetitionPenalty, PenaltyWindow, RepetitionPenalty,
};
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_h::TopH;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::typical::Typical;
use llm_sampling::watermark::{Seeding, Watermark};
use llm_sampling::{Context, Processor, SamplingError, Sources};
use ndarray::{Array2, array};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Expects the error, and unchanged logits.
fn refused(logits: &Array2<f32>, error: SamplingError, processor: &dyn Processor<f32>) {
    let contexts = vec![Context::new(&[0], &[0, 0]); logits.nrows()];
    let mut changed = logits.clone();
    assert_eq!(
        apply_inplace(&mut changed, &contexts, processor),
        Err(error)
    );
    let bits = |x: &Array2<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&changed), bits(logits));
}

fn filters() -> Vec<Box<dyn Processor<f32>>> {
    vec![
        Box::new(TopP::new(0.5, SumFrom::Smallest, 1).unwrap()),
        Box::new(MinP::new(0.5, 1).unwrap()),
        Box::new(Typical::new(0.5, 1).unwrap()),
        Box::new(Typical::new(1.0, 1).unwrap()),
        Box::new(EpsilonCutoff::new(0.5, 1).unwrap()),
        Box::new(EtaCutoff::new(0.5, 1).unwrap()),
        Box::new(TopH::new(0.5).unwrap()),
        Box::new(LogNormalization),
    ]
}

#[test]
fn logits_without_probabilities_are_refused_by_filters() {
    for filter in filters() {
        refused(
            &array![[1.0, 2.0], [NAN, INF]],
            SamplingError::NanLogits { row: 1, token: 0 },
            &*filter,
        );
        refused(
            &array![[1.0, 2.0], [1.0, INF]],
            SamplingError::InfiniteLogits { row: 1, token: 1 },
            &*filter,
        );
        refused(
            &array![[1.0, 2.0], [-INF, -INF]],
            SamplingError::MaskedRow { row: 1 },
            &*filter,
        );
    }
    let nan = array![[1.0, 2.0], [1.0, NAN]];
    let error = SamplingError::NanLogits { row: 1, token: 1 };
    refused(&nan, error, &TopK::new(1, Ties::Kept, 1).unwrap());
    refused(&nan, error, &Temperature::new(2.0).unwrap());
    let first = |_: &Context<'_>, ids: &mut Vec<u32>| ids.push(0);
    refused(&nan, error, &PrefixAllowed::new(first));
}

#[test]
fn errors_name_the_token_and_not_its_place_among_what_is_left() {
    let mut candidates = llm_sampling::Candidates::new();
    candidates.fill(&[-INF, -INF, 1.0, NAN]).unwrap();
    candidates.compact();
    let context = Context::new(&[], &[]);
    let error = SamplingError::NanLogits { row: 0, token: 3 };
    for filter in filters() {
        assert_eq!(filter.apply(&mut candidates, &context), Err(error));
    }
    candidates.fill(&[-INF, -INF, 1.0, 3e38]).unwrap();
    candidates.compact();
    let temperature = Temperature::new(0.5).unwrap();
    assert!(matches!(
        temperature.apply(&mut candidates, &context),
        Err(SamplingError::TemperatureOverflow { token: 3, .. })
    ));
}

#[test]
fn numbers_outside_of_their_interval_are_refused() {
    for p in [0.0, -0.1, 1.0 + f64::EPSILON, f64::INFINITY] {
        assert_eq!(Typical::new(p, 1), Err(SamplingError::TypicalP(p)));
        assert_eq!(TopH::new(p), Err(SamplingError::TopH(p)));
        assert_eq!(
            TopP::new(p, SumFrom::Largest, 1),
            Err(SamplingError::TopP(p))
        );
    }
    for e in [0.0, 1.0, -0.1, f64::INFINITY] {
        assert_eq!(
            EpsilonCutoff::new(e, 1),
            Err(SamplingError::EpsilonCutoff(e))
        );
        assert_eq!(EtaCutoff::new(e, 1), Err(SamplingError::EtaCutoff(e)));
        let green = |e| Watermark::new(e, 1.0, 1, Seeding::LeftHash, 1);
        assert_eq!(green(e), Err(SamplingError::GreenRatio(e)));
    }
    for p in [-0.1, 1.1, f64::INFINITY] {
        assert_eq!(MinP::new(p, 1), Err(SamplingError::MinP(p)));
    }
    for f in [0.0, -1.0, f64::INFINITY] {
        assert_eq!(
            ExponentialDecayLength::new(1, f, vec![]),
            Err(SamplingError::LengthFactor(f))
        );
        assert_eq!(
            RepetitionPenalty::new(f, PenaltyWindow::All),
            Err(SamplingError::RepetitionPenalty(f))
        );
        assert_eq!(
            EncoderRepetitionPenalty::new(f, Sources::one(vec![])),
            Err(SamplingError::RepetitionPenalty(f))
        );
        assert_eq!(Temperature::new(f), Err(SamplingError::Temperature(f)));
    }
    // Its reciprocal is infinite.
    assert!(EncoderRepetitionPenalty::new(1e-320, Sources::one(vec![])).is_err());
    assert_eq!(
        Watermark::new(0.5, f64::INFINITY, 1, Seeding::LeftHash, 1),
        Err(SamplingError::WatermarkBias(f64::INFINITY))
    );
}

#[test]
fn numbers_that_are_none_are_refused() {
    const NAN: f64 = f64::NAN;
    assert!(matches!(Typical::new(NAN, 1), Err(SamplingError::TypicalP(x)) if x.is_nan()));
    assert!(matches!(TopH::new(NAN), Err(SamplingError::TopH(x)) if x.is_nan()));
    assert!(
        matches!(EpsilonCutoff::new(NAN, 1), Err(SamplingError::EpsilonCutoff(x)) if x.is_nan())
    );
    assert!(matches!(EtaCutoff::new(NAN, 1), Err(SamplingError::EtaCutoff(x)) if x.is_nan()));
    assert!(matches!(MinP::new(NAN, 1), Err(SamplingError::MinP(x)) if x.is_nan()));
    assert!(Temperature::new(NAN).is_err());
    assert!(TopP::new(NAN, SumFrom::Largest, 1).is_err());
    assert!(ExponentialDecayLength::new(1, NAN, vec![]).is_err());
    assert!(RepetitionPenalty::new(NAN, PenaltyWindow::All).is_err());
    assert!(EncoderRepetitionPenalty::new(NAN, Sources::one(vec![])).is_err());
    assert!(SequenceBias::new([(vec![1], NAN)]).is_err());
    assert!(Watermark::new(NAN, 1.0, 1, Seeding::LeftHash, 1).is_err());
    assert!(Watermark::new(0.5, NAN, 1, Seeding::LeftHash, 1).is_err());
    let x = array![[1.0_f32]];
    assert!(
        matches!(guide(&x, &x, NAN, GuidanceSpace::Logits), Err(SamplingError::GuidanceScale(x)) if x.is_nan())
    );
}

#[test]
fn counts_of_zero_are_refused() {
    let error = SamplingError::MinTokensToKeep(0);
    assert_eq!(Typical::new(0.5, 0), Err(error));
    assert_eq!(EpsilonCutoff::new(0.5, 0), Err(error));
    assert_eq!(EtaCutoff::new(0.5, 0), Err(error));
    assert_eq!(MinP::new(0.5, 0), Err(error));
    assert_eq!(TopK::new(1, Ties::Kept, 0), Err(error));
    assert_eq!(TopK::new(0, Ties::Kept, 1), Err(SamplingError::TopK(0)));
    assert_eq!(TopP::new(0.5, SumFrom::Largest, 0), Err(error));
    assert_eq!(NoRepeatNgram::new(0), Err(SamplingError::NgramSize(0)));
    assert_eq!(
        EncoderNoRepeatNgram::new(0, Sources::one(vec![])),
        Err(SamplingError::NgramSize(0))
    );
    assert_eq!(
        Watermark::new(0.5, 1.0, 1, Seeding::SelfHash, 0),
        Err(SamplingError::WatermarkContext(0))
    );
    let beams = SamplingError::BeamRows {
        batch: 1,
        n_beams: 0,
    };
    assert_eq!(Sources::new(vec![vec![1]], 0), Err(beams));
}

#[test]
fn sequences_without_tokens_or_with_an_infinite_bias_are_refused() {
    let empty = SamplingError::EmptySequence { index: 1 };
    assert_eq!(
        SequenceBias::new([(vec![1], 1.0), (vec![], 1.0)]),
        Err(empty)
    );
    assert_eq!(BadWords::new([vec![1], vec![]], &[]), Err(empty));
    assert_eq!(
        SequenceBias::new([(vec![1], f64::INFINITY)]),
        Err(SamplingError::SequenceBias(f64::INFINITY))
    );
}

#[test]
fn tokens_that_the_vocabulary_does_not_have_are_refused() {
    let logits = array![[1.0, 2.0, 3.0]];
    let error = SamplingError::TokenId { token: 3, vocab: 3 };
    // In any place of a sequence, whether it matches or not.
    for sequence in [vec![3], vec![3, 1], vec![1, 3]] {
        let bias = SequenceBias::new([(sequence.clone(), 1.0), (vec![0], 1.0)]).unwrap();
        refused(&logits, error, &bias);
        refused(&logits, error, &BadWords::new([sequence], &[]).unwrap());
    }
    refused(&logits, error, &ForcedEos::new(4, vec![1, 3]));
    let decay = ExponentialDecayLength::new(0, 1.1, vec![1, 3]).unwrap();
    refused(&logits, error, &decay);
    let beyond = |_: &Context<'_>, ids: &mut Vec<u32>| ids.extend([3, 1]);
    refused(&logits, error, &PrefixAllowed::new(beyond));
    let mut row = logits;
    assert_eq!(
        apply_inplace(&mut row, &[Context::new(&[0], &[])], &ForcedBos::new(3)),
        Err(error)
    );
}

#[test]
fn rows_without_an_allowed_token_are_refused() {
    let logits = array![[1.0, 2.0], [1.0, 2.0]];
    let error = SamplingError::NoAllowedTokens { row: 0 };
    refused(&logits, error, &ForcedEos::new(4, vec![]));
    let only_first = |context: &Context<'_>, ids: &mut Vec<u32>| {
        if context.row == 0 {
            ids.push(0);
        }
    };
    let error = SamplingError::NoAllowedTokens { row: 1 };
    refused(&logits, error, &PrefixAllowed::new(only_first));
    let mut changed = logits.clone();
    let contexts = [Context::new(&[], &[]); 2];
    let result = apply_beams_inplace(&mut changed, &contexts, 2, &PrefixAllowed::new(only_first));
    assert_eq!(result, Err(error));
    assert_eq!(changed, logits);
}

#[test]
fn rows_that_are_no_groups_of_beams_are_refused() {
    let mut logits = array![[1.0, 2.0], [1.0, 2.0]];
    let any = PrefixAllowed::new(|_: &Context<'_>, ids: &mut Vec<u32>| ids.push(0));
    let contexts = [Context::new(&[], &[]); 2];
    for n_beams in [0, 3] {
        let error = SamplingError::BeamRows { batch: 2, n_beams };
        assert_eq!(
            apply_beams_inplace(&mut logits, &contexts, n_beams, &any),
            Err(error)
        );
    }
    let error = SamplingError::Contexts {
        expected: 2,
        got: 1,
    };
    assert_eq!(
        apply_beams_inplace(&mut logits, &contexts[..1], 2, &any),
        Err(error)
    );
    let mut nothing = Array2::<f32>::zeros([0, 2]);
    assert_eq!(apply_beams_inplace(&mut nothing, &[], 2, &any), Ok(()));
}

#[test]
fn rows_without_a_source_are_refused() {
    let logits = array![[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]];
    let sources = Sources::new(vec![vec![0]], 2).unwrap();
    let error = SamplingError::Source {
        row: 2,
        n_beams: 2,
        len: 1,
    };
    let penalty = EncoderRepetitionPenalty::new(2.0, sources.clone()).unwrap();
    refused(&logits, error, &penalty);
    let no_repeat = EncoderNoRepeatNgram::new(2, sources).unwrap();
    refused(&logits, error, &no_repeat);
}

#[test]
fn a_penalty_on_nan_is_refused() {
    let logits = array![[1.0, 2.0], [NAN, 1.0]];
    let error = SamplingError::NanLogits { row: 1, token: 0 };
    let penalty = RepetitionPenalty::new(2.0, PenaltyWindow::All).unwrap();
    refused(&logits, error, &penalty);
    let penalty = EncoderRepetitionPenalty::new(2.0, Sources::one(vec![0])).unwrap();
    refused(&logits, error, &penalty);
}

#[test]
fn guidance_refuses_what_it_cannot_compare() {
    let (c, u) = (array![[1.0_f32, 2.0]], array![[1.0_f32]]);
    let error = SamplingError::GuidanceShape {
        expected: (1, 2),
        got: (1, 1),
    };
    for space in [GuidanceSpace::Logits, GuidanceSpace::LogProbabilities] {
        assert_eq!(guide(&c, &u, 2.0, space), Err(error));
        for bad in [f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(
                guide(&c, &c, bad, space),
                Err(SamplingError::GuidanceScale(bad))
            );
        }
        let (fine, nan) = (
            array![[1.0, 2.0], [1.0, 2.0]],
            array![[1.0, 2.0], [1.0, NAN]],
        );
        let error = SamplingError::NanLogits { row: 1, token: 1 };
        assert_eq!(guide(&fine, &nan, 2.0, space), Err(error));
        assert_eq!(guide(&nan, &fine, 2.0, space), Err(error));
        let inf = array![[1.0, 2.0], [INF, 1.0]];
        let error = SamplingError::InfiniteLogits { row: 1, token: 0 };
        assert_eq!(guide(&inf, &fine, 2.0, space), Err(error));
        let huge = array![[1.0, 2.0], [-3e38, 3e38]];
        let error = SamplingError::GuidanceOverflow { row: 1, token: 0 };
        assert_eq!(guide(&huge, &fine, 2.0, space), Err(error));
        let none = Array2::<f32>::zeros([2, 0]);
        assert_eq!(
            guide(&none, &none, 2.0, space),
            Err(SamplingError::Vocab(0))
        );
        let masked = array![[1.0, 2.0], [-INF, -INF]];
        let result = guide(&masked, &fine, 2.0, space);
        if space == GuidanceSpace::Logits {
            assert_eq!(result, Ok(array![[1.0, 2.0], [-INF, -INF]]));
        } else {
            assert_eq!(result, Err(SamplingError::MaskedRow { row: 1 }));
        }
    }
}

#[test]
fn a_watermark_is_not_looked_for_in_too_few_tokens() {
    let watermark = Watermark::new(0.5, 1.0, 1, Seeding::LeftHash, 3).unwrap();
    let error = SamplingError::WatermarkTokens { needed: 4, got: 3 };
    assert_eq!(watermark.detect(&[1, 2, 3]), Err(error));
    assert!(watermark.detect(&[1, 2, 3, 4]).is_ok());
    let huge = Watermark::new(0.5, 1.0, 1, Seeding::LeftHash, usize::MAX).unwrap();
    assert!(huge.detect(&[1, 2, 3]).is_err());
}
