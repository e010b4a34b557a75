//! Chains of a named dialect.

mod refusals;

use llm_numerics::philox::Philox4x32;
use llm_sampling::bad_words::BadWords;
use llm_sampling::chain::{ChainConfig, Setting, order};
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::forced_tokens::{ForcedBos, ForcedEos};
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::min_length::{MinLength, MinNewTokens};
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::{EncoderNoRepeatNgram, NoRepeatNgram};
use llm_sampling::prefix_allowed::{PrefixAllowed, Unsatisfiable};
use llm_sampling::presence_frequency::PresenceFrequency;
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
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::typical::Typical;
use llm_sampling::watermark::{Seeding, Watermark};
use llm_sampling::xtc::Xtc;
use llm_sampling::{
    Context, Dialect, Processor, RowRandom, SamplingConfig, SamplingError, Sources, sampler,
};
use ndarray::{Array2, array};

const MASKED: f64 = f64::NEG_INFINITY;
const DIALECTS: [Dialect; 4] = [
    Dialect::HuggingFace,
    Dialect::LlamaCpp,
    Dialect::Vllm,
    Dialect::OpenAi,
];

type Boxed = Box<dyn Processor<f64> + Send + Sync>;

fn refusal(config: &ChainConfig) -> SamplingError {
    config.build::<f64>().unwrap_err()
}

/// What the chain leaves of a row after a prompt of token 0 and the new token 1.
fn leaves(config: &ChainConfig, logits: &[f64]) -> Vec<f64> {
    let mut x = Array2::from_shape_vec([1, logits.len()], logits.to_vec()).unwrap();
    let chain = config.build().unwrap();
    chain
        .apply_inplace(&mut x, &[Context::new(&[0], &[1])])
        .unwrap();
    x.into_raw_vec_and_offset().0
}

#[test]
fn temperature_comes_before_top_p_but_in_llama_cpp() {
    // Probabilities are 0.67, 0.24, 0.09; after a temperature of 0.5, 0.87, 0.12, 0.02.
    for dialect in DIALECTS {
        let config = ChainConfig::new(dialect)
            .with(Setting::TopP(0.8))
            .with(Setting::Temperature(0.5));
        let expected = match dialect {
            Dialect::LlamaCpp => [6.0, 4.0, MASKED],
            _ => [6.0, MASKED, MASKED],
        };
        assert_eq!(leaves(&config, &[3.0, 2.0, 1.0]), expected, "{dialect}");
        // The short way to say it agrees.
        let config = SamplingConfig::sample(dialect, 0.5, None, Some(0.8)).unwrap();
        let mut x = array![[3.0, 2.0, 1.0]];
        sampler::apply_inplace(&mut x, &config).unwrap();
        assert_eq!(x.as_slice().unwrap(), expected, "{dialect}");
    }
}

#[test]
fn ties_at_the_kth_stay_but_in_llama_cpp() {
    for (dialect, expected) in [
        (Dialect::HuggingFace, [2.0, 2.0, MASKED]),
        (Dialect::LlamaCpp, [2.0, MASKED, MASKED]),
        (Dialect::Vllm, [2.0, 2.0, MASKED]),
    ] {
        let config = ChainConfig::new(dialect).with(Setting::TopK(1));
        assert_eq!(leaves(&config, &[2.0, 2.0, 1.0]), expected, "{dialect}");
    }
}

