//! Cross-entropy of logits with integer labels, and its gradient.

pub(crate) mod row;

use llm_numerics::{Float, threads};
use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, ArrayView1, ArrayViewMut1};

use crate::TrainingError;
use row::RowRule;

/// Logits that are worth a task of their own.
const TASK: usize = 32 << 10;

/// How the losses of the tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// The mean over kept tokens, weighted by the class weights of their labels: torch's `mean`.
    Mean,
    /// The sum: torch's `sum`.
    Sum,
    /// The sum divided by this number of tokens (at least 1): `num_items_in_batch` of
    /// Hugging Face's `Trainer`, which makes gradient accumulation exact.
    MeanOver(usize),
}

/// Settings of the cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CrossEntropyConfig {
    /// Tokens with this label are left out: loss 0, gradient 0, not counted in the mean.
    pub ignore_index: Option<i64>,
    /// How the losses of the tokens become one number.
    pub reduction: Reduction,
    /// Share of the target that is spread evenly over the vocabulary, in `0..=1`.
    pub label_smoothing: f64,
}

impl CrossEntropyConfig {
    /// No label is ignored, no smoothing.
    #[must_use]
    pub const fn new(reduction: Reduction) -> Self {
        Self {
            ignore_index: None,
            reduction,
            label_smoothing: 0.0,
        }
    }

    /// The defaults of `torch.nn.CrossEntropyLoss` (torch 2.15): label -100 is ignored, mean, no smoothing.
    #[must_use]
    pub const fn torch() -> Self {
        Self::new(Reduction::Mean).with_ignore_index(-100)
    }

    /// Leaves tokens with this label out.
    #[must_use]
    pub const fn with_ignore_index(mut self, ignore_index: i64) -> Self {
        self.ignore_index = Some(ignore_index);
        self
    }

    /// Sets the [`reduction`](Self::reduction).
    #[must_use]
    pub const fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets the [`label_smoothing`](Self::label_smoothing).
    #[must_use]
    pub const fn with_label_smoothing(mut self, label_smoothing: f64) -> Self {
        self.label_smoothing = label_smoothing;
        self
    }
}

/// The cross-entropy of `logits` with `labels`, in nats.
///
/// With `e = label_smoothing`, `V = vocab`, class weights `w` (1 without):
///
/// ```text
/// lp_c = x_c - logsumexp(x)
/// l_t  = -(1 - e) w_y lp_y - e / V sum_c w_c lp_c,   y the label of token t
/// loss = sum_t l_t / sum_t w_y   (Mean, over kept tokens)
/// ```
///
/// # Shapes
///
/// - `logits`: `[tokens, vocab]`, any strides
/// - `labels`: `[tokens]`, each in `0..vocab` or the ignored index
/// - `weights`: `[vocab]` or `None`
///
/// # Errors
///
/// - [`TrainingError::LabelsShape`] if there is not one label per row.
/// - [`TrainingError::LabelRange`] if a label is neither ignored nor in `0..vocab`.
/// - [`TrainingError::WeightsLen`] if there is not one weight per column.
/// - [`TrainingError::LabelSmoothing`] if the smoothing is not in `0..=1`.
/// - [`TrainingError::ItemCount`] for a mean over 0 items.
///
/// # Precision
///
/// Exponentials in `F` relative to the largest logit, each row's logarithm and all
/// sums over tokens in `f64`. The same bits for any number of threads. If no token is
/// kept (or the weights of all kept tokens are 0) the mean is 0 with gradient 0, where
/// torch gives NaN: an
/// empty micro-batch must not destroy the parameters. A row with NaN or infinity, or
/// all of whose logits are `-inf`, gives NaN; `-inf` for a single label that is not
/// the target is fine (a loss of infinity if it is the target, NaN or infinity with smoothing).
///
/// # Example
///
/// ```
/// use llm_training::cross_entropy::{self, CrossEntropyConfig};
/// use ndarray::array;
///
/// let logits = array![[0.0_f32, 0.0], [5.0, -5.0]];
/// let config = CrossEntropyConfig::torch();
/// let loss = cross_entropy::loss(&logits, &array![1, -100], None, &config)?;
/// assert_eq!(loss, 2_f64.ln()); // one kept token, two equal choices
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
///
/// Source: `torch.nn.functional.cross_entropy`; label smoothing: Szegedy et al., arXiv:1512.00567v3, section 7.
pub fn loss<F: Float>(
    logits: &ArrayRef2<F>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<F>>,
    config: &CrossEntropyConfig,
) -> Result<f64, TrainingError> {
    let rule = RowRule::new(logits.ncols(), weights, config)?;
    let targets = targets(logits, labels, config)?;
    let scale = rule.scale(&targets, config)?;
    let losses = row_losses(logits.rows().into_iter().collect(), &targets, &rule);
    Ok(total(&losses, scale))
}

