//! One test for each rule that a search refuses; an error leaves the search as it was.

use llm_sampling::search::beam::{BeamConfig, BeamSearch, LengthRule};
use llm_sampling::search::beam_sample::BeamSample;
use llm_sampling::search::constrained::{ConstrainedBeamSearch, Constraint, ConstraintRule};
use llm_sampling::search::diverse::DiverseBeamSearch;
use llm_sampling::search::transition;
use llm_sampling::{Candidates, Context, SamplingError};
use ndarray::{Array2, array};

use super::{Stepper, unchanged};

const INF: f64 = f64::INFINITY;

/// Expects the error from every search.
fn refused(prompts: &[Vec<u32>], config: &BeamConfig, error: SamplingError) {
    let streams = vec![0; prompts.len()];
    assert_eq!(BeamSearch::new(prompts, config).unwrap_err(), error);
    assert_eq!(
        BeamSample::new(prompts, config, 0, &streams).unwrap_err(),
        error
    );
    assert_eq!(
        DiverseBeamSearch::new(prompts, config, 1, 0.0).unwrap_err(),
        error
    );
    let rule = ConstraintRule::Occurs;
    assert_eq!(
        ConstrainedBeamSearch::new(prompts, config, &[], rule).unwrap_err(),
        error
    );
}

#[test]
fn settings_that_make_no_search_are_refused() {
    let prompts = [vec![1]];
    let config = BeamConfig::textbook(2, 3);
    refused(
        &prompts,
        &BeamConfig::textbook(0, 3),
        SamplingError::Beams(0),
    );
    for n_return in [0, 3] {
        let error = SamplingError::BeamReturn {
            n_return,
            n_beams: 2,
        };
        refused(&prompts, &config.clone().with_n_return(n_return), error);
    }
    for penalty in [INF, -INF] {
        let rule = LengthRule::Generated { penalty };
        refused(
            &prompts,
            &config.clone().with_length(rule),
            SamplingError::LengthPenalty(penalty),
        );
    }
    let rule = LengthRule::Gnmt { alpha: f64::NAN };
    let error = BeamSearch::new(&prompts, &config.clone().with_length(rule)).unwrap_err();
    assert!(matches!(error, SamplingError::LengthPenalty(alpha) if alpha.is_nan()));
    refused(&[vec![1], vec![]], &config, SamplingError::EmptyPrompt);
    for n_beams in [1 << 32, usize::MAX] {
        let error = SamplingError::BeamRowsOverflow {
            prompts: 2,
            n_beams,
        };
        refused(
            &[vec![1], vec![2]],
            &BeamConfig::textbook(n_beams, 3),
            error,
        );
    }
}

#[test]
fn groups_must_divide_the_beams() {
    let config = BeamConfig::textbook(4, 3);
    for n_groups in [0, 3, 5, 8] {
        assert_eq!(
            DiverseBeamSearch::new(&[[1]], &config, n_groups, 0.5).unwrap_err(),
            SamplingError::BeamGroups {
                n_groups,
                n_beams: 4
            }
        );
    }
    for penalty in [-0.1, INF] {
        let error = DiverseBeamSearch::new(&[[1]], &config, 2, penalty).unwrap_err();
        assert_eq!(error, SamplingError::DiversityPenalty(penalty));
    }
    assert!(matches!(
        DiverseBeamSearch::new(&[[1]], &config, 2, f64::NAN),
        Err(SamplingError::DiversityPenalty(_))
    ));
}

