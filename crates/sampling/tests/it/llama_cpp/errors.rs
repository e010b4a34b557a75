//! One test for each error variant of these samplers; an error leaves the logits as they were.

use llm_sampling::adaptive_p::{self, AdaptiveP, AdaptiveState};
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::mirostat::{self, Mirostat, MirostatVersion};
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::repetition_penalty::PenaltyWindow;
use llm_sampling::tail_free::TailFree;
use llm_sampling::top_a::TopA;
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::xtc::Xtc;
use llm_sampling::{
    Context, Processor, RowRandom, SamplingError, exponential_race, gumbel_max, processor,
};
use ndarray::{Array1, Array2, array};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
const ALL: PenaltyWindow = PenaltyWindow::All;

#[test]
fn penalties_that_are_no_numbers_are_refused() {
    for x in [INF, -INF] {
        assert_eq!(
            PresenceFrequency::new(x, 0.0, ALL),
            Err(SamplingError::PresencePenalty(x))
        );
        assert_eq!(
            PresenceFrequency::new(0.0, x, ALL),
            Err(SamplingError::FrequencyPenalty(x))
        );
    }
    assert!(matches!(
        PresenceFrequency::new(NAN, 0.0, ALL),
        Err(SamplingError::PresencePenalty(_))
    ));
    assert!(matches!(
        PresenceFrequency::new(0.0, NAN, ALL),
        Err(SamplingError::FrequencyPenalty(_))
    ));
}

#[test]
fn biases_that_no_logit_can_take_are_refused() {
    let error = |token, bias| SamplingError::LogitBias {
        token,
        bias,
        least: -INF,
        most: f64::MAX,
    };
    assert_eq!(LogitBias::new(&[(3, 1.0), (2, INF)]), Err(error(2, INF)));
    assert_eq!(
        LogitBias::new(&[(7, f64::MAX), (7, f64::MAX)]),
        Err(error(7, INF))
    );
    assert!(matches!(
        LogitBias::new(&[(1, NAN)]),
        Err(SamplingError::LogitBias { token: 1, .. })
    ));
    // Minus infinity and infinity sum to NaN.
    assert!(matches!(
        LogitBias::new(&[(1, -INF), (1, INF)]),
        Err(SamplingError::LogitBias { token: 1, .. })
    ));
    for bias in [100.5, -100.5, -INF] {
        let error = SamplingError::LogitBias {
            token: 4,
            bias,
            least: -100.0,
            most: 100.0,
        };
        assert_eq!(LogitBias::openai(&[(4, bias)]), Err(error));
    }
    assert!(LogitBias::openai(&[(4, 100.0), (5, -100.0)]).is_ok());
    assert_eq!(
        LogitBias::openai(&[(4, 101.0)]).unwrap_err().to_string(),
        "the bias of token 4 must be in [-100, 100], got 101"
    );
}

#[test]
fn settings_of_a_dynamic_temperature_are_checked() {
    for t in [0.0, -1.0, INF] {
        assert_eq!(
            DynamicTemperature::new(t, 0.0, 1.0),
            Err(SamplingError::Temperature(t))
        );
    }
    for (temperature, range) in [(1.0, -0.1), (1.0, INF), (f64::MAX, f64::MAX)] {
        let error = SamplingError::TemperatureRange { temperature, range };
        assert_eq!(DynamicTemperature::new(temperature, range, 1.0), Err(error));
    }
    assert!(matches!(
        DynamicTemperature::new(1.0, NAN, 1.0),
        Err(SamplingError::TemperatureRange { .. })
    ));
    for exponent in [-0.5, INF] {
        let error = SamplingError::TemperatureExponent(exponent);
        assert_eq!(DynamicTemperature::new(1.0, 0.5, exponent), Err(error));
    }
    assert!(matches!(
        DynamicTemperature::new(1.0, 0.5, NAN),
        Err(SamplingError::TemperatureExponent(_))
    ));
    // Without a range it refuses what a temperature refuses, by the id of the token.
    let plain = DynamicTemperature::new(1e-300, 0.0, 1.0).unwrap();
    let mut logits = array![[1.0, -INF, 1e10]];
    let error = SamplingError::TemperatureOverflow {
        row: 0,
        token: 2,
        logit: 1e10,
        temperature: 1e-300,
    };
    assert_eq!(
        processor::apply_inplace(&mut logits, &[Context::new(&[], &[])], &plain),
        Err(error)
    );
    let mut candidates = llm_sampling::Candidates::new();
    candidates.fill(&[1.0, -INF, 1e10]).unwrap();
    candidates.compact();
    assert_eq!(
        plain.apply(&mut candidates, &Context::new(&[], &[])),
        Err(error)
    );
}