/// The loss of each token, 0 for ignored ones; torch's reduction `none`.
///
/// The reduction in `config` is not used. [`loss`] has the formula.
///
/// # Shapes
///
/// - `logits`: `[tokens, vocab]`, `labels`: `[tokens]`, `weights`: `[vocab]` or `None`
/// - returns: `[tokens]`
///
/// # Errors
///
/// As [`loss`].
///
/// # Precision
///
/// As [`loss`].
pub fn losses<F: Float>(
    logits: &ArrayRef2<F>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<F>>,
    config: &CrossEntropyConfig,
) -> Result<Array1<f64>, TrainingError> {
    let rule = RowRule::new(logits.ncols(), weights, config)?;
    let targets = targets(logits, labels, config)?;
    let losses = row_losses(logits.rows().into_iter().collect(), &targets, &rule);
    Ok(Array1::from_vec(losses))
}

/// The gradient of `sum_t dout_t losses_t` with respect to the logits, for [`losses`].
///
/// ```text
/// dx_c = dout ((1 - e) w_y (p_c - [c = y]) + e / V (p_c sum_d w_d - w_c)),   p = softmax(x)
/// ```
///
/// # Shapes
///
/// - `dout`: `[tokens]`, the upstream gradient
/// - the others and the result as in [`loss_and_grad`]
///
/// # Errors
///
/// As [`loss`], and [`TrainingError::DoutLen`] if `dout` is not one number per row.
///
/// # Precision
///
/// As [`loss_and_grad`].
pub fn backward<F: Float>(
    dout: &ArrayRef1<F>,
    logits: &ArrayRef2<F>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<F>>,
    config: &CrossEntropyConfig,
) -> Result<Array2<F>, TrainingError> {
    if dout.len() != logits.nrows() {
        return Err(TrainingError::DoutLen {
            expected: logits.nrows(),
            got: dout.len(),
        });
    }
    let rule = RowRule::new(logits.ncols(), weights, config)?;
    let targets = targets(logits, labels, config)?;
    let mut dlogits = Array2::zeros(logits.raw_dim());
    let rows = logits.rows().into_iter().map(Some);
    let rows = rows.zip(dlogits.rows_mut()).collect();
    gradients(rows, &targets, &rule, |t| dout[t].as_f64());
    Ok(dlogits)
}

/// [`loss`] and its gradient with respect to the logits.
///
/// ```text
/// dx_c = (1 - e) w_y (p_c - [c = y]) + e / V (p_c sum_d w_d - w_c),   p = softmax(x)
/// ```
///
/// times the factor of the reduction.
///
/// # Shapes
///
/// - `logits`: `[tokens, vocab]`, `labels`: `[tokens]`, `weights`: `[vocab]` or `None`
/// - returns: the loss and `[tokens, vocab]`
///
/// # Errors
///
/// As [`loss`].
///
/// # Precision
///
/// The loss as in [`loss`]; the gradient in `F`, zero in ignored rows whatever they hold.
///
/// # Example
///
/// ```
/// use llm_training::cross_entropy::{self, CrossEntropyConfig};
/// use ndarray::array;
///
/// let config = CrossEntropyConfig::torch();
/// let (_, dlogits) =
///     cross_entropy::loss_and_grad(&array![[0.0, 0.0]], &array![1], None, &config)?;
/// assert_eq!(dlogits, array![[0.5, -0.5]]); // softmax minus one-hot
/// # Ok::<(), llm_training::TrainingError>(())
/// ```
pub fn loss_and_grad<F: Float>(
    logits: &ArrayRef2<F>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<F>>,
    config: &CrossEntropyConfig,
) -> Result<(f64, Array2<F>), TrainingError> {
    let rule = RowRule::new(logits.ncols(), weights, config)?;
    let targets = targets(logits, labels, config)?;
    let scale = rule.scale(&targets, config)?;
    let mut dlogits = Array2::zeros(logits.raw_dim());
    let rows = logits.rows().into_iter().map(Some);
    let rows = rows.zip(dlogits.rows_mut()).collect();
    let losses = gradients(rows, &targets, &rule, |_| scale);
    Ok((total(&losses, scale), dlogits))
}

