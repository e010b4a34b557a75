//! Drafts, their processors, schedules and lookups.

use llm_sampling::search::prompt_lookup::{PromptLookupConfig, candidates};
use llm_sampling::search::speculative::{self, DraftSchedule, RowMode, verify};
use llm_sampling::{Candidates, Context, RowRandom, SamplingError};
use ndarray::{Array1, Array2, Array3, array};

use super::{INF, axis};

/// Two rows, three drafted tokens, vocabulary of four.
struct Draft {
    target: Array3<f64>,
    draft: Array3<f64>,
    tokens: Array2<u32>,
    lens: Vec<usize>,
    modes: Vec<RowMode<'static>>,
}

fn draft() -> Draft {
    Draft {
        target: Array3::zeros([2, 4, 4]),
        draft: Array3::zeros([2, 3, 4]),
        tokens: Array2::zeros([2, 3]),
        lens: vec![3, 2],
        modes: vec![RowMode::Sample(RowRandom::new(0, 0, 0)); 2],
    }
}

impl Draft {
    fn refused(&self, error: SamplingError) {
        let found = verify(
            &self.target,
            Some(&self.draft),
            &self.tokens,
            &self.lens,
            &self.modes,
        );
        assert_eq!(found, Err(error));
    }

    fn changed(change: impl FnOnce(&mut Self), error: SamplingError) {
        let mut draft = draft();
        change(&mut draft);
        draft.refused(error);
    }
}

#[test]
fn parts_of_a_draft_must_fit_each_other() {
    Draft::changed(
        |d| d.target = Array3::zeros([1, 4, 4]),
        axis("draft_tokens", "batch", 1, 2),
    );
    Draft::changed(
        |d| d.target = Array3::zeros([2, 3, 4]),
        axis("target_logits", "draft + 1", 4, 3),
    );
    Draft::changed(
        |d| d.draft = Array3::zeros([1, 3, 4]),
        axis("draft_logits", "batch", 2, 1),
    );
    Draft::changed(
        |d| d.draft = Array3::zeros([2, 4, 4]),
        axis("draft_logits", "draft", 3, 4),
    );
    Draft::changed(
        |d| d.draft = Array3::zeros([2, 3, 5]),
        axis("draft_logits", "vocab", 4, 5),
    );
    Draft::changed(|d| d.lens = vec![3], axis("draft_lens", "batch", 2, 1));
    Draft::changed(|d| d.modes.truncate(1), axis("modes", "batch", 2, 1));
    Draft::changed(
        |d| d.lens[1] = 4,
        SamplingError::DraftLen {
            row: 1,
            max: 3,
            got: 4,
        },
    );
    let greedy = |d: &mut Draft| d.modes = vec![RowMode::Greedy; 2];
    Draft::changed(
        |d| {
            greedy(d);
            d.tokens[[1, 1]] = 4;
        },
        SamplingError::DraftToken {
            row: 1,
            position: 1,
            token: 4,
            vocab: 4,
        },
    );
    // Beyond the length of the row it is not looked at.
    let mut fine = draft();
    fine.tokens[[1, 2]] = 4;
    assert!(
        verify(
            &fine.target,
            Some(&fine.draft),
            &fine.tokens,
            &fine.lens,
            &fine.modes
        )
        .is_ok()
    );
    // Nothing to verify is fine, no vocabulary is not.
    assert_eq!(
        verify(
            &Array3::<f32>::zeros([0, 1, 0]),
            None,
            &Array2::zeros([0, 0]),
            &[],
            &[]
        ),
        Ok(vec![])
    );
    for mode in [RowMode::Greedy, RowMode::Sample(RowRandom::new(0, 0, 0))] {
        let found = verify(
            &Array3::<f32>::zeros([1, 1, 0]),
            None,
            &Array2::zeros([1, 0]),
            &[0],
            &[mode],
        );
        assert_eq!(found, Err(SamplingError::Vocab(0)));
    }
}

