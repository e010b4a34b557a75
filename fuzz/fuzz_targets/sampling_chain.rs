//! Chains of any dialect with any settings and any rows: a token that has a probability, or a typed error that names its row.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::dry::Dry;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::repetition_penalty::PenaltyWindow;
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::{Chain, Context, Dialect, RowRandom, SamplingError};
use ndarray::Array2;

type Input = (
    [u8; 4],
    Vec<(u8, f64, u32)>,
    Vec<Vec<u32>>,
    Vec<u32>,
    Vec<f32>,
    [u64; 3],
);

/// A setting of any kind, or none if its own constructor refuses it.
fn setting(kind: u8, x: f64, n: u32, lists: &[Vec<u32>]) -> Option<Setting> {
    let size = n as usize;
    let list = || {
        lists
            .get(size % lists.len().max(1))
            .cloned()
            .unwrap_or_default()
    };
    Some(match kind % 28 {
        0 => Setting::Temperature(x),
        1 => Setting::TopK(size),
        2 => Setting::TopP(x),
        3 => Setting::MinP(x),
        4 => Setting::Typical(x),
        5 => Setting::EpsilonCutoff(x),
        6 => Setting::EtaCutoff(x),
        7 => Setting::TopH(x),
        8 => Setting::TopNSigma(x),
        9 => Setting::RepetitionPenalty(x),
        10 => Setting::FrequencyPenalty(x),
        11 => Setting::PresencePenalty(x),
        12 => Setting::PenaltyLastN(size),
        13 => Setting::PromptIgnoreLength(size),
        14 => Setting::NoRepeatNgram(size),
        15 => Setting::BadWords(lists.to_vec()),
        16 => Setting::MinLength(size),
        17 => Setting::MinNewTokens(size),
        18 => Setting::ForcedBos(n),
        19 => Setting::RemoveInvalid,
        20 => Setting::Suppress(list()),
        21 => Setting::AllowedTokens(list()),
        22 => Setting::Renormalize,
        23 => Setting::LogitBias(list().into_iter().map(|token| (token, x)).collect()),
        24 => Setting::DynamicTemperature {
            range: x,
            exponent: f64::from(n),
        },
        25 => Setting::Xtc {
            probability: x,
            threshold: f64::from(n) / 16.0,
        },
        26 => Setting::Dry(Dry::new(x, 1.75, size, PenaltyWindow::All, lists).ok()?),
        _ if n.is_multiple_of(3) => Setting::Greedy,
        _ if n % 3 == 1 => {
            let biases = lists.iter().map(|list| (list.clone(), x));
            Setting::SequenceBias(SequenceBias::new(biases).ok()?)
        }
        _ => Setting::ExponentialDecayLength(ExponentialDecayLength::new(size, x, list()).ok()?),
    })
}

fuzz_target!(|input: Input| {
    let ([dialect, batch, vocab, flags], settings, lists, tokens, values, [seed, stream, step]) =
        input;
    let dialects = [
        Dialect::HuggingFace,
        Dialect::LlamaCpp,
        Dialect::Vllm,
        Dialect::OpenAi,
    ];
    let mut config = ChainConfig::new(dialects[usize::from(dialect % 4)])
        .with_stop_ids(tokens.iter().take(2).copied().collect())
        .with_min_tokens_to_keep(usize::from(flags >> 4));
    for (kind, x, n) in settings {
        // Any bits, or a number that is likely to be taken.
        let x = if flags & 1 == 0 { x } else { (x % 1.0).abs() };
        config.settings.extend(setting(kind, x, n % 100, &lists));
    }
    let Ok(mut chain): Result<Chain<f32>, _> = config.build() else {
        return;
    };
    let (batch, vocab) = (usize::from(batch % 4), usize::from(vocab % 80));
    let mut i = 0..;
    let logits = Array2::from_shape_simple_fn([batch, vocab], || {
        let i = i.next().unwrap_or(0);
        values.get(i % values.len().max(1)).copied().unwrap_or(0.5)
    });
    let (prompt, generated) = tokens.split_at(tokens.len() / 2);
    let random = RowRandom::new(seed, stream, step % (1 << 47));
    let contexts = vec![Context::new(prompt, generated).with_random(random); batch];
    let draws = chain.sample(&logits, &contexts);
    match &draws {
        Ok(draws) => {
            assert_eq!(draws.len(), batch);
            for (row, draw) in draws.iter().enumerate() {
                assert!((draw.token as usize) < vocab && draw.log_probability <= 1e-6);
                let mut alone = logits.clone();
                assert!(chain.apply_inplace(&mut alone, &contexts).is_ok());
                assert!(alone[[row, draw.token as usize]] > f32::NEG_INFINITY);
            }
        }
        Err(SamplingError::MaskedRow { row } | SamplingError::NanLogits { row, .. }) => {
            assert!(*row < batch);
        }
        Err(_) => {}
    }
    let again = chain.sample(&logits, &contexts); // nothing is kept from step to step
    assert_eq!(format!("{again:?}"), format!("{draws:?}")); // errors may carry NaN
});
