//! One test for each rule of the searches, of outputs and of stop strings; on an error nothing has changed.

mod drafts;

use llm_sampling::output::{Distribution, describe};
use llm_sampling::search::best_of::{SampleScore, best, majority, scores, weighted_majority};
use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
use llm_sampling::search::dola::{self, DolaConfig};
use llm_sampling::stream::StopStrings;
use llm_sampling::{Candidates, SamplingError};
use ndarray::{Array1, Array2, Array3, array};

const INF: f64 = f64::INFINITY;

fn axis(array: &'static str, axis: &'static str, expected: usize, got: usize) -> SamplingError {
    SamplingError::Axis {
        array,
        axis,
        expected,
        got,
    }
}

#[test]
fn contrastive_search_refuses_what_it_cannot_compare() {
    assert_eq!(ContrastiveConfig::new(0, 0.5), Err(SamplingError::TopK(0)));
    for alpha in [-0.1, 1.1, INF] {
        assert_eq!(
            ContrastiveConfig::new(1, alpha),
            Err(SamplingError::Alpha(alpha))
        );
    }
    assert!(
        matches!(ContrastiveConfig::new(1, f64::NAN), Err(SamplingError::Alpha(a)) if a.is_nan())
    );

    let config = ContrastiveConfig::new(2, 0.5).unwrap();
    let context = array![[[1.0_f64, 0.0], [0.0, 1.0]], [[1.0, 1.0], [2.0, 1.0]]];
    let new =
        |mask: &Array2<bool>| ContrastiveSearch::new(config, &context, Some(mask)).map(|_| ());
    assert_eq!(new(&array![[true, true]]), Err(axis("mask", "batch", 2, 1)));
    assert_eq!(new(&array![[true], [true]]), Err(axis("mask", "seq", 2, 1)));
    assert_eq!(
        new(&array![[true, false], [false, false]]),
        Err(SamplingError::NoContext { row: 1 })
    );
    let empty = Array3::<f64>::zeros([1, 0, 2]);
    assert_eq!(
        ContrastiveSearch::new(config, &empty, None),
        Err(SamplingError::NoContext { row: 0 })
    );
    let mut bad = context.clone();
    bad[[1, 0, 1]] = INF;
    let error = SamplingError::Hidden {
        array: "hidden",
        index: [1, 0, 1],
        value: INF,
    };
    assert_eq!(ContrastiveSearch::new(config, &bad, None), Err(error));
    // Padding may be anything.
    assert!(
        ContrastiveSearch::new(config, &bad, Some(&array![[true, true], [false, true]])).is_ok()
    );

    let mut search = ContrastiveSearch::new(config, &context, None).unwrap();
    assert_eq!(
        search.propose(&Array2::zeros([1, 3])),
        Err(axis("logits", "batch", 2, 1))
    );
    let error = SamplingError::TooManyCandidates { got: 2, vocab: 1 };
    assert_eq!(search.propose(&Array2::zeros([2, 1])), Err(error));
    let error = SamplingError::NanLogits { row: 1, token: 0 };
    assert_eq!(
        search.propose(&array![[0.0, 0.0], [f64::NAN, 0.0]]),
        Err(error)
    );
    let proposal = search.propose(&Array2::zeros([2, 3])).unwrap();

    let before = search.clone();
    let mut refused = |hidden: &Array3<f64>, error: SamplingError| {
        assert_eq!(search.choose(&proposal, hidden), Err(error));
        assert_eq!(search, before);
    };
    refused(&Array3::ones([1, 2, 2]), axis("hidden", "batch", 2, 1));
    refused(&Array3::ones([2, 3, 2]), axis("hidden", "top_k", 2, 3));
    refused(&Array3::ones([2, 2, 1]), axis("hidden", "d_model", 2, 1));
    let mut late = Array3::ones([2, 2, 2]);
    late[[1, 1, 1]] = -INF;
    refused(
        &late,
        SamplingError::Hidden {
            array: "hidden",
            index: [1, 1, 1],
            value: -INF,
        },
    );
    let one = ContrastiveConfig::new(1, 0.5).unwrap();
    let mut other = ContrastiveSearch::new(one, &context, None).unwrap();
    assert_eq!(
        other.choose(&proposal, &Array3::ones([2, 1, 2])),
        Err(axis("tokens", "top_k", 1, 2))
    );
}

