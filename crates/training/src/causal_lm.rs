//! The loss of a causal language model: each position predicts the next label.

use llm_numerics::Float;
use ndarray::{Array3, ArrayRef2, ArrayRef3};

use crate::TrainingError;
use crate::cross_entropy::row::RowRule;
use crate::cross_entropy::{self, CrossEntropyConfig, Reduction};

/// Settings of the causal language model's loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CausalLmConfig {
    /// Labels with this value are left out.
    pub ignore_index: i64,
    /// Tokens to take the mean over; `None` for those that are kept in this batch.
    ///
    /// With gradient accumulation it is the number of kept labels of all micro-batches
    /// together, so that every token weighs the same.
    pub num_items_in_batch: Option<usize>,
}

impl CausalLmConfig {
    /// Hugging Face's convention (transformers 5.23): label -100 is ignored, mean over the kept tokens.
    #[must_use]
    pub const fn hugging_face() -> Self {
        Self {
            ignore_index: -100,
            num_items_in_batch: None,
        }
    }

    /// Sets the [`ignore_index`](Self::ignore_index).
    #[must_use]
    pub const fn with_ignore_index(mut self, ignore_index: i64) -> Self {
        self.ignore_index = ignore_index;
        self
    }

    /// Sets the [`num_items_in_batch`](Self::num_items_in_batch).
    #[must_use]
    pub const fn with_num_items_in_batch(mut self, count: usize) -> Self {
        self.num_items_in_batch = Some(count);
        self
    }

    fn cross_entropy(&self) -> CrossEntropyConfig {
        let reduction = self
            .num_items_in_batch
            .map_or(Reduction::Mean, Reduction::MeanOver);
        CrossEntropyConfig::new(reduction).with_ignore_index(self.ignore_index)
    }
}

/// The loss of `logits` that predict the labels one place to the right, in nats.
///
/// ```text
/// loss = mean over b and t < seq - 1 of -log softmax(logits[b, t])[labels[b, t + 1]]
/// ```
///
/// The first label and the last logits of each sequence are not used.
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`, any strides
/// - `labels`: `[batch, seq]`, not shifted: usually the input ids, with the prompt ignored
///
/// # Errors
///
/// - [`TrainingError::LabelsShape`] if `labels` is not `[batch, seq]`.
/// - [`TrainingError::LabelRange`] if a label that is used is neither ignored nor in
///   `0..vocab`; the row is that of the logits, `b seq + t`.
/// - [`TrainingError::ItemCount`] if `num_items_in_batch` is 0.
///
/// # Precision
///
/// As [`cross_entropy::loss`]; 0 if no label is kept.
///
/// # Example
///
/// ```
/// use llm_training::causal_lm::{self, CausalLmConfig};
/// use ndarray::{Array3, array};
///
/// let logits = Array3::<f32>::zeros((1, 3, 4)); // [batch, seq, vocab]
/// let config = CausalLmConfig::hugging_face();
/// let loss = causal_lm::loss(&logits, &array![[2, 0, 3]], &config)?;
/// assert_eq!(loss, 4_f64.ln()); // four equal choices
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
///
/// Source: `ForCausalLMLoss` of transformers 5.23.
pub fn loss<F: Float>(
    logits: &ArrayRef3<F>,
    labels: &ArrayRef2<i64>,
    config: &CausalLmConfig,
) -> Result<f64, TrainingError> {
    let (rule, targets, scale) = prepare(logits, labels, config)?;
    let losses = cross_entropy::row_losses(logits.rows().into_iter().collect(), &targets, &rule);
    Ok(cross_entropy::total(&losses, scale))
}

/// [`loss`] and its gradient with respect to the logits.
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`, `labels`: `[batch, seq]`
/// - returns: the loss and `[batch, seq, vocab]`, zero at the last position of each sequence
///
/// # Errors
///
/// As [`loss`].
///
/// # Precision
///
/// As [`cross_entropy::loss_and_grad`].
pub fn loss_and_grad<F: Float>(
    logits: &ArrayRef3<F>,
    labels: &ArrayRef2<i64>,
    config: &CausalLmConfig,
) -> Result<(f64, Array3<F>), TrainingError> {
    let (rule, targets, scale) = prepare(logits, labels, config)?;
    let mut dlogits = Array3::zeros(logits.raw_dim());
    let rows = logits.rows().into_iter().map(Some);
    let rows = rows.zip(dlogits.rows_mut()).collect();
    let losses = cross_entropy::gradients(rows, &targets, &rule, |_| scale);
    Ok((cross_entropy::total(&losses, scale), dlogits))
}

/// [`loss_and_grad`] that overwrites the logits with their gradient.
///
/// Nothing is written if an error is returned.
///
/// # Shapes
///
/// - `logits`: `[batch, seq, vocab]`, `labels`: `[batch, seq]`
///
/// # Errors
///
/// As [`loss`].
///
/// # Precision
///
/// As [`loss_and_grad`], the same bits.
pub fn loss_and_grad_inplace<F: Float>(
    logits: &mut ArrayRef3<F>,
    labels: &ArrayRef2<i64>,
    config: &CausalLmConfig,
) -> Result<f64, TrainingError> {
    let (rule, targets, scale) = prepare(logits, labels, config)?;
    let rows = logits.rows_mut().into_iter().map(|row| (None, row));
    let losses = cross_entropy::gradients(rows.collect(), &targets, &rule, |_| scale);
    Ok(cross_entropy::total(&losses, scale))
}

/// The rule of a row, the target of each, and the factor of the reduction.
type Prepared<F> = (RowRule<F>, Vec<Option<usize>>, f64);

fn prepare<F: Float>(
    logits: &ArrayRef3<F>,
    labels: &ArrayRef2<i64>,
    config: &CausalLmConfig,
) -> Result<Prepared<F>, TrainingError> {
    let (batch, seq, vocab) = logits.dim();
    if labels.dim() != (batch, seq) {
        return Err(TrainingError::LabelsShape {
            expected: vec![batch, seq],
            got: labels.shape().to_vec(),
        });
    }
    let config = config.cross_entropy();
    let rule = RowRule::new(vocab, None, &config)?;
    let mut targets = Vec::with_capacity(batch.saturating_mul(seq));
    for (b, labels) in labels.rows().into_iter().enumerate() {
        for t in 0..seq {
            targets.push(match labels.get(t + 1) {
                Some(&label) => {
                    cross_entropy::target(b * seq + t, label, vocab, config.ignore_index)?
                }
                None => None,
            });
        }
    }
    let scale = rule.scale(&targets, &config)?;
    Ok((rule, targets, scale))
}