#[test]
fn penalties_look_at_other_tokens() {
    // Token 0 is of the prompt, token 1 is new.
    let presence = |dialect| ChainConfig::new(dialect).with(Setting::PresencePenalty(0.5));
    let x = [2.0, 2.0, 2.0];
    assert_eq!(leaves(&presence(Dialect::LlamaCpp), &x), [1.5, 1.5, 2.0]);
    assert_eq!(leaves(&presence(Dialect::Vllm), &x), [2.0, 1.5, 2.0]);
    assert_eq!(leaves(&presence(Dialect::OpenAi), &x), [2.0, 1.5, 2.0]);
    let repetition = |dialect| ChainConfig::new(dialect).with(Setting::RepetitionPenalty(2.0));
    for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp, Dialect::Vllm] {
        assert_eq!(leaves(&repetition(dialect), &x), [1.0, 1.0, 2.0]);
    }
    let last = repetition(Dialect::LlamaCpp).with(Setting::PenaltyLastN(1));
    assert_eq!(leaves(&last, &x), [2.0, 1.0, 2.0]);
    let ignore = repetition(Dialect::HuggingFace).with(Setting::PromptIgnoreLength(1));
    assert_eq!(leaves(&ignore, &x), [2.0, 1.0, 2.0]);

    // 64 tokens back, and not 65.
    let prompt: Vec<u32> = core::iter::once(0)
        .chain(core::iter::repeat_n(1, 64))
        .collect();
    let chain = repetition(Dialect::LlamaCpp).build::<f64>().unwrap();
    for (prompt, expected) in [(&prompt[..64], 1.0), (&prompt[..], 2.0)] {
        let mut x = array![[2.0, 2.0]];
        chain
            .apply_inplace(&mut x, &[Context::new(prompt, &[])])
            .unwrap();
        assert_eq!(x, array![[expected, 1.0]]);
    }
}

#[test]
fn each_dialect_has_its_meaning_of_no_temperature() {
    let x = [1.0, 3.0, 3.0];
    let at = |dialect, t| ChainConfig::new(dialect).with(Setting::Temperature(t));
    assert_eq!(
        refusal(&at(Dialect::HuggingFace, 0.0)),
        SamplingError::Temperature(0.0)
    );
    for t in [0.0, -1.0] {
        assert_eq!(leaves(&at(Dialect::LlamaCpp, t), &x), [MASKED, 3.0, MASKED]);
    }
    // Its filters run first: XTC leaves out the likeliest tokens.
    let xtc = at(Dialect::LlamaCpp, 0.0).with(Setting::Xtc {
        probability: 1.0,
        threshold: 0.05,
    });
    assert_eq!(leaves(&xtc, &x), [1.0, MASKED, MASKED]);
    for t in [0.0, 9e-6] {
        assert_eq!(leaves(&at(Dialect::Vllm, t), &x), [MASKED, 3.0, MASKED]);
    }
    let warm = leaves(&at(Dialect::Vllm, 1e-5), &x);
    assert_eq!(warm[1], warm[2]);
    assert_eq!(leaves(&at(Dialect::OpenAi, 0.0), &x), [MASKED, 3.0, MASKED]);
    let greedy = ChainConfig::new(Dialect::HuggingFace)
        .with(Setting::Greedy)
        .with(Setting::Temperature(0.5)) // does not run
        .with(Setting::RepetitionPenalty(2.0)); // runs
    assert_eq!(leaves(&greedy, &x), [MASKED, MASKED, 3.0]);
    for t in [f64::NAN, f64::INFINITY] {
        for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp, Dialect::Vllm] {
            let error = refusal(&at(dialect, t));
            assert!(matches!(error, SamplingError::Temperature(_)), "{error}");
        }
    }
    assert_eq!(
        refusal(&at(Dialect::Vllm, -1.0)),
        SamplingError::Temperature(-1.0)
    );
    let mode = SamplingConfig::sample(Dialect::Vllm, 9e-6, None, None).unwrap();
    assert_eq!(mode, SamplingConfig::greedy());
}

/// Where the libraries have a top-k, 0 turns it off: `_get_logits_processor` of transformers 5.23, `llama_sampler_top_k_impl` of llama.cpp, `SamplingParams` of vLLM.
#[test]
fn a_top_k_of_0_keeps_all_tokens() {
    let x = [1.0, 3.0, 2.0];
    for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp, Dialect::Vllm] {
        let all = ChainConfig::new(dialect).with(Setting::TopK(0));
        assert_eq!(leaves(&all, &x), x);
        let one = all.with(Setting::TopK(1));
        assert_eq!(leaves(&one, &x), [MASKED, 3.0, MASKED]);
        let sample = |k| SamplingConfig::sample(dialect, 1.0, k, None).unwrap();
        assert_eq!(sample(Some(0)), sample(None));
        assert_ne!(sample(Some(1)), sample(None));
    }
    let not = |dialect| SamplingError::NotInDialect {
        dialect,
        setting: "top_k",
    };
    let openai = ChainConfig::new(Dialect::OpenAi).with(Setting::TopK(0));
    assert_eq!(refusal(&openai), not(Dialect::OpenAi));
    assert_eq!(
        SamplingConfig::sample(Dialect::OpenAi, 1.0, Some(0), None),
        Err(not(Dialect::OpenAi))
    );
}