#[test]
fn shares_and_counts_of_filters_are_checked() {
    for x in [-0.1, 1.1, INF, -INF] {
        assert_eq!(TopA::new(x, 1), Err(SamplingError::TopA(x)));
        assert_eq!(TailFree::new(x, 1), Err(SamplingError::TailFree(x)));
        assert_eq!(Xtc::new(x, 0.1, 1), Err(SamplingError::XtcProbability(x)));
        assert_eq!(Xtc::new(0.1, x, 1), Err(SamplingError::XtcThreshold(x)));
    }
    assert!(matches!(TopA::new(NAN, 1), Err(SamplingError::TopA(_))));
    assert!(matches!(
        TailFree::new(NAN, 1),
        Err(SamplingError::TailFree(_))
    ));
    assert!(matches!(
        Xtc::new(NAN, 0.1, 1),
        Err(SamplingError::XtcProbability(_))
    ));
    assert!(matches!(
        Xtc::new(0.1, NAN, 1),
        Err(SamplingError::XtcThreshold(_))
    ));
    let error = SamplingError::MinTokensToKeep(0);
    assert_eq!(TopA::new(0.5, 0), Err(error));
    assert_eq!(TailFree::new(0.5, 0), Err(error));
    assert_eq!(Xtc::new(0.5, 0.1, 0), Err(error));
    for n in [0.0, -1.0, INF] {
        assert_eq!(TopNSigma::new(n), Err(SamplingError::TopNSigma(n)));
    }
    assert!(matches!(
        TopNSigma::new(NAN),
        Err(SamplingError::TopNSigma(_))
    ));
}

#[test]
fn settings_of_dry_are_checked() {
    for x in [-0.1, INF] {
        assert_eq!(
            Dry::new(x, 1.75, 2, ALL, &[]),
            Err(SamplingError::DryMultiplier(x))
        );
    }
    assert!(matches!(
        Dry::new(NAN, 1.75, 2, ALL, &[]),
        Err(SamplingError::DryMultiplier(_))
    ));
    for x in [0.99, 0.0, INF] {
        assert_eq!(
            Dry::new(1.0, x, 2, ALL, &[]),
            Err(SamplingError::DryBase(x))
        );
    }
    assert!(matches!(
        Dry::new(1.0, NAN, 2, ALL, &[]),
        Err(SamplingError::DryBase(_))
    ));
    let breakers = [vec![1, 2], vec![], vec![3]];
    assert_eq!(
        Dry::new(1.0, 1.75, 2, ALL, &breakers),
        Err(SamplingError::EmptyBreaker(1))
    );
}

#[test]
fn settings_and_states_of_mirostat_are_checked() {
    for n in [0, 1] {
        let version = MirostatVersion::V1 { n_estimate: n };
        assert_eq!(
            Mirostat::new(version, 5.0, 0.1),
            Err(SamplingError::MirostatEstimate(n))
        );
    }
    for x in [-0.1, INF] {
        assert_eq!(
            Mirostat::new(MirostatVersion::V2, x, 0.1),
            Err(SamplingError::MirostatTau(x))
        );
        assert_eq!(
            Mirostat::new(MirostatVersion::V2, 5.0, x),
            Err(SamplingError::MirostatEta(x))
        );
    }
    assert!(matches!(
        Mirostat::new(MirostatVersion::V2, NAN, 0.1),
        Err(SamplingError::MirostatTau(_))
    ));
    assert!(matches!(
        Mirostat::new(MirostatVersion::V2, 5.0, NAN),
        Err(SamplingError::MirostatEta(_))
    ));
    let config = Mirostat::new(MirostatVersion::V2, 5.0, 0.1).unwrap();
    let logits = array![1.0, 2.0];
    assert!(matches!(
        mirostat::draw(&logits, &config, NAN, 0.5),
        Err(SamplingError::MirostatMu(_))
    ));
    assert_eq!(
        mirostat::draw(&logits, &config, 10.0, 1.0),
        Err(SamplingError::Uniform(1.0))
    );
}

#[test]
fn settings_and_states_of_adaptive_p_are_checked() {
    for x in [-0.1, 1.1] {
        assert_eq!(
            AdaptiveP::new(x, 0.5),
            Err(SamplingError::AdaptiveTarget(x))
        );
    }
    assert!(matches!(
        AdaptiveP::new(NAN, 0.5),
        Err(SamplingError::AdaptiveTarget(_))
    ));
    for x in [-0.1, 1.0] {
        assert_eq!(AdaptiveP::new(0.5, x), Err(SamplingError::AdaptiveDecay(x)));
    }
    assert!(matches!(
        AdaptiveP::new(0.5, NAN),
        Err(SamplingError::AdaptiveDecay(_))
    ));
    let config = AdaptiveP::new(0.5, 0.5).unwrap();
    let logits = array![1.0, 2.0];
    for (weighted_sum, total_weight) in
        [(1.0, 0.0), (1.0, -1.0), (INF, 1.0), (NAN, 1.0), (1.0, NAN)]
    {
        let state = AdaptiveState {
            weighted_sum,
            total_weight,
        };
        let error = adaptive_p::draw(&logits, &config, &state, 0.5).unwrap_err();
        assert!(
            matches!(error, SamplingError::AdaptiveState { .. }),
            "{state:?}"
        );
    }
    let state = config.initial_state();
    assert_eq!(
        adaptive_p::draw(&logits, &config, &state, -0.1),
        Err(SamplingError::Uniform(-0.1))
    );
}

