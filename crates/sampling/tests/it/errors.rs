//! One test for each error variant; where logits are changed in place, an error leaves them.

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_sampling::generate::{GenerateConfig, GenerateError, generate};
use llm_sampling::top_k::Ties;
use llm_sampling::{
    Dialect, SamplingConfig, SamplingError, categorical, greedy, sampler, temperature, top_k, top_p,
};
use ndarray::{Array1, Array2, array};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

fn bits(logits: &Array2<f32>) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Expects the error and unchanged logits.
fn refused(
    logits: &Array2<f32>,
    error: SamplingError,
    change: impl FnOnce(&mut Array2<f32>) -> Result<(), SamplingError>,
) {
    let mut changed = logits.clone();
    assert_eq!(change(&mut changed), Err(error));
    assert_eq!(bits(&changed), bits(logits));
}

fn every_setting() -> [SamplingConfig; 5] {
    let sample = |dialect, t, k, p| SamplingConfig::sample(dialect, t, k, p).unwrap();
    [
        SamplingConfig::greedy(),
        sample(Dialect::HuggingFace, 1.0, None, None),
        sample(Dialect::HuggingFace, 0.5, Some(2), Some(0.9)),
        sample(Dialect::LlamaCpp, 2.0, None, Some(0.9)),
        sample(Dialect::LlamaCpp, 2.0, Some(2), None),
    ]
}

/// Expects the error from every way to choose a token.
fn refused_by_all_choices(logits: &Array2<f32>, error: SamplingError) {
    let uniforms = vec![0.5; logits.nrows()];
    for config in every_setting() {
        assert_eq!(
            sampler::sample(logits, &config, &uniforms),
            Err(error),
            "{config:?}"
        );
        if config != SamplingConfig::greedy() {
            refused(logits, error, |x| sampler::apply_inplace(x, &config));
        }
    }
}

#[test]
fn a_temperature_that_is_not_positive_and_finite_is_refused() {
    let logits = array![[1.0_f32, 2.0]];
    for t in [0.0, -0.0, -1.0, f64::INFINITY, f64::NEG_INFINITY] {
        let error = SamplingError::Temperature(t);
        refused(&logits, error, |x| temperature::apply_inplace(x, t));
        assert_eq!(
            SamplingConfig::sample(Dialect::LlamaCpp, t, None, None),
            Err(error)
        );
    }
    let error = SamplingConfig::sample(Dialect::HuggingFace, f64::NAN, None, None).unwrap_err();
    assert!(matches!(error, SamplingError::Temperature(t) if t.is_nan()));
}

#[test]
fn a_temperature_that_makes_logits_overflow_is_refused() {
    for (logits, token) in [
        (array![[0.0, 1.0], [0.0, 10.0]], 1),
        (array![[1.0, 1.0], [-10.0_f32, f32::NEG_INFINITY]], 0),
    ] {
        let error = SamplingError::TemperatureOverflow {
            row: 1,
            token,
            logit: f64::from(logits[[1, token]]),
            temperature: 2e-38,
        };
        refused(&logits, error, |x| temperature::apply_inplace(x, 2e-38));
        let config = SamplingConfig::sample(Dialect::HuggingFace, 2e-38, None, None).unwrap();
        assert_eq!(sampler::sample(&logits, &config, &[0.5, 0.5]), Err(error));
    }
    // Zeros stay zeros, at any temperature.
    let mut zeros = array![[0.0_f32, 0.0]];
    temperature::apply_inplace(&mut zeros, f64::MIN_POSITIVE).unwrap();
    assert_eq!(zeros, array![[0.0, 0.0]]);
}

#[test]
fn keeping_no_tokens_is_refused() {
    let logits = array![[1.0_f32, 2.0]];
    refused(&logits, SamplingError::TopK(0), |x| {
        top_k::apply_inplace(x, 0, Ties::Kept, 1)
    });
    refused(&logits, SamplingError::MinTokensToKeep(0), |x| {
        top_k::apply_inplace(x, 1, Ties::Kept, 0)
    });
    refused(&logits, SamplingError::MinTokensToKeep(0), |x| {
        top_p::apply_inplace(x, 0.5, 0)
    });
}