#[test]
fn dola_refuses_what_it_cannot_contrast() {
    let last = array![[1.0_f64, 0.0, -INF]];
    let premature = array![[[0.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]]];
    let paper = DolaConfig::paper();
    assert_eq!(
        dola::contrast(&last, &Array3::zeros([0, 1, 3]), &paper),
        Err(SamplingError::Layers(0))
    );
    assert_eq!(
        dola::contrast(&last, &Array3::zeros([1, 2, 3]), &paper),
        Err(axis("premature_logits", "batch", 1, 2))
    );
    assert_eq!(
        dola::contrast(&last, &Array3::zeros([1, 1, 2]), &paper),
        Err(axis("premature_logits", "vocab", 3, 2))
    );
    for share in [-0.1, 1.1] {
        let config = paper.with_relative_top(share);
        assert_eq!(
            dola::contrast(&last, &premature, &config),
            Err(SamplingError::RelativeTop(share))
        );
    }
    assert!(dola::contrast(&last, &premature, &paper.with_relative_top(f64::NAN)).is_err());
    let masked = array![[[0.0, -INF, 0.0]]];
    let error = SamplingError::PrematureMasked {
        layer: 0,
        row: 0,
        token: 1,
    };
    assert_eq!(dola::contrast(&last, &masked, &paper), Err(error));
    // Where the last layer rules the token out, or the share does, an earlier one may too.
    assert!(dola::contrast(&last, &masked, &paper.with_relative_top(1.0)).is_ok());
    assert!(dola::contrast(&last, &array![[[0.0, 0.0, -INF]]], &paper).is_ok());
    let mut nan = premature.clone();
    nan[[1, 0, 2]] = f64::NAN;
    assert_eq!(
        dola::contrast(&last, &nan, &paper),
        Err(SamplingError::NanLogits { row: 0, token: 2 })
    );
    assert_eq!(
        dola::contrast(&array![[-INF, -INF, -INF]], &premature, &paper),
        Err(SamplingError::MaskedRow { row: 0 })
    );
}

#[test]
fn samples_must_be_comparable() {
    let none: [Vec<f64>; 0] = [];
    assert_eq!(best(&none, SampleScore::Sum), Err(SamplingError::NoSamples));
    assert_eq!(scores(&none, SampleScore::Sum), Ok(vec![]));
    assert_eq!(
        best(&[vec![-1.0], vec![]], SampleScore::Mean),
        Err(SamplingError::EmptySample(1))
    );
    let error = SamplingError::LogProbability {
        sample: 1,
        position: 1,
        value: 0.1,
    };
    assert_eq!(
        best(&[vec![-1.0], vec![-1.0, 0.1]], SampleScore::Sum),
        Err(error)
    );
    let nan = best(&[vec![f64::NAN]], SampleScore::Sum);
    assert!(
        matches!(nan, Err(SamplingError::LogProbability { sample: 0, position: 0, value }) if value.is_nan())
    );
    assert_eq!(majority::<u8>(&[]), Err(SamplingError::NoSamples));
    assert_eq!(
        weighted_majority(&[Some(1)], &[]),
        Err(axis("weights", "samples", 1, 0))
    );
    for value in [-1.0, INF] {
        let error = SamplingError::Weight { sample: 1, value };
        assert_eq!(
            weighted_majority(&[Some(1), None], &[1.0, value]),
            Err(error)
        );
    }
    assert!(weighted_majority(&[Some(1)], &[f64::NAN]).is_err());
}

#[test]
fn only_a_candidate_can_be_described() {
    let mut candidates = Candidates::new();
    candidates.fill(&[1.0_f64, -INF, 2.0]).unwrap();
    let raw = array![1.0, 1.0, 1.0];
    let mut run = |raw: &Array1<f64>, token, compact: bool| {
        if compact {
            candidates.compact();
        }
        describe(raw, &candidates, token, 1, Distribution::Raw).map(|_| ())
    };
    assert_eq!(
        run(&array![1.0, 1.0], 0, false),
        Err(axis("raw", "vocab", 3, 2))
    );
    assert_eq!(
        run(&array![1.0, f64::NAN, 1.0], 0, false),
        Err(SamplingError::NanLogits { row: 0, token: 1 })
    );
    assert_eq!(
        run(&array![-INF, -INF, -INF], 0, false),
        Err(SamplingError::MaskedRow { row: 0 })
    );
    for compact in [false, true] {
        assert_eq!(run(&raw, 1, compact), Err(SamplingError::NotCandidate(1)));
        assert_eq!(run(&raw, 3, compact), Err(SamplingError::NotCandidate(3)));
        assert_eq!(run(&raw, 2, compact), Ok(()));
    }
    candidates.fill(&[1.0, f64::NAN, 2.0]).unwrap();
    let found = describe(&raw, &candidates, 0, 1, Distribution::Raw);
    assert_eq!(found, Err(SamplingError::NanLogits { row: 0, token: 1 }));
    let empty = describe(
        &array![],
        &Candidates::<f64>::new(),
        0,
        1,
        Distribution::Raw,
    );
    assert!(empty.is_err());
}

#[test]
fn an_empty_stop_string_is_refused() {
    assert_eq!(
        StopStrings::new(&["a", ""]),
        Err(SamplingError::EmptyStopString(1))
    );
    assert!(StopStrings::new::<&str>(&[]).unwrap().is_empty());
}

#[test]
fn messages_say_what_must_hold_and_what_came() {
    for (error, message) in [
        (
            axis("draft_logits", "vocab", 4, 5),
            "draft_logits must have vocab 4, got 5",
        ),
        (
            SamplingError::DraftToken {
                row: 1,
                position: 2,
                token: 9,
                vocab: 4,
            },
            "draft_tokens must be below 4 (vocab), got 9 at position 2 of row 1",
        ),
        (
            SamplingError::Hidden {
                array: "hidden",
                index: [0, 1, 2],
                value: INF,
            },
            "hidden must be finite, got inf at [0, 1, 2]",
        ),
        (
            SamplingError::Alpha(1.5),
            "alpha must be in [0, 1], got 1.5",
        ),
    ] {
        assert_eq!(error.to_string(), message);
    }
}