/// The chain, with its settings in two orders, leaves what its processors leave one after the other.
fn compare(config: &ChainConfig, by_hand: &dyn Fn() -> Vec<Boxed>) {
    let mut backwards = config.clone();
    backwards.settings.reverse();
    let mut masked = 0;
    for seed in 0..40 {
        let random = Philox4x32::new(seed);
        let x = Array2::from_shape_fn([1, 30], |(_, i)| {
            (20.0 * random.uniform_f64(0, i as u64)).round() / 4.0
        });
        let token = |i: u64| (30.0 * random.uniform_f64(1, i)) as u32;
        let prompt: Vec<u32> = (0..70).map(token).collect();
        let generated: Vec<u32> = (70..75).map(token).collect();
        let contexts = [Context::new(&prompt, &generated).with_random(RowRandom::new(seed, 0, 5))];
        let mut expected = x.clone();
        for processor in by_hand() {
            apply_inplace(&mut expected, &contexts, &*processor).unwrap();
        }
        for config in [config, &backwards] {
            let mut out = x.clone();
            let chain = config.build().unwrap();
            chain.apply_inplace(&mut out, &contexts).unwrap();
            assert_eq!(out, expected, "{}, seed {seed}", config.dialect);
        }
        masked += expected.iter().filter(|x| **x == MASKED).count();
    }
    assert!(masked > 40 && masked < 40 * 29); // filters have something to do, and leave something
}

#[test]
fn the_chain_of_hugging_face_is_its_processors() {
    let stop = vec![3, 4];
    let bias = || SequenceBias::new([(vec![5], 1.5), (vec![29], MASKED)]).unwrap();
    let source = || Sources::one(vec![1, 2, 7, 8, 9]);
    let encoder = || EncoderRepetitionPenalty::new(1.3, source()).unwrap();
    let encoder_ngram = || EncoderNoRepeatNgram::new(1, source()).unwrap();
    let words = || vec![vec![11], vec![3]];
    let forced = || ForcedEos::new(100, vec![4]);
    let decay = || ExponentialDecayLength::new(72, 1.2, stop.clone()).unwrap();
    let begin = || BeginSuppress::new(vec![12], 75);
    let watermark = Watermark::new(0.5, 0.25, 7, Seeding::LeftHash, 1).unwrap();
    let config = ChainConfig::new(Dialect::HuggingFace)
        .with(Setting::SequenceBias(bias()))
        .with(Setting::EncoderRepetitionPenalty(encoder()))
        .with(Setting::PromptIgnoreLength(60))
        .with(Setting::RepetitionPenalty(1.7))
        .with(Setting::NoRepeatNgram(2))
        .with(Setting::EncoderNoRepeatNgram(encoder_ngram()))
        .with(Setting::BadWords(words()))
        .with(Setting::MinLength(76))
        .with(Setting::MinNewTokens(3))
        .with(Setting::ForcedBos(6))
        .with(Setting::ForcedEos(forced()))
        .with(Setting::RemoveInvalid)
        .with(Setting::ExponentialDecayLength(decay()))
        .with(Setting::Suppress(vec![13, 14]))
        .with(Setting::BeginSuppress(begin()))
        .with(Setting::Temperature(0.8))
        .with(Setting::TopH(0.9))
        .with(Setting::TopK(12))
        .with(Setting::TopP(0.95))
        .with(Setting::MinP(0.02))
        .with(Setting::Typical(0.9))
        .with(Setting::EpsilonCutoff(0.01))
        .with(Setting::EtaCutoff(0.02))
        .with(Setting::Watermark(watermark))
        .with(Setting::Renormalize)
        .with_stop_ids(stop.clone())
        .with_min_tokens_to_keep(2);
    compare(&config, &|| {
        vec![
            Box::new(bias()),
            Box::new(encoder()),
            Box::new(RepetitionPenalty::new(1.7, PenaltyWindow::SkipFirst(60)).unwrap()),
            Box::new(NoRepeatNgram::new(2).unwrap()),
            Box::new(encoder_ngram()),
            Box::new(BadWords::new(words(), &stop).unwrap()),
            Box::new(MinLength::new(76, stop.clone())),
            Box::new(MinNewTokens::new(3, stop.clone())),
            Box::new(ForcedBos::new(6)),
            Box::new(forced()),
            Box::new(RemoveInvalid),
            Box::new(decay()),
            Box::new(Suppress::new(vec![13, 14])),
            Box::new(begin()),
            Box::new(Temperature::new(0.8).unwrap()),
            Box::new(TopH::new(0.9).unwrap()),
            Box::new(TopK::new(12, Ties::Kept, 2).unwrap()),
            Box::new(TopP::new(0.95, SumFrom::Smallest, 2).unwrap()),
            Box::new(MinP::new(0.02, 2).unwrap()),
            Box::new(Typical::new(0.9, 2).unwrap()),
            Box::new(EpsilonCutoff::new(0.01, 2).unwrap()),
            Box::new(EtaCutoff::new(0.02, 2).unwrap()),
            Box::new(watermark),
            Box::new(LogNormalization),
        ]
    });
}

