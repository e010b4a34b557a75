//! Chains of a named dialect.

use llm_numerics::Float;

use super::setting::{self, Setting};
use crate::bad_words::BadWords;
use crate::dynamic_temperature::DynamicTemperature;
use crate::epsilon_cutoff::EpsilonCutoff;
use crate::eta_cutoff::EtaCutoff;
use crate::forced_tokens::ForcedBos;
use crate::log_normalization::LogNormalization;
use crate::logit_bias::LogitBias;
use crate::min_length::{MinLength, MinNewTokens};
use crate::min_p::MinP;
use crate::no_repeat_ngram::NoRepeatNgram;
use crate::prefix_allowed::{PrefixAllowed, Unsatisfiable};
use crate::presence_frequency::PresenceFrequency;
use crate::remove_invalid::RemoveInvalid;
use crate::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use crate::sampler::VLLM_GREEDY;
use crate::suppress::Suppress;
use crate::temperature::Temperature;
use crate::top_h::TopH;
use crate::top_k::TopK;
use crate::top_n_sigma::TopNSigma;
use crate::top_p::TopP;
use crate::typical::Typical;
use crate::xtc::Xtc;
use crate::{Candidates, Chain, Context, Dialect, Processor, SamplingError, rows};

type Boxed<F> = Box<dyn Processor<F> + Send + Sync>;

/// The settings of a chain in the words of one library, which decides what they mean.
///
/// | | Hugging Face | llama.cpp | vLLM | OpenAI |
/// |-|-|-|-|-|
/// | temperature | before the filters | after them | before them | before them |
/// | temperature 0 | error | keeps the maximum of what is left | greedy, below 1e-5 | greedy |
/// | ties at the k-th | kept | not kept | kept | no top-k |
/// | top-p is summed from | the smallest | the largest | the smallest | the smallest |
/// | repetition penalty looks at | all tokens | the last 64 | all tokens | none |
/// | presence, frequency look at | none | the last 64 | generated tokens | generated tokens |
///
/// The order is that of [`order`](super::order), whatever order the settings come in. OpenAI does not publish its own: vLLM's is taken, which
/// speaks the same interface. Where decoding is greedy ([`Setting::Greedy`], vLLM, OpenAI), filters do not run and the likeliest token stays,
/// of equals the lowest id. The interface of vLLM raises temperatures above 0 to at least 0.01; its sampler, and this chain, do not.
/// Mirostat and adaptive-p have a state, so they choose a token after a chain and are no settings of it.
///
/// # Example
///
/// ```
/// use llm_sampling::chain::{ChainConfig, Setting};
/// use llm_sampling::{Context, Dialect, SamplingError};
/// use ndarray::array;
///
/// let kept = |dialect| -> Result<usize, SamplingError> {
///     let chain = ChainConfig::new(dialect).with(Setting::TopP(0.8)).with(Setting::Temperature(0.5)).build()?;
///     let mut logits = array![[3.0_f32, 2.0, 1.0]];
///     chain.apply_inplace(&mut logits, &[Context::new(&[], &[])])?;
///     Ok(logits.iter().filter(|x| x.is_finite()).count())
/// };
/// assert_eq!(kept(Dialect::HuggingFace)?, 1);
/// assert_eq!(kept(Dialect::LlamaCpp)?, 2);
/// let error = ChainConfig::new(Dialect::OpenAi).with(Setting::TopK(40)).build::<f32>().unwrap_err();
/// assert_eq!(error.to_string(), "OpenAI has no setting top_k");
/// # Ok::<(), SamplingError>(())
/// ```
///
/// Source: `_get_logits_processor` of transformers 5.23; `common_sampler_init` of llama.cpp; `Sampler` of vLLM's engine version 1; OpenAI, API
/// reference of chat completions.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChainConfig {
    /// Whose rules hold.
    pub dialect: Dialect,
    /// In any order, each kind once.
    pub settings: Vec<Setting>,
    /// Tokens that end the generation, for the settings that look at these.
    pub stop_ids: Vec<u32>,
    /// What filters leave at least, in Hugging Face and llama.cpp (`min_keep`): 1, or in Hugging Face's beam-sample one more than there are
    /// stop tokens.
    pub min_tokens_to_keep: usize,
}

