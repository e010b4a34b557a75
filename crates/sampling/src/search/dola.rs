//! DoLa: what the last layer knows more than an earlier one.

use llm_numerics::{Float, softmax};
use ndarray::{Array2, ArrayRef2, ArrayRef3, ArrayView1, s};

use super::speculative::axis;
use crate::{SamplingError, rows};

/// How far a premature layer's distribution is from the last one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Divergence {
    /// The Jensen-Shannon divergence, as the paper has it: with `m = (p + q) / 2`, `(KL(p, m) + KL(q, m)) / 2`.
    JensenShannon,
    /// With the arguments of both divergences exchanged, `(KL(m, p) + KL(m, q)) / 2`: the authors' code and transformers, where
    /// `kl_div` takes them in that order.
    Reversed,
}

/// Whether rows may be contrasted with different layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerChoice {
    /// Each row has its own layer: the paper; packing into batches does not matter.
    PerRow,
    /// One layer for the batch, by the mean of the rows' divergences: transformers 4.55.
    PerBatch,
}

/// Settings of [`contrast`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DolaConfig {
    /// Share of the largest probability that a token must have, in `[0, 1]`.
    pub relative_top: f64,
    /// How layers are compared.
    pub divergence: Divergence,
    /// For whom a layer is chosen.
    pub choice: LayerChoice,
}

impl DolaConfig {
    /// What the paper says: a share of 0.1, the Jensen-Shannon divergence, a layer for each row.
    #[must_use]
    pub const fn paper() -> Self {
        Self {
            relative_top: 0.1,
            divergence: Divergence::JensenShannon,
            choice: LayerChoice::PerRow,
        }
    }

    /// What transformers 4.55 does.
    #[must_use]
    pub const fn hugging_face() -> Self {
        Self {
            relative_top: 0.1,
            divergence: Divergence::Reversed,
            choice: LayerChoice::PerBatch,
        }
    }

    /// Sets the [`relative_top`](Self::relative_top).
    #[must_use]
    pub const fn with_relative_top(mut self, relative_top: f64) -> Self {
        self.relative_top = relative_top;
        self
    }

    /// Sets the [`divergence`](Self::divergence).
    #[must_use]
    pub const fn with_divergence(mut self, divergence: Divergence) -> Self {
        self.divergence = divergence;
        self
    }

    /// Sets the [`choice`](Self::choice).
    #[must_use]
    pub const fn with_choice(mut self, choice: LayerChoice) -> Self {
        self.choice = choice;
        self
    }
}

/// What came of [`contrast`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Contrast<F> {
    /// `[batch, vocab]`: the contrasted logits, for further processors and a draw.
    pub logits: Array2<F>,
    /// `[batch]`: index of the premature layer that each row was contrasted with.
    pub layers: Vec<usize>,
    /// `[layers, batch]`: the divergence of each layer from the last, in nats; not computed for a single layer, where it is 0.
    pub divergences: Array2<f64>,
}

/// Logits of the last layer over those of the premature layer that is farthest from it.
///
/// ```text
/// p = softmax(final), q_l = softmax(premature_l)
/// M = argmax_l JSD(p, q_l);  of equals, the first
/// x_i = ln p_i - ln q_M,i  where p_i >= relative_top max_j p_j,   -inf else
/// ```
///
/// # Shapes
///
/// - `final_logits`: `[batch, vocab]`, any strides
/// - `premature_logits`: `[layers, batch, vocab]`: hidden states of earlier layers through the output head
///
/// # Errors
///
/// - [`SamplingError::Layers`], [`SamplingError::RelativeTop`], [`SamplingError::Axis`].
/// - [`SamplingError::PrematureMasked`] if the chosen layer has `-inf` for a token that stays.
/// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`], [`SamplingError::Vocab`], of any layer.
///
/// # Precision
///
/// Logarithms of probabilities are computed in `f64`, and their difference is rounded once.
///
/// # Example
///
/// ```
/// use llm_sampling::search::dola::{DolaConfig, contrast};
/// use ndarray::array;
///
/// // The first token was likely all along; the second became so in the late layers.
/// let last = array![[2.0_f64, 1.9, -3.0]];
/// let premature = array![[[2.0, 0.0, -3.0]], [[1.9, 1.7, -3.0]]];
/// let contrast = contrast(&last, &premature, &DolaConfig::paper())?;
/// assert_eq!(contrast.layers, [0]);
/// assert!(contrast.logits[[0, 1]] > contrast.logits[[0, 0]]);
/// assert_eq!(contrast.logits[[0, 2]], f64::NEG_INFINITY);
/// # Ok::<(), llm_sampling::SamplingError>(())
/// ```
///
/// Source: Chuang et al. 2023, arXiv:2309.03883v2; `_dola_select_contrast` of transformers 4.55.
pub fn contrast<F: Float>(
    final_logits: &ArrayRef2<F>,
    premature_logits: &ArrayRef3<F>,
    config: &DolaConfig,
) -> Result<Contrast<F>, SamplingError> {
    let (layers, rows, columns) = premature_logits.dim();
    let (batch, vocab) = final_logits.dim();
    if layers == 0 {
        return Err(SamplingError::Layers(layers));
    }
    if !(0.0..=1.0).contains(&config.relative_top) {
        return Err(SamplingError::RelativeTop(config.relative_top));
    }
    axis("premature_logits", "batch", batch, rows)?;
    axis("premature_logits", "vocab", vocab, columns)?;
    let last = log_probabilities(final_logits)?;
    let mut premature = Vec::with_capacity(layers);
    for layer in premature_logits.outer_iter() {
        premature.push(log_probabilities(&layer)?);
    }
    let divergences = if layers == 1 {
        Array2::zeros([1, batch])
    } else {
        Array2::from_shape_fn([layers, batch], |(layer, row)| {
            divergence(last.row(row), premature[layer].row(row), config.divergence)
        })
    };
    let chosen: Vec<usize> = match config.choice {
        LayerChoice::PerRow => (0..batch)
            .map(|row| first_max(divergences.column(row).iter().copied()))
            .collect(),
        LayerChoice::PerBatch => {
            let sums = divergences.rows().into_iter().map(|row| row.sum());
            vec![first_max(sums); batch]
        }
    };
    let mut logits = Array2::from_elem([batch, vocab], F::neg_infinity());
    for (row, &layer) in chosen.iter().enumerate() {
        let p = last.row(row);
        let max = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bound = max + config.relative_top.ln();
        for token in 0..vocab {
            if p[token] < bound || p[token] == f64::NEG_INFINITY {
                continue;
            }
            let q = premature[layer][[row, token]];
            if q == f64::NEG_INFINITY {
                return Err(SamplingError::PrematureMasked { layer, row, token });
            }
            logits[[row, token]] = F::from_f64(p[token] - q);
        }
    }
    Ok(Contrast {
        logits,
        layers: chosen,
        divergences,
    })
}