#[test]
fn the_chain_of_llama_cpp_is_its_processors() {
    let biases = vec![(5, 1.5), (29, MASKED)];
    let window = PenaltyWindow::Last(64);
    let dry = || Dry::new(0.8, 1.75, 1, PenaltyWindow::All, &[vec![2]]).unwrap();
    let config = ChainConfig::new(Dialect::LlamaCpp)
        .with(Setting::LogitBias(biases.clone()))
        .with(Setting::RepetitionPenalty(1.3))
        .with(Setting::FrequencyPenalty(0.2))
        .with(Setting::PresencePenalty(0.1))
        .with(Setting::Dry(dry()))
        .with(Setting::TopNSigma(1.5))
        .with(Setting::TopK(12))
        .with(Setting::Typical(0.9))
        .with(Setting::TopP(0.9))
        .with(Setting::MinP(0.05))
        .with(Setting::Xtc {
            probability: 0.5,
            threshold: 0.1,
        })
        .with(Setting::Temperature(0.8))
        .with_min_tokens_to_keep(2);
    let by_hand = || -> Vec<Boxed> {
        vec![
            Box::new(LogitBias::new(&biases).unwrap()),
            Box::new(RepetitionPenalty::new(1.3, window).unwrap()),
            Box::new(PresenceFrequency::new(0.0, 0.2, window).unwrap()),
            Box::new(PresenceFrequency::new(0.1, 0.0, window).unwrap()),
            Box::new(dry()),
            Box::new(TopNSigma::new(1.5).unwrap()),
            Box::new(TopK::new(12, Ties::Exact, 1).unwrap()),
            Box::new(Typical::new(0.9, 2).unwrap()),
            Box::new(TopP::new(0.9, SumFrom::Largest, 2).unwrap()),
            Box::new(MinP::new(0.05, 2).unwrap()),
            Box::new(Xtc::new(0.5, 0.1, 2).unwrap()),
        ]
    };
    compare(&config, &|| {
        let mut steps = by_hand();
        steps.push(Box::new(Temperature::new(0.8).unwrap()));
        steps
    });
    let dynamic = config.clone().with(Setting::DynamicTemperature {
        range: 0.5,
        exponent: 1.0,
    });
    compare(&dynamic, &|| {
        let mut steps = by_hand();
        steps.push(Box::new(DynamicTemperature::new(0.8, 0.5, 1.0).unwrap()));
        steps
    });
    let default =
        ChainConfig::defaults(Dialect::LlamaCpp).with(Setting::LogitBias(vec![(29, MASKED)]));
    compare(&default, &|| {
        vec![
            Box::new(LogitBias::new(&[(29, MASKED)]).unwrap()),
            Box::new(TopK::new(40, Ties::Exact, 1).unwrap()),
            Box::new(TopP::new(0.95, SumFrom::Largest, 1).unwrap()),
            Box::new(MinP::new(0.05, 1).unwrap()),
            Box::new(Temperature::new(0.8).unwrap()),
        ]
    });
}