#[test]
fn a_top_p_outside_of_its_interval_is_refused() {
    let logits = array![[1.0_f32, 2.0]];
    for p in [0.0, -0.1, 1.0 + f64::EPSILON, f64::INFINITY] {
        refused(&logits, SamplingError::TopP(p), |x| {
            top_p::apply_inplace(x, p, 1)
        });
        assert_eq!(
            SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, Some(p)),
            Err(SamplingError::TopP(p))
        );
    }
    let error =
        SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, Some(f64::NAN)).unwrap_err();
    assert!(matches!(error, SamplingError::TopP(p) if p.is_nan()));
}

#[test]
fn nan_logits_are_refused_by_everything() {
    let logits = array![[1.0_f32, 2.0, 3.0], [1.0, NAN, INF]];
    let error = SamplingError::NanLogits { row: 1, token: 1 };
    refused(&logits, error, |x| temperature::apply_inplace(x, 2.0));
    refused(&logits, error, |x| {
        top_k::apply_inplace(x, 1, Ties::Exact, 1)
    });
    refused(&logits, error, |x| top_p::apply_inplace(x, 0.5, 1));
    refused_by_all_choices(&logits, error);
    let row = logits.row(1);
    assert_eq!(
        greedy::argmax(&row),
        Err(SamplingError::NanLogits { row: 0, token: 1 })
    );
    assert_eq!(
        categorical::draw(&row, 0.5),
        Err(SamplingError::NanLogits { row: 0, token: 1 })
    );
    refused_by_all_choices(
        &array![[NAN, NAN]],
        SamplingError::NanLogits { row: 0, token: 0 },
    );
}

#[test]
fn infinite_logits_are_refused_where_probabilities_matter() {
    let logits = array![[1.0_f32, 2.0, 3.0], [1.0, -INF, INF]];
    let error = SamplingError::InfiniteLogits { row: 1, token: 2 };
    refused(&logits, error, |x| top_p::apply_inplace(x, 0.5, 1));
    refused_by_all_choices(&logits, error);
    assert_eq!(
        greedy::argmax(&logits.row(1)),
        Err(SamplingError::InfiniteLogits { row: 0, token: 2 })
    );
}

#[test]
fn rows_that_are_masked_out_are_refused() {
    let logits = array![[1.0_f32, 2.0], [-INF, -INF]];
    let error = SamplingError::MaskedRow { row: 1 };
    refused(&logits, error, |x| top_p::apply_inplace(x, 0.5, 1));
    refused_by_all_choices(&logits, error);
    assert_eq!(
        greedy::argmax(&logits.row(1)),
        Err(SamplingError::MaskedRow { row: 0 })
    );
    assert_eq!(
        categorical::draw(&logits.row(1), 0.5),
        Err(SamplingError::MaskedRow { row: 0 })
    );
}

#[test]
fn an_empty_vocabulary_is_refused_and_an_empty_batch_is_not() {
    let logits = Array2::<f32>::zeros([2, 0]);
    let error = SamplingError::Vocab(0);
    refused(&logits, error, |x| temperature::apply_inplace(x, 2.0));
    refused(&logits, error, |x| {
        top_k::apply_inplace(x, 1, Ties::Kept, 1)
    });
    refused(&logits, error, |x| top_p::apply_inplace(x, 0.5, 1));
    refused_by_all_choices(&logits, error);
    assert_eq!(greedy::argmax(&Array1::<f64>::zeros(0)), Err(error));
    assert_eq!(
        categorical::inverse_cdf(&Array1::<f64>::zeros(0), 0.5),
        Err(error)
    );

    for vocab in [0, 3] {
        let mut nothing = Array2::<f32>::zeros([0, vocab]);
        for config in every_setting() {
            assert_eq!(sampler::sample(&nothing, &config, &[]), Ok(vec![]));
            assert_eq!(sampler::apply_inplace(&mut nothing, &config), Ok(()));
        }
    }
}

