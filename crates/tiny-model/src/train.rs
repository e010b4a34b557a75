//! The training loop: one step at a time, resumable at any of them.

use llm_chat_format::{Ending, LossMask, chatglm3};
use llm_decoder::{Decoder, Params, TokenBatch};
use llm_numerics::philox::Philox4x32;
use llm_numerics::threads;
use llm_training::adamw;
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use ndarray::{Array1, ArrayViewMutD};

use crate::data::Dataset;
use crate::recipe::{Recipe, StageKind};
use crate::{TinyModelError, Tokenizer};

/// Label of a token that is not a target.
const IGNORE: i64 = -100;

/// One training sequence: token ids, and for each the token that should follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// `[seq]`
    pub ids: Vec<u32>,
    /// `[seq]`, `-100` where nothing is to be learnt.
    pub labels: Vec<i64>,
}

impl Example {
    /// Example `i` of a stage.
    ///
    /// # Errors
    ///
    /// [`TinyModelError`] if the data and the tokenizer do not fit together.
    pub fn new(dataset: &Dataset, kind: StageKind, i: u64) -> Result<Self, TinyModelError> {
        let tokenizer = Tokenizer::embedded();
        let (ids, is_target) = match kind {
            StageKind::Pretraining => {
                let mut ids = control_ids(&["[gMASK]", "sop"])?;
                let start = ids.len();
                ids.extend(tokenizer.encode(&dataset.pretrain_text(i))?);
                ids.extend(control_ids(&[chatglm3::END_OF_TEXT])?);
                let is_target = (0..ids.len()).map(|i| i >= start).collect();
                (ids, is_target)
            }
            StageKind::FineTuning => {
                let rendered = chatglm3::render(&dataset.sft_example(i), Ending::EndOfText)?;
                let encoded = llm_chat_format::encode(&rendered, tokenizer, LossMask::NextRole)?;
                (encoded.ids, encoded.loss_mask)
            }
        };
        Ok(Self::shifted(&ids, &is_target))
    }

    /// Every token is to predict the next one, where that is a target.
    fn shifted(ids: &[u32], is_target: &[bool]) -> Self {
        let labels = ids.iter().zip(is_target).skip(1);
        Self {
            ids: ids[..ids.len().saturating_sub(1)].to_vec(),
            labels: labels
                .map(|(&id, &target)| if target { i64::from(id) } else { IGNORE })
                .collect(),
        }
    }

    fn n_targets(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }
}

/// What happened in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step, counted from 0 over both stages.
    pub step: u64,
    /// The stage it belongs to.
    pub kind: StageKind,
    /// Mean cross-entropy of the targets, in nats per token.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Tokens that went through the model.
    pub n_tokens: usize,
}

/// A run of a recipe: the model, the optimizer's moments, and how far it has come.
///
/// The next step depends on nothing else, so a saved and resumed run goes on with the
/// same bits.
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(crate) recipe: Recipe,
    pub(crate) model: Decoder<f32>,
    pub(crate) m: Params<f32>,
    pub(crate) v: Params<f32>,
    pub(crate) step: u64,
}

impl Trainer {
    /// A run at its start: random weights from the recipe's seed.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::Decoder`] if the recipe's sizes do not fit together.
    pub fn new(recipe: Recipe) -> Result<Self, TinyModelError> {
        let random = Philox4x32::new(recipe.seed);
        let model = Decoder::random(recipe.config.clone(), recipe.init_std, &random)?;
        let zeros = Params::zeros(&recipe.config);
        Ok(Self {
            recipe,
            model,
            m: zeros.clone(),
            v: zeros,
            step: 0,
        })
    }

    /// The recipe of this run.
    #[must_use]
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The model as it is now.
    #[must_use]
    pub const fn model(&self) -> &Decoder<f32> {
        &self.model
    }

    /// Steps done.
    #[must_use]
    pub const fn n_done(&self) -> u64 {
        self.step
    }