#[test]
fn the_chain_of_vllm_is_its_processors() {
    let allowed: Vec<u32> = (0..26).collect();
    let biases = vec![(5, 1.5), (6, -2.0)];
    let words = || vec![vec![11], vec![3]]; // a stop token may be among them
    let config = ChainConfig::new(Dialect::Vllm)
        .with(Setting::AllowedTokens(allowed.clone()))
        .with(Setting::BadWords(words()))
        .with(Setting::MinNewTokens(8))
        .with(Setting::LogitBias(biases.clone()))
        .with(Setting::RepetitionPenalty(1.3))
        .with(Setting::FrequencyPenalty(0.2))
        .with(Setting::PresencePenalty(0.1))
        .with(Setting::Temperature(0.8))
        .with(Setting::MinP(0.05))
        .with(Setting::TopK(10))
        .with(Setting::TopP(0.9))
        .with_stop_ids(vec![3, 4]);
    compare(&config, &|| {
        let allowed = allowed.clone();
        let allowed = move |_: &Context<'_>, ids: &mut Vec<u32>| ids.extend(&allowed);
        let new = PenaltyWindow::Generated;
        vec![
            Box::new(PrefixAllowed::new(allowed).with_unsatisfiable(Unsatisfiable::Masked)),
            Box::new(BadWords::new(words(), &[]).unwrap()),
            Box::new(MinNewTokens::new(8, vec![3, 4])),
            Box::new(LogitBias::new(&biases).unwrap()),
            Box::new(RepetitionPenalty::new(1.3, PenaltyWindow::All).unwrap()),
            Box::new(PresenceFrequency::new(0.0, 0.2, new).unwrap()),
            Box::new(PresenceFrequency::new(0.1, 0.0, new).unwrap()),
            Box::new(Temperature::new(0.8).unwrap()),
            Box::new(MinP::new(0.05, 1).unwrap()),
            Box::new(TopK::new(10, Ties::Kept, 1).unwrap()),
            Box::new(TopP::new(0.9, SumFrom::Smallest, 1).unwrap()),
        ]
    });
}

#[test]
fn the_chain_of_openai_is_its_processors() {
    let mask = || Box::new(Suppress::new(vec![29]));
    let biases = vec![(5, 1.5), (6, -2.0)];
    let config = ChainConfig::new(Dialect::OpenAi)
        .with(Setting::LogitBias(biases.clone()))
        .with(Setting::FrequencyPenalty(0.2))
        .with(Setting::PresencePenalty(0.1))
        .with(Setting::Temperature(0.8))
        .with(Setting::TopP(0.9));
    let prompt = [1, 2, 5];
    let new = PenaltyWindow::Generated;
    let steps: Vec<Boxed> = vec![
        Box::new(LogitBias::new(&biases).unwrap()),
        mask(),
        Box::new(PresenceFrequency::new(0.0, 0.2, new).unwrap()),
        Box::new(PresenceFrequency::new(0.1, 0.0, new).unwrap()),
        Box::new(Temperature::new(0.8).unwrap()),
        Box::new(TopP::new(0.9, SumFrom::Smallest, 1).unwrap()),
    ];
    let contexts = [Context::new(&prompt, &[7, 8, 7])];
    let x = Array2::from_shape_fn([1, 30], |(_, i)| ((i * 17 % 30) as f64).sqrt());
    let mut expected = x.clone();
    for step in steps {
        apply_inplace(&mut expected, &contexts, &*step).unwrap();
    }
    let chain = config.build_with(vec![("user", mask() as Boxed)]).unwrap();
    let mut out = x;
    chain.apply_inplace(&mut out, &contexts).unwrap();
    assert_eq!(out, expected);
}