#[test]
fn a_drafted_token_must_be_possible_in_its_draft() {
    let error = SamplingError::DraftProbability {
        row: 1,
        position: 1,
        token: 0,
    };
    Draft::changed(|d| d.draft[[1, 1, 0]] = -INF, error);
    // So unlikely that its probability is 0 in this type.
    Draft::changed(|d| d.draft[[1, 1, 0]] = -1e4, error);
    // Greedy rows do not ask.
    let mut fine = draft();
    fine.draft[[1, 1, 0]] = -INF;
    fine.modes[1] = RowMode::Greedy;
    assert!(
        verify(
            &fine.target,
            Some(&fine.draft),
            &fine.tokens,
            &fine.lens,
            &fine.modes
        )
        .is_ok()
    );
}

#[test]
fn logits_of_all_positions_are_checked() {
    // Position 2 of row 1 would only be read if two tokens were accepted.
    for (mode, name) in [
        (RowMode::Greedy, "greedy"),
        (RowMode::Sample(RowRandom::new(0, 0, 0)), "sample"),
    ] {
        for (value, error) in [
            (f64::NAN, SamplingError::NanLogits { row: 1, token: 3 }),
            (INF, SamplingError::InfiniteLogits { row: 1, token: 3 }),
        ] {
            let mut draft = draft();
            draft.modes[1] = mode;
            draft.target[[1, 2, 3]] = value;
            let found = verify(
                &draft.target,
                Some(&draft.draft),
                &draft.tokens,
                &draft.lens,
                &draft.modes,
            );
            assert_eq!(found, Err(error), "{name}");
        }
    }
    Draft::changed(
        |d| d.target.index_axis_mut(ndarray::Axis(0), 1).fill(-INF),
        SamplingError::MaskedRow { row: 1 },
    );
    Draft::changed(
        |d| d.draft[[1, 1, 2]] = f64::NAN,
        SamplingError::NanLogits { row: 1, token: 2 },
    );
    Draft::changed(
        |d| d.draft[[1, 0, 2]] = INF,
        SamplingError::InfiniteLogits { row: 1, token: 2 },
    );
    let mut fine = draft();
    fine.target
        .slice_mut(ndarray::s![1, 3.., ..])
        .fill(f64::NAN);
    fine.draft.slice_mut(ndarray::s![1, 2.., ..]).fill(f64::NAN);
    assert!(
        verify(
            &fine.target,
            Some(&fine.draft),
            &fine.tokens,
            &fine.lens,
            &fine.modes
        )
        .is_ok()
    );
}

#[test]
fn uniform_numbers_of_the_caller_are_checked() {
    let run = |accept: &[f64], choose: &[f64]| {
        let modes = [RowMode::Uniforms { accept, choose }];
        verify(
            &Array3::<f64>::zeros([1, 3, 4]),
            None,
            &Array2::zeros([1, 2]),
            &[2],
            &modes,
        )
        .map(|_| ())
    };
    assert_eq!(run(&[0.5; 2], &[0.5; 3]), Ok(()));
    assert_eq!(run(&[0.5; 5], &[0.5; 5]), Ok(()));
    assert_eq!(
        run(&[0.5], &[0.5; 3]),
        Err(axis("accept", "draft_len", 2, 1))
    );
    assert_eq!(
        run(&[0.5; 2], &[0.5; 2]),
        Err(axis("choose", "draft_len + 1", 3, 2))
    );
    assert_eq!(
        run(&[0.5, 1.0], &[0.5; 3]),
        Err(SamplingError::Uniform(1.0))
    );
    assert_eq!(
        run(&[0.5; 2], &[0.5, 0.5, -0.1]),
        Err(SamplingError::Uniform(-0.1))
    );
    assert!(matches!(run(&[f64::NAN; 2], &[0.5; 3]), Err(SamplingError::Uniform(u)) if u.is_nan()));
}