/// Which part of a model the premature layers are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DolaLayers {
    /// The lower half; for long answers.
    Low,
    /// The upper half; for short answers.
    High,
}

/// Every other layer of the lower or the upper part of a model.
///
/// ```text
/// n_layers <= 40:  Low: start, start + 2, .. below n_layers / 2;   High: n_layers / 2, .. below n_layers
/// else:            Low: start, start + 2, .. below 20;             High: n_layers - 20, .. below n_layers
/// ```
///
/// Layer 0 is the embedding, layer `l` the output of block `l`; `n_layers` itself is the last. `start` is 0, but 2 (1 in a model of two
/// blocks) if the output head is tied to the embedding, where layer 0 would only give the token itself back.
///
/// # Shapes
///
/// - returns: `[candidates]`, ascending; empty for the lower part of a tied model of three blocks, as in transformers, and for the upper part
///   of none
///
/// # Example
///
/// ```
/// use llm_sampling::search::dola::{DolaLayers, candidate_layers};
///
/// assert_eq!(candidate_layers(12, false, DolaLayers::Low), [0, 2, 4]);
/// assert_eq!(candidate_layers(12, true, DolaLayers::Low), [2, 4]);
/// assert_eq!(candidate_layers(12, true, DolaLayers::High), [6, 8, 10]);
/// ```
///
/// Source: `GenerationMixin._dola_decoding` of transformers 4.55.
#[must_use]
pub fn candidate_layers(n_layers: usize, tied: bool, layers: DolaLayers) -> Vec<usize> {
    let start = match n_layers {
        3.. if tied => 2,
        2 if tied => 1,
        _ => 0,
    };
    match layers {
        DolaLayers::Low if start == n_layers / 2 => vec![start],
        DolaLayers::Low if n_layers <= 40 => (start..n_layers / 2).step_by(2).collect(),
        DolaLayers::Low => (start..20).step_by(2).collect(),
        DolaLayers::High if n_layers <= 40 => (n_layers / 2..n_layers).step_by(2).collect(),
        DolaLayers::High => (n_layers - 20..n_layers).step_by(2).collect(),
    }
}

/// Log-softmax of checked rows, in `f64`.
fn log_probabilities<F: Float>(logits: &ArrayRef2<F>) -> Result<Array2<f64>, SamplingError> {
    rows::try_for_each(logits, |_, row| rows::finite_max(row).map(|_| ()))?;
    let mut out = logits.mapv(|x| x.as_f64());
    softmax::log_softmax_inplace(&mut out.slice_mut(s![.., ..]));
    Ok(out)
}

/// Between logarithms of probabilities; a term is 0 where its first probability is.
fn divergence(p: ArrayView1<'_, f64>, q: ArrayView1<'_, f64>, kind: Divergence) -> f64 {
    let term = |log_a: f64, log_b: f64| {
        let a = log_a.exp();
        if a == 0.0 { 0.0 } else { a * (log_a - log_b) }
    };
    let mut sum = 0.0;
    for (&p, &q) in p.iter().zip(q) {
        // Not below half of the larger one, even where that underflows.
        let m = f64::midpoint(p.exp(), q.exp())
            .ln()
            .max(p.max(q) - core::f64::consts::LN_2);
        sum += match kind {
            Divergence::JensenShannon => term(p, m) + term(q, m),
            Divergence::Reversed => term(m, p) + term(m, q),
        };
    }
    sum / 2.0
}

/// The first of the largest; there are no NaN.
fn first_max(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if i == 0 || value > best.1 {
            best = (i, value);
        }
    }
    best.0
}
