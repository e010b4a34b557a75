//! What a chain of a dialect refuses.

use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::dry::Dry;
use llm_sampling::repetition_penalty::PenaltyWindow;
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::{Dialect, SamplingConfig, SamplingError};

use super::{DIALECTS, refusal};

#[test]
fn settings_of_other_dialects_are_refused() {
    let dry = Dry::new(0.8, 1.75, 2, PenaltyWindow::All, &[]).unwrap();
    let bias = SequenceBias::new([(vec![1], 1.0)]).unwrap();
    let dynamic = Setting::DynamicTemperature {
        range: 0.5,
        exponent: 1.0,
    };
    let xtc = Setting::Xtc {
        probability: 0.5,
        threshold: 0.1,
    };
    let settings = [
        // Hugging Face, llama.cpp, vLLM, OpenAI
        (Setting::SequenceBias(bias), "HF"),
        (Setting::Typical(0.5), "HF lcpp"),
        (Setting::TopH(0.5), "HF"),
        (Setting::EpsilonCutoff(0.1), "HF"),
        (Setting::EtaCutoff(0.1), "HF"),
        (Setting::NoRepeatNgram(2), "HF"),
        (Setting::MinLength(2), "HF"),
        (Setting::ForcedBos(2), "HF"),
        (Setting::RemoveInvalid, "HF"),
        (Setting::Suppress(vec![1]), "HF"),
        (Setting::PromptIgnoreLength(1), "HF"),
        (Setting::Greedy, "HF"),
        (Setting::Renormalize, "HF"),
        (Setting::Dry(dry), "lcpp"),
        (Setting::TopNSigma(1.0), "lcpp"),
        (Setting::PenaltyLastN(1), "lcpp"),
        (dynamic, "lcpp"),
        (xtc, "lcpp"),
        (Setting::AllowedTokens(vec![1]), "vLLM"),
        (Setting::BadWords(vec![vec![1]]), "HF vLLM"),
        (Setting::MinNewTokens(1), "HF vLLM"),
        (Setting::RepetitionPenalty(1.5), "HF lcpp vLLM"),
        (Setting::MinP(0.5), "HF lcpp vLLM"),
        (Setting::TopK(5), "HF lcpp vLLM"),
        (Setting::FrequencyPenalty(0.5), "lcpp vLLM OpenAI"),
        (Setting::PresencePenalty(0.5), "lcpp vLLM OpenAI"),
        (Setting::LogitBias(vec![(1, 1.0)]), "lcpp vLLM OpenAI"),
        (Setting::Temperature(0.5), "HF lcpp vLLM OpenAI"),
        (Setting::TopP(0.5), "HF lcpp vLLM OpenAI"),
    ];
    for (setting, have) in settings {
        for (dialect, short) in DIALECTS.into_iter().zip(["HF", "lcpp", "vLLM", "OpenAI"]) {
            let made = ChainConfig::new(dialect)
                .with(setting.clone())
                .build::<f64>();
            if have.contains(short) {
                assert!(made.is_ok(), "{dialect} {}", setting.name());
            } else {
                let error = SamplingError::NotInDialect {
                    dialect,
                    setting: setting.name(),
                };
                assert_eq!(made.unwrap_err(), error);
            }
        }
    }
    let error = SamplingError::NotInDialect {
        dialect: Dialect::Vllm,
        setting: "typical",
    };
    assert_eq!(error.to_string(), "vLLM has no setting typical");
}

#[test]
fn numbers_that_an_interface_does_not_take_are_refused() {
    let range = |dialect, setting, value, least, most| SamplingError::DialectRange {
        dialect,
        setting,
        value,
        least,
        most,
    };
    for dialect in [Dialect::Vllm, Dialect::OpenAi] {
        for value in [-2.5, 2.5] {
            let config = ChainConfig::new(dialect);
            assert_eq!(
                refusal(&config.clone().with(Setting::PresencePenalty(value))),
                range(dialect, "presence_penalty", value, -2.0, 2.0)
            );
            assert_eq!(
                refusal(&config.with(Setting::FrequencyPenalty(value))),
                range(dialect, "frequency_penalty", value, -2.0, 2.0)
            );
        }
    }
    let openai = ChainConfig::new(Dialect::OpenAi);
    for t in [-0.1, 2.1] {
        let config = openai.clone().with(Setting::Temperature(t));
        let error = range(Dialect::OpenAi, "temperature", t, 0.0, 2.0);
        assert_eq!(refusal(&config), error);
    }
    let error = SamplingConfig::sample(Dialect::OpenAi, 2.1, None, None).unwrap_err();
    assert_eq!(error, range(Dialect::OpenAi, "temperature", 2.1, 0.0, 2.0));
    let error = SamplingConfig::sample(Dialect::OpenAi, 1.0, Some(5), None).unwrap_err();
    assert_eq!(
        error,
        SamplingError::NotInDialect {
            dialect: Dialect::OpenAi,
            setting: "top_k"
        }
    );
    let config = openai.with(Setting::LogitBias(vec![(3, 101.0)]));
    assert_eq!(
        refusal(&config),
        SamplingError::LogitBias {
            token: 3,
            bias: 101.0,
            least: -100.0,
            most: 100.0
        }
    );
}

#[test]
fn a_setting_comes_once_and_filters_keep_a_token() {
    let mut config = ChainConfig::new(Dialect::Vllm).with(Setting::TopK(5));
    config.settings.push(Setting::TopK(6));
    assert_eq!(refusal(&config), SamplingError::SettingTwice("top_k"));
    let replaced = ChainConfig::new(Dialect::Vllm)
        .with(Setting::TopK(5))
        .with(Setting::TopK(6));
    assert_eq!(replaced.settings, [Setting::TopK(6)]);
    for dialect in DIALECTS {
        let none = ChainConfig::new(dialect).with_min_tokens_to_keep(0);
        assert_eq!(refusal(&none), SamplingError::MinTokensToKeep(0));
    }
    for dialect in [Dialect::Vllm, Dialect::OpenAi] {
        let error = SamplingError::NotInDialect {
            dialect,
            setting: "min_tokens_to_keep",
        };
        let two = ChainConfig::new(dialect).with_min_tokens_to_keep(2);
        assert_eq!(refusal(&two), error);
    }
}
