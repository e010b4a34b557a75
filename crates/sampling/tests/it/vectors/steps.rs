//! The processors as steps: each with its name in the library, its fast and its textbook form.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_sampling::bad_words::BadWords;
use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::forced_tokens::{ForcedBos, ForcedEos};
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::min_length::{MinLength, MinNewTokens};
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::{EncoderNoRepeatNgram, NoRepeatNgram};
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
use llm_sampling::{Candidates, Context, Processor, SamplingError, Sources, reference};
use ndarray::{Array1, Ix2};

type Textbook = Box<dyn Fn(&[f64], &Context<'_>) -> Vec<f64>>;

/// One processor.
pub(super) struct Step {
    /// The class in transformers.
    pub(super) name: &'static str,
    fast: Box<dyn Processor<f32>>,
    textbook: Textbook,
}

impl Step {
    fn new(
        name: &'static str,
        fast: impl Processor<f32> + 'static,
        textbook: impl Fn(&[f64], &Context<'_>) -> Vec<f64> + 'static,
    ) -> Self {
        Self {
            name,
            fast: Box::new(fast),
            textbook: Box::new(textbook),
        }
    }
}

/// Runs the steps on `logits` and compares. The first `prompt` tokens are the prompt, all if not given.
pub(super) fn compare(
    case: &Case,
    tier: Tier,
    steps: &[Step],
    prompt: Option<usize>,
) -> Result<(), VectorError> {
    let tokens = case.input_i64::<Ix2>("input_ids")?.mapv(|id| id as u32);
    let tokens: Vec<Vec<u32>> = tokens.rows().into_iter().map(|row| row.to_vec()).collect();
    let mut contexts: Vec<Context<'_>> = Vec::new();
    for (row, tokens) in tokens.iter().enumerate() {
        let prompt = prompt.unwrap_or(tokens.len());
        let (prompt, generated) = tokens
            .split_at_checked(prompt)
            .ok_or_else(|| VectorError::op("prompt_length is beyond input_ids"))?;
        let mut context = Context::new(prompt, generated);
        context.row = row;
        contexts.push(context);
    }
    if tier == Tier::Reference {
        let mut logits = case.input_f64::<Ix2>("logits")?;
        for (mut row, context) in logits.rows_mut().into_iter().zip(&contexts) {
            let out = steps
                .iter()
                .fold(row.to_vec(), |x, step| (step.textbook)(&x, context));
            row.assign(&Array1::from(out));
        }
        return case.expect("logits", &logits);
    }
    let mut logits = case.input_f32::<Ix2>("logits")?;
    let all = |candidates: &mut Candidates<f32>, context: &Context<'_>| {
        steps
            .iter()
            .try_for_each(|step| step.fast.apply(candidates, context))
    };
    apply_inplace(&mut logits, &contexts, &all).map_err(VectorError::op)?;
    case.expect("logits", &logits)
}

fn so_far(context: &Context<'_>) -> Vec<u32> {
    context.tokens().collect()
}

type Made = Result<Step, SamplingError>;

pub(super) fn temperature(t: f64) -> Made {
    Ok(Step::new(
        "TemperatureLogitsWarper",
        Temperature::new(t)?,
        move |x, _| reference::temperature::apply(x, t),
    ))
}

pub(super) fn top_k(k: usize, least: usize) -> Made {
    Ok(Step::new(
        "TopKLogitsWarper",
        TopK::new(k, Ties::Kept, least)?,
        move |x, _| reference::top_k::apply(x, k, Ties::Kept, least),
    ))
}

pub(super) fn top_p(p: f64, least: usize) -> Made {
    Ok(Step::new(
        "TopPLogitsWarper",
        TopP::new(p, SumFrom::Smallest, least)?,
        move |x, _| reference::top_p::apply(x, p, SumFrom::Smallest, least),
    ))
}

pub(super) fn top_h(h: f64) -> Made {
    Ok(Step::new("TopHLogitsWarper", TopH::new(h)?, move |x, _| {
        reference::top_h::apply(x, h)
    }))
}

pub(super) fn min_p(p: f64, least: usize) -> Made {
    Ok(Step::new(
        "MinPLogitsWarper",
        MinP::new(p, least)?,
        move |x, _| reference::min_p::apply(x, p, least),
    ))
}

pub(super) fn typical(p: f64, least: usize) -> Made {
    Ok(Step::new(
        "TypicalLogitsWarper",
        Typical::new(p, least)?,
        move |x, _| reference::typical::apply(x, p, least),
    ))
}

pub(super) fn epsilon(epsilon: f64, least: usize) -> Made {
    Ok(Step::new(
        "EpsilonLogitsWarper",
        EpsilonCutoff::new(epsilon, least)?,
        move |x, _| reference::epsilon_cutoff::apply(x, epsilon, least),
    ))
}

pub(super) fn eta(epsilon: f64, least: usize) -> Made {
    Ok(Step::new(
        "EtaLogitsWarper",
        EtaCutoff::new(epsilon, least)?,
        move |x, _| reference::eta_cutoff::apply(x, epsilon, least),
    ))
}

pub(super) fn log_softmax() -> Step {
    Step::new("LogitNormalization", LogNormalization, |x, _| {
        reference::categorical::log_softmax(x)
    })
}

pub(super) fn remove_invalid() -> Step {
    let largest = f64::from(f32::MAX);
    Step::new("InfNanRemoveLogitsProcessor", RemoveInvalid, move |x, _| {
        reference::remove_invalid::apply(x, largest)
    })
}

/// `skip` has the number of leading tokens to pass over: one for each row, or one for all.
pub(super) fn repetition_penalty(penalty: f64, skip: Vec<usize>) -> Made {
    let each = skip
        .iter()
        .map(|&n| RepetitionPenalty::new(penalty, PenaltyWindow::SkipFirst(n)))
        .collect::<Result<Vec<_>, _>>()?;
    let which = |context: &Context<'_>, len: usize| if len == 1 { 0 } else { context.row };
    let fast = move |candidates: &mut Candidates<f32>, context: &Context<'_>| {
        each[which(context, each.len())].apply(candidates, context)
    };
    Ok(Step::new(
        "RepetitionPenaltyLogitsProcessor",
        fast,
        move |x, context| {
            let tokens = so_far(context);
            let skip = skip[which(context, skip.len())].min(tokens.len());
            reference::repetition_penalty::apply(x, &tokens[skip..], penalty)
        },
    ))
}