#[test]
fn one_uniform_number_for_each_row_is_needed_to_draw() {
    let logits = array![[1.0_f32, 2.0], [2.0, 1.0]];
    let config = SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, None).unwrap();
    for n in [0, 1, 3] {
        let error = SamplingError::UniformsLen {
            expected: 2,
            got: n,
        };
        assert_eq!(sampler::sample(&logits, &config, &vec![0.5; n]), Err(error));
        assert!(sampler::sample(&logits, &SamplingConfig::greedy(), &vec![7.0; n]).is_ok());
    }
}

#[test]
fn numbers_that_are_not_in_the_unit_interval_are_refused() {
    let logits = array![[1.0_f32, 2.0]];
    let config = SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, None).unwrap();
    for u in [1.0, -f64::MIN_POSITIVE, f64::INFINITY] {
        let error = SamplingError::Uniform(u);
        assert_eq!(sampler::sample(&logits, &config, &[u]), Err(error));
        assert_eq!(categorical::draw(&logits.row(0), u), Err(error));
        assert_eq!(
            categorical::inverse_cdf(&array![0.5_f32, 0.5], u),
            Err(error)
        );
    }
    let error = categorical::draw(&logits.row(0), f64::NAN).unwrap_err();
    assert!(matches!(error, SamplingError::Uniform(u) if u.is_nan()));
}

#[test]
fn values_that_are_no_probabilities_are_refused() {
    let bad = |value| categorical::inverse_cdf(&array![0.5, value], 0.5);
    for value in [-0.1_f64, f64::INFINITY] {
        assert_eq!(
            bad(value),
            Err(SamplingError::Probability { token: 1, value })
        );
    }
    assert!(
        matches!(bad(f64::NAN), Err(SamplingError::Probability { token: 1, value }) if value.is_nan())
    );
    assert_eq!(
        categorical::inverse_cdf(&array![0.0_f32, 0.0], 0.5),
        Err(SamplingError::ProbabilitySum(0.0))
    );
    let huge = array![f64::MAX, f64::MAX];
    assert_eq!(
        categorical::inverse_cdf(&huge, 0.5),
        Err(SamplingError::ProbabilitySum(f64::INFINITY))
    );
}

#[test]
fn an_empty_prompt_is_refused_before_the_model_runs() {
    let config = GenerateConfig::new(SamplingConfig::greedy(), 3);
    let step = |_: &[u32]| -> Result<Array1<f32>, Infallible> { panic!("called") };
    let error = generate(&[], &config, step, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error, GenerateError::Sampling(SamplingError::EmptyPrompt));
}

#[test]
fn errors_of_the_model_and_of_its_logits_come_out_of_the_loop() {
    let config = GenerateConfig::new(SamplingConfig::greedy(), 3);
    let step = |new: &[u32]| {
        if new.len() > 1 {
            Ok(array![0.0_f32, 1.0])
        } else {
            Err("out of memory")
        }
    };
    let error = generate(&[0, 0], &config, step, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error, GenerateError::Model("out of memory"));
    assert_eq!(
        error.to_string(),
        "the model must give logits, got an error: out of memory"
    );

    let step = |_: &[u32]| Ok::<_, Infallible>(array![0.0_f32, NAN]);
    let error = generate(&[0], &config, step, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(
        error,
        GenerateError::Sampling(SamplingError::NanLogits { row: 0, token: 1 })
    );
}

#[test]
fn messages_say_what_must_hold_and_what_came() {
    assert_eq!(
        SamplingError::TopP(1.5).to_string(),
        "top_p must be in (0, 1], got 1.5"
    );
    let error = SamplingError::NanLogits { row: 1, token: 7 };
    assert_eq!(
        error.to_string(),
        "logits must not be NaN, got one for token 7 of row 1"
    );
}