impl ChainConfig {
    /// Nothing set: the chain leaves logits as they are.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            settings: Vec::new(),
            stop_ids: Vec::new(),
            min_tokens_to_keep: 1,
        }
    }

    /// What the library does if nothing is said: top-k 50 in Hugging Face; top-k 40, top-p 0.95, min-p 0.05 and temperature 0.8 in llama.cpp;
    /// nothing in vLLM and OpenAI.
    #[must_use]
    pub fn defaults(dialect: Dialect) -> Self {
        let mut config = Self::new(dialect);
        config.settings = match dialect {
            Dialect::HuggingFace => vec![Setting::TopK(50)],
            Dialect::LlamaCpp => vec![
                Setting::TopK(40),
                Setting::TopP(0.95),
                Setting::MinP(0.05),
                Setting::Temperature(0.8),
            ],
            Dialect::Vllm | Dialect::OpenAi => Vec::new(),
        };
        config
    }

    /// Adds a setting, in place of an earlier one of the same kind.
    #[must_use]
    pub fn with(mut self, setting: Setting) -> Self {
        self.settings
            .retain(|earlier| earlier.name() != setting.name());
        self.settings.push(setting);
        self
    }

    /// Sets the [`stop_ids`](Self::stop_ids).
    #[must_use]
    pub fn with_stop_ids(mut self, stop_ids: Vec<u32>) -> Self {
        self.stop_ids = stop_ids;
        self
    }

    /// Sets the [`min_tokens_to_keep`](Self::min_tokens_to_keep).
    #[must_use]
    pub const fn with_min_tokens_to_keep(mut self, min_tokens_to_keep: usize) -> Self {
        self.min_tokens_to_keep = min_tokens_to_keep;
        self
    }

    /// The chain.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::NotInDialect`] for a setting that the dialect does not have.
    /// - [`SamplingError::SettingTwice`] if a kind of setting is in the list twice.
    /// - [`SamplingError::DialectRange`] for a number that OpenAI or vLLM does not take.
    /// - Those of the processors for what no dialect takes.
    pub fn build<F: Float>(&self) -> Result<Chain<F>, SamplingError> {
        self.build_with(Vec::new())
    }

    /// The chain with processors of the caller, each before the setting of that name (or at that place) in [`order`](super::order), whether it is
    /// set or not. At the same place they keep their order. Where decoding is greedy, those at the place of a filter do not run.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build); [`SamplingError::NotInDialect`] also for a place.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_sampling::chain::{ChainConfig, Setting};
    /// use llm_sampling::suppress::Suppress;
    /// use llm_sampling::{Context, Dialect, SamplingError};
    /// use ndarray::array;
    ///
    /// let config = ChainConfig::new(Dialect::HuggingFace).with(Setting::TopK(1));
    /// let mut chain = config.build_with(vec![("user", Box::new(Suppress::new(vec![0])))])?;
    /// let draws = chain.sample(&array![[3.0_f32, 2.0, 1.0]], &[Context::new(&[], &[])])?;
    /// assert_eq!(draws[0].token, 1); // the user's list runs before top-k
    /// # Ok::<(), SamplingError>(())
    /// ```
    pub fn build_with<F: Float>(
        &self,
        processors: Vec<(&'static str, Boxed<F>)>,
    ) -> Result<Chain<F>, SamplingError> {
        let mut steps: Vec<(usize, Boxed<F>)> = Vec::new();
        for (name, processor) in processors {
            steps.push((setting::place(self.dialect, name)?, processor));
        }
        self.check()?;
        for setting in &self.settings {
            let place = setting::place(self.dialect, setting.name())?;
            if let Some(processor) = self.processor(setting)? {
                steps.push((place, processor));
            }
        }
        if let Some(from) = self.greedy()? {
            // Only Hugging Face has a watermark, which it applies to greedy decoding too.
            let to = setting::place(self.dialect, "watermark").unwrap_or(usize::MAX);
            steps.retain(|(place, _)| *place < from || *place >= to);
            steps.push((usize::MAX, Box::new(KeepMax)));
        }
        steps.sort_by_key(|(place, _)| *place); // stable
        let mut chain = Chain::new();
        for (_, processor) in steps {
            chain.push(processor);
        }
        Ok(chain)
    }

    fn check(&self) -> Result<(), SamplingError> {
        for (i, setting) in self.settings.iter().enumerate() {
            let name = setting.name();
            setting::place(self.dialect, name)?;
            if self.settings[..i].iter().any(|other| other.name() == name) {
                return Err(SamplingError::SettingTwice(name));
            }
        }
        let has_minimum = matches!(self.dialect, Dialect::HuggingFace | Dialect::LlamaCpp);
        rows::check_min_tokens_to_keep(self.min_tokens_to_keep)?;
        if self.min_tokens_to_keep > 1 && !has_minimum {
            return Err(SamplingError::NotInDialect {
                dialect: self.dialect,
                setting: "min_tokens_to_keep",
            });
        }
        Ok(())
    }

    /// The place from which on nothing runs because decoding is greedy.
    fn greedy(&self) -> Result<Option<usize>, SamplingError> {
        let greedy = match self.dialect {
            Dialect::HuggingFace => self.settings.contains(&Setting::Greedy),
            Dialect::LlamaCpp => false, // its filters run
            Dialect::Vllm => self.temperature().is_some_and(|t| t < VLLM_GREEDY),
            Dialect::OpenAi => self.temperature() == Some(0.0),
        };
        greedy
            .then(|| setting::place(self.dialect, "temperature"))
            .transpose()
    }

    fn temperature(&self) -> Option<f64> {
        self.settings.iter().find_map(|setting| match setting {
            Setting::Temperature(t) => Some(*t),
            _ => None,
        })
    }

    fn penalty_window(&self) -> PenaltyWindow {
        let set = self.settings.iter().find_map(|setting| match setting {
            Setting::PenaltyLastN(n) => Some(PenaltyWindow::Last(*n)),
            Setting::PromptIgnoreLength(n) => Some(PenaltyWindow::SkipFirst(*n)),
            _ => None,
        });
        set.unwrap_or(match self.dialect {
            Dialect::LlamaCpp => PenaltyWindow::Last(64),
            _ => PenaltyWindow::All,
        })
    }

    /// Presence and frequency penalties look at other tokens than the repetition penalty, but in llama.cpp.
    fn count_window(&self) -> PenaltyWindow {
        match self.dialect {
            Dialect::LlamaCpp => self.penalty_window(),
            _ => PenaltyWindow::Generated,
        }
    }

    /// Refuses what the interface of OpenAI, and that of vLLM, does not take.
    fn in_range(
        &self,
        setting: &'static str,
        value: f64,
        least: f64,
        most: f64,
    ) -> Result<(), SamplingError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(SamplingError::DialectRange {
            dialect: self.dialect,
            setting,
            value,
            least,
            most,
        })
    }

    fn penalty(
        &self,
        setting: &'static str,
        presence: f64,
        frequency: f64,
    ) -> Result<PresenceFrequency, SamplingError> {
        if matches!(self.dialect, Dialect::Vllm | Dialect::OpenAi) {
            self.in_range(setting, presence + frequency, -2.0, 2.0)?; // one of them is 0
        }
        PresenceFrequency::new(presence, frequency, self.count_window())
    }

    /// The processor of a temperature; none where greedy decoding takes its place.
    fn divide<F: Float>(&self, t: f64) -> Result<Option<Boxed<F>>, SamplingError> {
        match self.dialect {
            Dialect::HuggingFace => {}
            Dialect::LlamaCpp if self.is_dynamic() => return Ok(None),
            Dialect::LlamaCpp if t <= 0.0 => return Ok(Some(Box::new(KeepMax))),
            Dialect::LlamaCpp => {}
            Dialect::Vllm if (0.0..VLLM_GREEDY).contains(&t) => return Ok(None),
            Dialect::Vllm => {}
            Dialect::OpenAi => {
                self.in_range("temperature", t, 0.0, 2.0)?;
                if t == 0.0 {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Box::new(Temperature::new(t)?)))
    }

    fn is_dynamic(&self) -> bool {
        let dynamic =
            |s: &Setting| matches!(s, Setting::DynamicTemperature { range, .. } if *range != 0.0);
        self.settings.iter().any(dynamic)
    }

    /// What a setting does in this dialect; none if it only changes what others do.
    fn processor<F: Float>(&self, setting: &Setting) -> Result<Option<Boxed<F>>, SamplingError> {
        let least = self.min_tokens_to_keep;
        let is_llama = self.dialect == Dialect::LlamaCpp;
        let stop_ids = || self.stop_ids.clone();
        Ok(Some(match setting {
            Setting::PromptIgnoreLength(_) | Setting::PenaltyLastN(_) | Setting::Greedy => {
                return Ok(None);
            }
            Setting::Temperature(t) => return self.divide(*t),
            Setting::DynamicTemperature { range, .. } if *range == 0.0 => return Ok(None),
            Setting::DynamicTemperature { range, exponent } => Box::new(DynamicTemperature::new(
                self.temperature().unwrap_or(1.0),
                *range,
                *exponent,
            )?),
            Setting::SequenceBias(bias) => Box::new(bias.clone()),
            Setting::LogitBias(biases) if self.dialect == Dialect::OpenAi => {
                Box::new(LogitBias::openai(biases)?)
            }
            Setting::LogitBias(biases) => Box::new(LogitBias::new(biases)?),
            Setting::AllowedTokens(ids) => {
                let ids = ids.clone();
                let allowed =
                    move |_: &Context<'_>, out: &mut Vec<u32>| out.extend_from_slice(&ids);
                Box::new(PrefixAllowed::new(allowed).with_unsatisfiable(Unsatisfiable::Masked))
            }
            Setting::EncoderRepetitionPenalty(penalty) => Box::new(penalty.clone()),
            Setting::RepetitionPenalty(penalty) => {
                Box::new(RepetitionPenalty::new(*penalty, self.penalty_window())?)
            }
            Setting::FrequencyPenalty(f) => Box::new(self.penalty(setting.name(), 0.0, *f)?),
            Setting::PresencePenalty(p) => Box::new(self.penalty(setting.name(), *p, 0.0)?),
            Setting::NoRepeatNgram(n) => Box::new(NoRepeatNgram::new(*n)?),
            Setting::EncoderNoRepeatNgram(ban) => Box::new(ban.clone()),
            Setting::BadWords(words) if self.dialect == Dialect::HuggingFace => {
                Box::new(BadWords::new(words.iter().cloned(), &self.stop_ids)?)
            }
            Setting::BadWords(words) => Box::new(BadWords::new(words.iter().cloned(), &[])?),
            Setting::MinLength(n) => Box::new(MinLength::new(*n, stop_ids())),
            Setting::MinNewTokens(n) => Box::new(MinNewTokens::new(*n, stop_ids())),
            Setting::ForcedBos(token) => Box::new(ForcedBos::new(*token)),
            Setting::ForcedEos(forced) => Box::new(forced.clone()),
            Setting::RemoveInvalid => Box::new(RemoveInvalid),
            Setting::ExponentialDecayLength(decay) => Box::new(decay.clone()),
            Setting::Suppress(tokens) => Box::new(Suppress::new(tokens.clone())),
            Setting::BeginSuppress(suppress) => Box::new(suppress.clone()),
            Setting::Dry(dry) => Box::new(dry.clone()),
            Setting::TopH(h) => Box::new(TopH::new(*h)?),
            Setting::TopNSigma(n) => Box::new(TopNSigma::new(*n)?),
            Setting::TopK(0) => return Ok(None), // all tokens, in each dialect that has the setting
            Setting::TopK(k) => {
                let least = if is_llama { 1 } else { least };
                Box::new(TopK::new(*k, self.dialect.ties(), least)?)
            }
            Setting::TopP(p) => Box::new(TopP::new(*p, self.dialect.sum_from(), least)?),
            Setting::MinP(p) => Box::new(MinP::new(*p, least)?),
            Setting::Typical(p) => Box::new(Typical::new(*p, least)?),
            Setting::EpsilonCutoff(e) => Box::new(EpsilonCutoff::new(*e, least)?),
            Setting::EtaCutoff(e) => Box::new(EtaCutoff::new(*e, least)?),
            Setting::Xtc {
                probability,
                threshold,
            } => Box::new(Xtc::new(*probability, *threshold, least)?),
            Setting::Watermark(watermark) => Box::new(*watermark),
            Setting::Renormalize => Box::new(LogNormalization),
        }))
    }
}

/// Keeps the likeliest token, of equals the lowest id.
struct KeepMax;

impl<F: Float> Processor<F> for KeepMax {
    fn apply(&self, candidates: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
        let max = candidates.max()?;
        let first = candidates.logits().iter().position(|x| *x == max);
        candidates.keep_only(first.unwrap_or(0));
        Ok(())
    }
}