/// [`loss_and_grad`] that overwrites the logits with their gradient.
///
/// For a training loop: logits of a large vocabulary are the largest array there.
/// Nothing is written if an error is returned.
///
/// # Shapes
///
/// - `logits`: `[tokens, vocab]`, `labels`: `[tokens]`, `weights`: `[vocab]` or `None`
///
/// # Errors
///
/// As [`loss`].
///
/// # Precision
///
/// As [`loss_and_grad`], the same bits.
pub fn loss_and_grad_inplace<F: Float>(
    logits: &mut ArrayRef2<F>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<F>>,
    config: &CrossEntropyConfig,
) -> Result<f64, TrainingError> {
    let rule = RowRule::new(logits.ncols(), weights, config)?;
    let targets = targets(logits, labels, config)?;
    let scale = rule.scale(&targets, config)?;
    let rows = logits.rows_mut().into_iter().map(|row| (None, row));
    let losses = gradients(rows.collect(), &targets, &rule, |_| scale);
    Ok(total(&losses, scale))
}

/// The label of each row, `None` where it is ignored.
fn targets<F>(
    logits: &ArrayRef2<F>,
    labels: &ArrayRef1<i64>,
    config: &CrossEntropyConfig,
) -> Result<Vec<Option<usize>>, TrainingError> {
    if labels.len() != logits.nrows() {
        return Err(TrainingError::LabelsShape {
            expected: vec![logits.nrows()],
            got: vec![labels.len()],
        });
    }
    let vocab = logits.ncols();
    labels
        .iter()
        .enumerate()
        .map(|(row, &label)| target(row, label, vocab, config.ignore_index))
        .collect()
}

/// One label as an index, `None` if it is ignored.
pub(crate) fn target(
    row: usize,
    label: i64,
    vocab: usize,
    ignore_index: Option<i64>,
) -> Result<Option<usize>, TrainingError> {
    if ignore_index == Some(label) {
        return Ok(None);
    }
    match usize::try_from(label) {
        Ok(index) if index < vocab => Ok(Some(index)),
        _ => Err(TrainingError::LabelRange { row, label, vocab }),
    }
}

/// The reduced loss: 0 if nothing is kept.
pub(crate) fn total(losses: &[f64], scale: f64) -> f64 {
    if scale == 0.0 {
        return 0.0;
    }
    losses.iter().sum::<f64>() * scale
}

/// The loss of each row.
pub(crate) fn row_losses<F: Float>(
    rows: Vec<ArrayView1<'_, F>>,
    targets: &[Option<usize>],
    rule: &RowRule<F>,
) -> Vec<f64> {
    let rows: Vec<_> = rows.into_iter().zip(targets).collect();
    let tasks = cut(rows, rule.vocab());
    let losses = threads::map(tasks, |rows| {
        let mut buffer = Vec::new();
        let mut losses = Vec::with_capacity(rows.len());
        for (row, target) in rows {
            let loss = target.map_or(0.0, |y| match row.to_slice() {
                Some(row) => rule.loss(row, y),
                None => {
                    buffer.clear();
                    buffer.extend(row.iter().copied());
                    rule.loss(&buffer, y)
                }
            });
            losses.push(loss);
        }
        losses
    });
    losses.concat()
}

/// Logits, unless they lie in the second array already, and where their gradient goes.
type GradientRow<'a, F> = (Option<ArrayView1<'a, F>>, ArrayViewMut1<'a, F>);

/// Writes the gradient of each row times `scale` of its index; returns the losses.
pub(crate) fn gradients<F: Float>(
    rows: Vec<GradientRow<'_, F>>,
    targets: &[Option<usize>],
    rule: &RowRule<F>,
    scale: impl Fn(usize) -> f64 + Sync + Send,
) -> Vec<f64> {
    let rows: Vec<_> = rows.into_iter().zip(targets).enumerate().collect();
    let tasks = cut(rows, rule.vocab());
    let losses = threads::map(tasks, |rows| {
        let mut buffer = Vec::new();
        let mut losses = Vec::with_capacity(rows.len());
        for (index, ((logits, mut row), target)) in rows {
            let Some(y) = *target else {
                row.fill(F::zero());
                losses.push(0.0);
                continue;
            };
            if let Some(logits) = logits {
                row.assign(&logits); // the row is then in the cache for the passes over it
            }
            let scale = scale(index);
            let loss = if let Some(row) = row.as_slice_mut() {
                rule.loss_and_grad_inplace(row, y, scale)
            } else {
                buffer.clear();
                buffer.extend(row.iter().copied());
                let loss = rule.loss_and_grad_inplace(&mut buffer, y, scale);
                row.iter_mut()
                    .zip(&buffer)
                    .for_each(|(to, from)| *to = *from);
                loss
            };
            losses.push(loss);
        }
        losses
    });
    losses.concat()
}

/// Rows in tasks whose size depends on the vocabulary alone.
fn cut<T>(rows: Vec<T>, vocab: usize) -> Vec<Vec<T>> {
    let n_rows = (TASK / vocab.max(1)).max(1);
    let mut tasks = Vec::with_capacity(rows.len().div_ceil(n_rows));
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        tasks.push(rows.by_ref().take(n_rows).collect());
    }
    tasks
}