    /// Does one step, or returns `None` when the recipe is at its end.
    ///
    /// # Errors
    ///
    /// [`TinyModelError::Training`] if the gradient is not finite: the run has failed.
    /// The state stays as it was before the step.
    pub fn step(&mut self) -> Result<Option<StepReport>, TinyModelError> {
        let Some((stage, step_of_stage)) = self.recipe.stage_of(self.step) else {
            return Ok(None);
        };
        let (kind, n_examples) = (stage.kind, stage.n_examples);
        let learning_rate = stage.learning_rate(step_of_stage);

        let dataset = Dataset::new(self.recipe.seed);
        let first = step_of_stage * n_examples;
        let examples = (first..first + n_examples)
            .map(|i| Example::new(&dataset, kind, i))
            .collect::<Result<Vec<_>, _>>()?;
        let n_tokens = examples.iter().map(|example| example.ids.len()).sum();
        let n_targets = examples.iter().map(Example::n_targets).sum();

        let shards = cut(examples, self.recipe.n_shards);
        let model = &self.model;
        let parts = threads::map(shards, |shard| gradients(model, &shard, n_targets));
        let mut loss = 0.0;
        let mut sum: Option<Params<f32>> = None;
        for part in parts {
            let (part_loss, grads) = part?;
            loss += part_loss;
            match &mut sum {
                Some(sum) => sum.add_assign(&grads),
                None => sum = Some(grads),
            }
        }
        let mut grads = sum.unwrap_or_else(|| Params::zeros(&self.recipe.config));
        let grad_norm = {
            let mut tensors: Vec<ArrayViewMutD<'_, f32>> = grads
                .tensors_mut()
                .into_iter()
                .map(|(_, tensor)| tensor)
                .collect();
            clip::clip_norm(
                &mut tensors,
                self.recipe.max_grad_norm,
                NormType::L2,
                NonFinite::Error,
            )?
        };
        self.update(&grads, learning_rate)?;
        let report = StepReport {
            step: self.step,
            kind,
            loss,
            grad_norm,
            learning_rate,
            n_tokens,
        };
        self.step += 1;
        Ok(Some(report))
    }

    fn update(&mut self, grads: &Params<f32>, learning_rate: f64) -> Result<(), TinyModelError> {
        let tensors = self.model.params_mut().tensors_mut().into_iter();
        let moments = self.m.tensors_mut().into_iter().zip(self.v.tensors_mut());
        for (((_, mut param), (_, grad)), ((_, mut m), (_, mut v))) in
            tensors.zip(grads.tensors()).zip(moments)
        {
            let mut config = self.recipe.adamw;
            if param.ndim() < 2 {
                config.weight_decay = 0.0;
            }
            adamw::step(
                &mut param,
                &grad,
                &mut m,
                &mut v,
                self.step + 1,
                learning_rate,
                &config,
            )?;
        }
        Ok(())
    }
}

/// Shares examples out to parts of about the same number of tokens: longest first, each
/// to the part that has least.
fn cut(examples: Vec<Example>, n_shards: usize) -> Vec<Vec<Example>> {
    let mut order: Vec<Example> = examples;
    order.sort_by_key(|example| core::cmp::Reverse(example.ids.len())); // stable
    let mut shards: Vec<(usize, Vec<Example>)> = vec![(0, Vec::new()); n_shards.max(1)];
    for example in order {
        let least = shards.iter_mut().min_by_key(|(n_tokens, _)| *n_tokens);
        if let Some((n_tokens, shard)) = least {
            *n_tokens += example.ids.len();
            shard.push(example);
        }
    }
    shards
        .into_iter()
        .map(|(_, shard)| shard)
        .filter(|shard| !shard.is_empty())
        .collect()
}

/// Loss and gradients of a part of a batch; both are its share of the mean over `n_targets`.
fn gradients(
    model: &Decoder<f32>,
    examples: &[Example],
    n_targets: usize,
) -> Result<(f64, Params<f32>), TinyModelError> {
    let ids: Vec<&[u32]> = examples
        .iter()
        .map(|example| example.ids.as_slice())
        .collect();
    let labels: Array1<i64> = examples
        .iter()
        .flat_map(|example| example.labels.iter().copied())
        .collect();
    let batch = TokenBatch::new(&ids)?;
    let (mut logits, activations) = model.forward_saved(&batch)?;
    let config = CrossEntropyConfig::new(Reduction::MeanOver(n_targets)).with_ignore_index(IGNORE);
    let loss = cross_entropy::loss_and_grad_inplace(&mut logits, &labels, None, &config)?;
    let mut grads = Params::zeros(model.config());
    model.backward(&activations, &logits, &mut grads)?;
    Ok((loss, grads))
}

/// The ids of control tokens.
pub(crate) fn control_ids(names: &[&'static str]) -> Result<Vec<u32>, TinyModelError> {
    let tokenizer = Tokenizer::embedded();
    names
        .iter()
        .map(|&name| {
            let missing = TinyModelError::ControlToken { name };
            tokenizer.control_id(name).ok_or(missing)
        })
        .collect()
}
