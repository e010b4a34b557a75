//! How the model is trained: sizes, stages, learning rates, seeds.

use llm_decoder::DecoderConfig;
use llm_training::adamw::AdamWConfig;
use llm_training::schedule::Schedule;

use crate::Tokenizer;

/// What a stage trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StageKind {
    /// Next-token prediction on plain text; the result is the base model.
    Pretraining,
    /// Supervised fine-tuning on dialogues, loss on the assistant's turns alone; the
    /// result is the chat model.
    FineTuning,
}

impl StageKind {
    /// A short name for files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pretraining => "pretraining",
            Self::FineTuning => "fine-tuning",
        }
    }
}

/// One of the two stages.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// What it trains on.
    pub kind: StageKind,
    /// Updates of the weights.
    pub n_steps: u64,
    /// Texts or dialogues in one step.
    pub n_examples: u64,
    /// Highest learning rate; it rises linearly to it and falls along a cosine to 0.
    pub base_lr: f64,
    /// Steps of the rise.
    pub n_warmup_steps: u64,
}

impl Stage {
    /// The learning rate of a step of this stage, counted from 0.
    #[must_use]
    pub fn learning_rate(&self, step: u64) -> f64 {
        // A step late by one, so that the first is not lost on a rate of zero.
        Schedule::Cosine {
            n_warmup_steps: self.n_warmup_steps,
            n_training_steps: self.n_steps + 1,
            n_cycles: 0.5,
        }
        .learning_rate(self.base_lr, step + 1)
    }
}

/// The whole recipe: everything that the trained weights depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Seed of the data and of the first weights.
    pub seed: u64,
    /// Sizes of the model.
    pub config: DecoderConfig,
    /// Standard deviation of the first weights.
    pub init_std: f64,
    /// The optimizer; weight decay is for matrices, not for norms and biases.
    pub adamw: AdamWConfig,
    /// Longest gradient, over all weights together.
    pub max_grad_norm: f64,
    /// Parts that a step is cut into, which threads work on. A part of the recipe, since
    /// it fixes the order of summation.
    pub n_shards: usize,
    /// First pre-training, then fine-tuning.
    pub stages: [Stage; 2],
}

impl Recipe {
    /// The recipe of the embedded weights.
    #[must_use]
    pub fn standard() -> Self {
        let vocab = Tokenizer::embedded().vocab();
        let adamw = AdamWConfig::new()
            .with_betas(0.9, 0.99)
            .with_weight_decay(0.05);
        Self {
            seed: 2024,
            config: DecoderConfig::glm(vocab, 128, 5, 4)
                .with_kv_heads(2)
                .with_d_ff(384)
                .with_context(512),
            init_std: 0.04,
            adamw,
            max_grad_norm: 1.0,
            n_shards: 4,
            stages: [
                Stage {
                    kind: StageKind::Pretraining,
                    n_steps: 2_000,
                    n_examples: 24,
                    base_lr: 3e-3,
                    n_warmup_steps: 100,
                },
                Stage {
                    kind: StageKind::FineTuning,
                    n_steps: 7_000,
                    n_examples: 24,
                    base_lr: 2e-3,
                    n_warmup_steps: 100,
                },
            ],
        }
    }

    /// The same recipe with another number of steps, shared out to the stages in the same
    /// proportion, warm-up too. Each stage has at least one step if `n_steps` is at least 2.
    #[must_use]
    pub fn with_steps(mut self, n_steps: u64) -> Self {
        let whole = self.n_steps().max(1);
        let [first, second] = &mut self.stages;
        let share = |n: u64| (u128::from(n) * u128::from(n_steps) / u128::from(whole)) as u64;
        let n_first = share(first.n_steps).max(1).min(n_steps);
        first.n_warmup_steps = share(first.n_warmup_steps);
        second.n_warmup_steps = share(second.n_warmup_steps);
        first.n_steps = n_first;
        second.n_steps = n_steps - n_first;
        self
    }

    /// Steps of all stages.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.n_steps).sum()
    }

    /// The stage of a step, and the step within that stage; `None` beyond the last.
    #[must_use]
    pub fn stage_of(&self, step: u64) -> Option<(&Stage, u64)> {
        let mut step = step;
        for stage in &self.stages {
            if step < stage.n_steps {
                return Some((stage, step));
            }
            step -= stage.n_steps;
        }
        None
    }

    /// A line of text that two recipes share only if they are the same: it is kept with a
    /// saved run, so that a run is never resumed with another recipe.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{self:?}")
    }
}