pub(super) fn encoder_repetition_penalty(penalty: f64, sources: Sources) -> Made {
    Ok(Step::new(
        "EncoderRepetitionPenaltyLogitsProcessor",
        EncoderRepetitionPenalty::new(penalty, sources.clone())?,
        move |x, context| {
            let source = sources.of(context).unwrap();
            reference::repetition_penalty::apply(x, source, 1.0 / penalty)
        },
    ))
}

pub(super) fn no_repeat_ngram(n: usize) -> Made {
    Ok(Step::new(
        "NoRepeatNGramLogitsProcessor",
        NoRepeatNgram::new(n)?,
        move |x, context| {
            let tokens = so_far(context);
            reference::no_repeat_ngram::apply(x, &tokens, &tokens, n)
        },
    ))
}

pub(super) fn encoder_no_repeat_ngram(n: usize, sources: Sources) -> Made {
    Ok(Step::new(
        "EncoderNoRepeatNGramLogitsProcessor",
        EncoderNoRepeatNgram::new(n, sources.clone())?,
        move |x, context| {
            let source = sources.of(context).unwrap();
            reference::no_repeat_ngram::apply(x, source, &so_far(context), n)
        },
    ))
}

pub(super) fn sequence_bias(biases: Vec<(Vec<u32>, f64)>) -> Made {
    Ok(Step::new(
        "SequenceBiasLogitsProcessor",
        SequenceBias::new(biases.clone())?,
        move |x, context| reference::sequence_bias::apply(x, &so_far(context), &biases),
    ))
}

pub(super) fn bad_words(words: Vec<Vec<u32>>, stop_ids: Vec<u32>) -> Made {
    Ok(Step::new(
        "NoBadWordsLogitsProcessor",
        BadWords::new(words.clone(), &stop_ids)?,
        move |x, context| reference::bad_words::apply(x, &so_far(context), &words, &stop_ids),
    ))
}

pub(super) fn min_length(length: usize, stop_ids: Vec<u32>) -> Step {
    Step::new(
        "MinLengthLogitsProcessor",
        MinLength::new(length, stop_ids.clone()),
        move |x, context| {
            let acts = context.prompt.len() + context.generated.len() < length;
            reference::masks::mask(x, if acts { &stop_ids } else { &[] })
        },
    )
}

pub(super) fn min_new_tokens(n: usize, stop_ids: Vec<u32>) -> Step {
    Step::new(
        "MinNewTokensLengthLogitsProcessor",
        MinNewTokens::new(n, stop_ids.clone()),
        move |x, context| {
            let acts = context.generated.len() < n;
            reference::masks::mask(x, if acts { &stop_ids } else { &[] })
        },
    )
}

pub(super) fn forced_bos(token: u32) -> Step {
    Step::new(
        "ForcedBOSTokenLogitsProcessor",
        ForcedBos::new(token),
        move |x, context| match so_far(context).len() {
            1 => reference::masks::force(x.len(), &[token]),
            _ => x.to_vec(),
        },
    )
}

pub(super) fn forced_eos(max_length: usize, stop_ids: Vec<u32>) -> Step {
    Step::new(
        "ForcedEOSTokenLogitsProcessor",
        ForcedEos::new(max_length, stop_ids.clone()),
        move |x, context| {
            if so_far(context).len() + 1 == max_length {
                reference::masks::force(x.len(), &stop_ids)
            } else {
                x.to_vec()
            }
        },
    )
}

pub(super) fn exponential_decay_length(start: usize, factor: f64, stop_ids: Vec<u32>) -> Made {
    Ok(Step::new(
        "ExponentialDecayLengthPenalty",
        ExponentialDecayLength::new(start, factor, stop_ids.clone())?,
        move |x, context| {
            let n = context.generated.len().saturating_sub(start);
            reference::exponential_decay_length::apply(x, &stop_ids, factor, n)
        },
    ))
}

pub(super) fn suppress(tokens: Vec<u32>) -> Step {
    Step::new(
        "SuppressTokensLogitsProcessor",
        Suppress::new(tokens.clone()),
        move |x, _| reference::masks::mask(x, &tokens),
    )
}

pub(super) fn begin_suppress(tokens: Vec<u32>, begin_index: usize) -> Step {
    Step::new(
        "SuppressTokensAtBeginLogitsProcessor",
        BeginSuppress::new(tokens.clone(), begin_index),
        move |x, context| {
            let acts = so_far(context).len() == begin_index;
            reference::masks::mask(x, if acts { &tokens } else { &[] })
        },
    )
}