/// All that looks at every logit.
fn everything() -> Vec<Box<dyn Processor<f64>>> {
    vec![
        Box::new(DynamicTemperature::new(1.0, 0.5, 1.0).unwrap()),
        Box::new(TopNSigma::new(1.0).unwrap()),
        Box::new(TopA::new(0.5, 1).unwrap()),
        Box::new(TailFree::new(0.5, 1).unwrap()),
        Box::new(TailFree::new(1.0, 1).unwrap()),
        Box::new(Xtc::new(1.0, 0.1, 1).unwrap()),
        Box::new(Xtc::new(0.0, 0.1, 1).unwrap()),
    ]
}

#[test]
fn rows_without_probabilities_are_refused() {
    let context = Context::new(&[], &[]);
    for (bad, error) in [
        (
            array![[1.0, 2.0, 3.0], [0.0, NAN, INF]],
            SamplingError::NanLogits { row: 1, token: 1 },
        ),
        (
            array![[1.0, 2.0, 3.0], [0.0, -INF, INF]],
            SamplingError::InfiniteLogits { row: 1, token: 2 },
        ),
        (
            array![[1.0, 2.0, 3.0], [-INF, -INF, -INF]],
            SamplingError::MaskedRow { row: 1 },
        ),
    ] {
        for processor in everything() {
            let mut logits: Array2<f64> = bad.clone();
            assert_eq!(
                processor::apply_inplace(&mut logits, &[context, context], &*processor),
                Err(error)
            );
            assert!(
                logits
                    .iter()
                    .zip(&bad)
                    .all(|(x, y)| x.to_bits() == y.to_bits())
            );
        }
        let row = bad.row(1);
        let random = RowRandom::new(0, 0, 0);
        let of_row_0 = |e: SamplingError| e.to_string().replace("row 0", "row 1");
        let mirostat_1 = Mirostat::new(MirostatVersion::V1 { n_estimate: 9 }, 5.0, 0.1).unwrap();
        let mirostat_2 = Mirostat::new(MirostatVersion::V2, 5.0, 0.1).unwrap();
        let adaptive = AdaptiveP::new(0.5, 0.5).unwrap();
        for found in [
            gumbel_max::draw(&row, random).unwrap_err(),
            exponential_race::draw(&row, random).unwrap_err(),
            mirostat::draw(&row, &mirostat_1, 9.0, 0.5).unwrap_err(),
            mirostat::draw(&row, &mirostat_2, 9.0, 0.5).unwrap_err(),
            adaptive_p::draw(&row, &adaptive, &adaptive.initial_state(), 0.5).unwrap_err(),
        ] {
            assert_eq!(of_row_0(found), error.to_string());
        }
    }
    let empty = Array1::<f32>::zeros(0);
    assert_eq!(
        gumbel_max::draw(&empty, RowRandom::new(0, 0, 0)),
        Err(SamplingError::Vocab(0))
    );
    assert_eq!(
        exponential_race::draw(&empty, RowRandom::new(0, 0, 0)),
        Err(SamplingError::Vocab(0))
    );
}

/// Penalties look at the tokens that they change, and at no others.
#[test]
fn penalties_refuse_nan_where_they_would_change_it() {
    let text = [1, 2, 1, 2];
    let context = Context::new(&text, &[]);
    let penalties: [&dyn Processor<f64>; 3] = [
        &PresenceFrequency::new(1.0, 0.0, ALL).unwrap(),
        &LogitBias::new(&[(1, 1.0)]).unwrap(),
        &Dry::new(1.0, 1.75, 2, ALL, &[]).unwrap(),
    ];
    for processor in penalties {
        let bad = array![[0.0, NAN, 0.0]];
        let mut logits = bad.clone();
        let error = SamplingError::NanLogits { row: 0, token: 1 };
        assert_eq!(
            processor::apply_inplace(&mut logits, &[context], processor),
            Err(error)
        );
        assert_eq!(logits[[0, 2]], 0.0);
        let mut elsewhere = array![[NAN, 0.0, 0.0]];
        assert_eq!(
            processor::apply_inplace(&mut elsewhere, &[context], processor),
            Ok(())
        );
    }
}