#[test]
fn draws_need_a_stream_for_each_prompt_and_numbers_for_each_draw() {
    let config = BeamConfig::textbook(2, 3).with_stop_ids(vec![0, 1, 1]);
    let error = SamplingError::BeamStreams {
        expected: 1,
        got: 2,
    };
    assert_eq!(
        BeamSample::new(&[[1]], &config, 0, &[0, 1]).unwrap_err(),
        error
    );
    let wide = BeamConfig::textbook(16385, 3);
    assert_eq!(
        BeamSample::new(&[[1]], &wide, 0, &[0]).unwrap_err(),
        SamplingError::BeamDraws(32770)
    );

    let mut search = BeamSample::new(&[[1]], &config, 0, &[0]).unwrap();
    let logits = Array2::<f64>::zeros((2, 4));
    for shape in [(1, 4), (2, 6), (1, 7)] {
        let error = SamplingError::BeamUniforms {
            expected: [1, 6],
            got: shape.into(),
        };
        let uniforms = Array2::zeros(shape);
        assert_eq!(search.step_with(&logits, &unchanged, &uniforms), Err(error));
    }
    for u in [1.0, -0.1] {
        let uniforms = Array2::from_elem((1, 6), u);
        assert_eq!(
            search.step_with(&logits, &unchanged, &uniforms),
            Err(SamplingError::Uniform(u))
        );
    }
    assert_eq!(search.sequence(0), Some(vec![1]));
}

#[test]
fn constraints_that_cannot_be_met_are_refused() {
    let config = BeamConfig::textbook(2, 3).with_stop_ids(vec![5]);
    let possible = Constraint::phrase(vec![1, 2, 3]);
    let refuse = |constraint: Constraint, error: SamplingError| {
        let constraints = [possible.clone(), constraint];
        for rule in [ConstraintRule::Occurs, ConstraintRule::Transformers] {
            let search = ConstrainedBeamSearch::new(&[[1]], &config, &constraints, rule);
            assert_eq!(search.unwrap_err(), error);
        }
    };
    let empty = SamplingError::EmptyConstraint { constraint: 1 };
    refuse(Constraint::phrase(vec![]), empty);
    refuse(Constraint::any_of(vec![]), empty);
    refuse(Constraint::any_of(vec![vec![1], vec![]]), empty);
    let error = SamplingError::ConstraintPrefix { constraint: 1 };
    refuse(
        Constraint::any_of(vec![vec![1, 2], vec![4], vec![1, 2, 3]]),
        error,
    );
    refuse(Constraint::any_of(vec![vec![4], vec![4]]), error);
    let error = SamplingError::ConstraintLen {
        constraint: 1,
        shortest: 4,
        max_new_tokens: 3,
    };
    refuse(Constraint::any_of(vec![vec![1; 5], vec![2; 4]]), error);
    let error = SamplingError::ConstraintStop {
        constraint: 1,
        token: 5,
    };
    refuse(Constraint::phrase(vec![1, 5]), error);

    // The vocabulary is known with the first logits.
    let rule = ConstraintRule::Occurs;
    let mut search = ConstrainedBeamSearch::new(&[[1]], &config, &[possible], rule).unwrap();
    let error = SamplingError::ConstraintToken {
        constraint: 0,
        token: 3,
        vocab: 3,
    };
    assert_eq!(
        search.step(&Array2::<f32>::zeros((2, 3)), &unchanged),
        Err(error)
    );
    assert_eq!(
        search.step(&Array2::<f32>::zeros((2, 4)), &unchanged),
        Ok(())
    );
}

/// Expects the error of a second step, and a search that goes on as if nothing had been.
fn step_refused(mut search: impl Stepper + Clone, logits: &Array2<f64>, error: SamplingError) {
    let first = array![
        [0.1_f64, 0.2, 0.3],
        [0.3, 0.2, 0.1],
        [0.1, 0.0, 0.2],
        [0.5, 0.1, 0.2]
    ];
    search.step(&first, &unchanged).unwrap();
    let mut other = search.clone();
    assert_eq!(search.step(logits, &unchanged), Err(error));
    assert_eq!(
        (search.tokens(), search.parents()),
        (other.tokens(), other.parents())
    );
    search.step(&first, &unchanged).unwrap();
    other.step(&first, &unchanged).unwrap();
    assert_eq!(search.finish(), other.finish());
}