#[test]
fn the_rule_wants_probabilities() {
    let p = array![0.5_f64, 0.5];
    let all = |p: &Array1<f64>, q: &Array1<f64>, error: SamplingError| {
        assert_eq!(speculative::accept_probabilities(p, q), Err(error));
        assert_eq!(speculative::accept_rate(p, q), Err(error));
        assert_eq!(speculative::residual(p, q), Err(error));
    };
    all(&p, &array![1.0], axis("draft_probs", "vocab", 2, 1));
    all(&array![], &array![], SamplingError::Vocab(0));
    all(
        &p,
        &array![0.5, -0.5],
        SamplingError::Probability {
            token: 1,
            value: -0.5,
        },
    );
    all(
        &array![INF, 0.5],
        &p,
        SamplingError::Probability {
            token: 0,
            value: INF,
        },
    );
    all(&p, &array![0.0, 0.0], SamplingError::ProbabilitySum(0.0));
    let nan = speculative::residual(&p, &array![f64::NAN, 0.5]);
    assert!(matches!(nan, Err(SamplingError::Probability { token: 0, value }) if value.is_nan()));
    // Equal ones reject nothing, and leave p.
    assert_eq!(speculative::residual(&p, &p), Ok(p));
}

#[test]
fn processors_of_a_draft_change_all_or_nothing() {
    let mut logits = Array3::from_shape_fn([2, 3, 4], |(i, j, k)| (12 * i + 4 * j + k) as f32);
    let before = logits.clone();
    let contexts = [Context::new(&[], &[]); 2];
    let tokens = Array2::zeros([2, 2]);
    let fails_late = |candidates: &mut Candidates<f32>, context: &Context<'_>| {
        candidates.logits_mut().fill(0.0);
        if context.row == 1 && context.len() == 2 {
            return Err(SamplingError::MaskedRow { row: 0 });
        }
        Ok(())
    };
    let mut run = |contexts: &[Context<'_>], lens: &[usize], tokens: &Array2<u32>| {
        let found = speculative::apply_inplace(&mut logits, contexts, tokens, lens, &fails_late);
        assert_eq!(logits, before);
        found.unwrap_err()
    };
    assert_eq!(
        run(&contexts, &[2, 2], &tokens),
        SamplingError::MaskedRow { row: 1 }
    );
    assert_eq!(
        run(&contexts[..1], &[2, 2], &tokens),
        SamplingError::Contexts {
            expected: 2,
            got: 1
        }
    );
    assert_eq!(
        run(&contexts, &[2, 3], &tokens),
        SamplingError::DraftLen {
            row: 1,
            max: 2,
            got: 3
        }
    );
    assert_eq!(
        run(&contexts, &[2], &tokens),
        axis("draft_lens", "batch", 2, 1)
    );
    assert_eq!(
        run(&contexts, &[2, 2], &Array2::zeros([2, 1])),
        axis("target_logits", "draft + 1", 2, 3)
    );
    let error = SamplingError::DraftToken {
        row: 0,
        position: 1,
        token: 9,
        vocab: 4,
    };
    assert_eq!(run(&contexts, &[2, 2], &array![[0, 9], [0, 0]]), error);
}

#[test]
fn schedules_and_lookups_of_nothing_are_refused() {
    assert_eq!(
        DraftSchedule::constant(0),
        Err(SamplingError::DraftLength(0))
    );
    assert_eq!(
        DraftSchedule::heuristic(0),
        Err(SamplingError::DraftLength(0))
    );
    let schedule = DraftSchedule::constant(1).unwrap();
    for threshold in [-0.1, 1.1] {
        assert_eq!(
            schedule.with_confidence(threshold),
            Err(SamplingError::Confidence(threshold))
        );
    }
    assert!(schedule.with_confidence(f64::NAN).is_err());
    assert_eq!(
        PromptLookupConfig::new(0, 1),
        Err(SamplingError::MaxNgram(0))
    );
    assert_eq!(
        PromptLookupConfig::new(1, 0),
        Err(SamplingError::MaxTokens(0))
    );
    let mut config = PromptLookupConfig::new(1, 1).unwrap();
    config.max_tokens = 0;
    assert_eq!(
        candidates(&[1, 1], &config),
        Err(SamplingError::MaxTokens(0))
    );
    config.max_ngram = 0;
    assert_eq!(
        candidates(&[1, 1], &config),
        Err(SamplingError::MaxNgram(0))
    );
}