#[test]
fn inserted_processors_run_at_their_place() {
    let double = || -> Boxed {
        Box::new(
            |candidates: &mut llm_sampling::Candidates<f64>, _: &Context<'_>| {
                for x in candidates.logits_mut() {
                    *x *= 2.0;
                }
                Ok(())
            },
        )
    };
    let config = ChainConfig::new(Dialect::Vllm)
        .with(Setting::LogitBias(vec![(0, 1.0)]))
        .with(Setting::PresencePenalty(0.5));
    for (place, expected) in [
        ("allowed_tokens", 1.0 * 2.0 + 1.0 - 0.5),
        ("user", (1.0 + 1.0) * 2.0 - 0.5),
        ("top_p", (1.0 + 1.0 - 0.5) * 2.0),
    ] {
        let chain = config.build_with(vec![(place, double())]).unwrap();
        let mut x = array![[1.0, 1.0]];
        chain
            .apply_inplace(&mut x, &[Context::new(&[], &[0])])
            .unwrap();
        assert_eq!(x[[0, 0]], expected, "{place}");
    }
    // Greedy decoding leaves out those at the place of a filter.
    let greedy = config.with(Setting::Temperature(0.0));
    let places = vec![("top_p", double()), ("user", double())];
    assert_eq!(greedy.build_with(places).unwrap().len(), 4);
    for dialect in DIALECTS {
        assert!(order(dialect).contains(&"user"));
        let error = SamplingError::NotInDialect {
            dialect,
            setting: "here",
        };
        let config = ChainConfig::new(dialect);
        let refused = config.build_with(vec![("here", double())]).unwrap_err();
        assert_eq!(refused, error);
    }
}

/// All filters together leave so little that a wrong order may not show; two at a time do show it.
#[test]
fn each_two_filters_of_hugging_face_are_in_order() {
    let filters = || -> Vec<(Setting, Boxed)> {
        vec![
            (
                Setting::Temperature(0.5),
                Box::new(Temperature::new(0.5).unwrap()),
            ),
            (Setting::TopH(0.6), Box::new(TopH::new(0.6).unwrap())),
            (
                Setting::TopK(6),
                Box::new(TopK::new(6, Ties::Kept, 1).unwrap()),
            ),
            (
                Setting::TopP(0.7),
                Box::new(TopP::new(0.7, SumFrom::Smallest, 1).unwrap()),
            ),
            (Setting::MinP(0.2), Box::new(MinP::new(0.2, 1).unwrap())),
            (
                Setting::Typical(0.6),
                Box::new(Typical::new(0.6, 1).unwrap()),
            ),
            (
                Setting::EpsilonCutoff(0.12),
                Box::new(EpsilonCutoff::new(0.12, 1).unwrap()),
            ),
            (
                Setting::EtaCutoff(0.2),
                Box::new(EtaCutoff::new(0.2, 1).unwrap()),
            ),
        ]
    };
    let contexts = [Context::new(&[], &[])];
    let mut commute = Vec::new();
    for second in 1..filters().len() {
        for first in 0..second {
            let (a, b) = (&filters()[first], &filters()[second]);
            let config = ChainConfig::new(Dialect::HuggingFace)
                .with(b.0.clone())
                .with(a.0.clone());
            let chain = config.build().unwrap();
            let mut differ = 0;
            for seed in 0..300 {
                let random = Philox4x32::new(seed);
                let x = Array2::from_shape_fn([1, 12], |(_, i)| {
                    (4.0 * random.uniform_f64(0, i as u64) * 8.0).round() / 8.0
                });
                let [mut right, mut wrong, mut out] = [x.clone(), x.clone(), x];
                for step in [&a.1, &b.1] {
                    apply_inplace(&mut right, &contexts, &**step).unwrap();
                }
                for step in [&b.1, &a.1] {
                    apply_inplace(&mut wrong, &contexts, &**step).unwrap();
                }
                chain.apply_inplace(&mut out, &contexts).unwrap();
                assert_eq!(out, right);
                differ += usize::from(right != wrong);
            }
            if differ == 0 {
                commute.push((a.0.name(), b.0.name()));
            }
        }
    }
    // A temperature does not change which logits are the largest; min-p compares with the maximum, which top-k keeps.
    assert_eq!(commute, [("temperature", "top_k"), ("top_k", "min_p")]);
}

#[test]
fn a_stop_token_is_no_bad_word_in_hugging_face() {
    let words = vec![vec![0]];
    for (dialect, first) in [(Dialect::HuggingFace, 1.0), (Dialect::Vllm, MASKED)] {
        let config = ChainConfig::new(dialect)
            .with(Setting::BadWords(words.clone()))
            .with_stop_ids(vec![0]);
        assert_eq!(leaves(&config, &[1.0, 2.0]), [first, 2.0], "{dialect}");
    }
}