#[test]
fn logits_that_are_none_are_refused_and_change_nothing() {
    let config = BeamConfig::textbook(2, 5).with_n_return(2);
    let prompts = [[1], [2]];
    let mut wrong = Array2::zeros((4, 3));
    let mut cases = vec![(
        Array2::zeros((3, 3)),
        SamplingError::BeamLogits {
            expected: 4,
            got: 3,
        },
    )];
    wrong[[3, 1]] = f64::NAN;
    cases.push((wrong.clone(), SamplingError::NanLogits { row: 3, token: 1 }));
    wrong[[3, 1]] = INF;
    cases.push((
        wrong.clone(),
        SamplingError::InfiniteLogits { row: 3, token: 1 },
    ));
    wrong.row_mut(3).fill(-INF);
    cases.push((wrong, SamplingError::MaskedRow { row: 3 }));
    cases.push((Array2::zeros((4, 0)), SamplingError::Vocab(0)));
    let constraints = [Constraint::phrase(vec![2, 1])];
    for (logits, error) in cases {
        step_refused(BeamSearch::new(&prompts, &config).unwrap(), &logits, error);
        step_refused(
            BeamSample::new(&prompts, &config, 3, &[0, 1]).unwrap(),
            &logits,
            error,
        );
        step_refused(
            DiverseBeamSearch::new(&prompts, &config, 2, 0.5).unwrap(),
            &logits,
            error,
        );
        let rule = ConstraintRule::Occurs;
        let search = ConstrainedBeamSearch::new(&prompts, &config, &constraints, rule).unwrap();
        if error != SamplingError::Vocab(0) {
            step_refused(search, &logits, error);
        }
    }
}

#[test]
fn what_a_processor_makes_is_checked() {
    let mut search = BeamSearch::new(&[[1], [2]], &BeamConfig::textbook(2, 2)).unwrap();
    let logits = Array2::<f64>::zeros((4, 3));
    for (value, error) in [
        (f64::NAN, SamplingError::NanLogits { row: 2, token: 1 }),
        (INF, SamplingError::InfiniteLogits { row: 2, token: 1 }),
    ] {
        let spoil = |candidates: &mut Candidates<f64>, context: &Context<'_>| {
            if context.row == 2 {
                candidates.logits_mut()[1] = value;
            }
            Ok::<_, SamplingError>(())
        };
        assert_eq!(search.step(&logits, &spoil), Err(error));
    }
    let fail = |_: &mut Candidates<f64>, _: &Context<'_>| Err(SamplingError::MaskedRow { row: 0 });
    assert_eq!(
        search.step(&logits, &fail),
        Err(SamplingError::MaskedRow { row: 0 })
    );
    assert_eq!(search.sequence(2), Some(vec![2]));
}

#[test]
fn a_search_that_is_done_takes_no_step() {
    let mut search = BeamSearch::new(&[[1]], &BeamConfig::textbook(2, 1)).unwrap();
    let logits = Array2::<f64>::zeros((2, 3));
    search.step(&logits, &unchanged).unwrap();
    assert!(search.is_done());
    assert_eq!(
        search.step(&logits, &unchanged),
        Err(SamplingError::SearchDone)
    );
    assert_eq!(search.finish()[0][0].tokens, [0]);
}

#[test]
fn transitions_need_a_token_for_each_step() {
    let logits = array![[[0.0_f64, 1.0], [0.0, f64::NAN]]];
    let error = SamplingError::TransitionShape {
        expected: [1, 2],
        got: [2, 1],
    };
    assert_eq!(
        transition::log_probabilities(&logits, &array![[0], [1]]),
        Err(error)
    );
    let error = SamplingError::TransitionToken {
        row: 0,
        token: 2,
        vocab: 2,
    };
    assert_eq!(
        transition::log_probabilities(&logits, &array![[2, 1]]),
        Err(error)
    );
    let error = SamplingError::NanLogits { row: 1, token: 1 };
    assert_eq!(
        transition::log_probabilities(&logits, &array![[0, 1]]),
        Err(error)
    );
}
