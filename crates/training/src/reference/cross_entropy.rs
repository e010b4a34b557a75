//! Cross-entropy as the distance between two distributions.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, ArrayView1};

use crate::cross_entropy::{CrossEntropyConfig, Reduction};

/// The distribution that a token should have: `(1 - e)` on the label, `e / vocab` on each entry.
fn target_distribution(label: usize, vocab: usize, label_smoothing: f64) -> Array1<f64> {
    let mut q = Array1::from_elem(vocab, label_smoothing / vocab as f64);
    q[label] += 1.0 - label_smoothing;
    q
}

/// The loss of each token, `-sum_c w_c q_c ln p_c`, 0 for ignored ones.
///
/// `None` if the shapes do not fit or a label that is not ignored is out of range.
#[must_use]
pub fn losses(
    logits: &ArrayRef2<f64>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<f64>>,
    config: &CrossEntropyConfig,
) -> Option<Array1<f64>> {
    let (tokens, vocab) = logits.dim();
    let mut losses = Array1::zeros(tokens);
    for (t, label) in kept(logits, labels, weights, config)? {
        let q = target_distribution(label, vocab, config.label_smoothing);
        let log_p = log_softmax(logits.row(t));
        for c in 0..vocab {
            if q[c] > 0.0 {
                losses[t] -= weight(weights, c) * q[c] * log_p[c];
            }
        }
    }
    Some(losses)
}

/// The reduced loss; 0 if nothing is kept.
///
/// `None` as in [`losses`].
#[must_use]
pub fn loss(
    logits: &ArrayRef2<f64>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<f64>>,
    config: &CrossEntropyConfig,
) -> Option<f64> {
    let sum = losses(logits, labels, weights, config)?.sum();
    let count = divisor(&kept(logits, labels, weights, config)?, weights, config);
    Some(if count == 0.0 { 0.0 } else { sum / count })
}

/// The gradient of [`loss`], as a sum over pairs of a logit and an entry of the target.
///
/// ```text
/// d loss / d x_c = sum_d w_d q_d (p_c - [c = d]) / divisor
/// ```
///
/// `None` as in [`losses`].
#[must_use]
pub fn gradient(
    logits: &ArrayRef2<f64>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<f64>>,
    config: &CrossEntropyConfig,
) -> Option<Array2<f64>> {
    let vocab = logits.ncols();
    let kept = kept(logits, labels, weights, config)?;
    let count = divisor(&kept, weights, config);
    let mut gradient = Array2::zeros(logits.raw_dim());
    for (t, label) in kept {
        if count == 0.0 {
            continue;
        }
        let q = target_distribution(label, vocab, config.label_smoothing);
        let p = log_softmax(logits.row(t)).exp();
        for c in 0..vocab {
            for d in 0..vocab {
                let delta = if c == d { 1.0 } else { 0.0 };
                gradient[[t, c]] += weight(weights, d) * q[d] * (p[c] - delta) / count;
            }
        }
    }
    Some(gradient)
}

/// Rows that are not ignored, with their labels.
fn kept(
    logits: &ArrayRef2<f64>,
    labels: &ArrayRef1<i64>,
    weights: Option<&ArrayRef1<f64>>,
    config: &CrossEntropyConfig,
) -> Option<Vec<(usize, usize)>> {
    let (tokens, vocab) = logits.dim();
    if labels.len() != tokens || weights.is_some_and(|w| w.len() != vocab) {
        return None;
    }
    let rows = labels.iter().enumerate();
    let rows = rows.filter(|(_, label)| Some(**label) != config.ignore_index);
    rows.map(|(t, label)| {
        let label = usize::try_from(*label).ok()?;
        (label < vocab).then_some((t, label))
    })
    .collect()
}

fn divisor(
    kept: &[(usize, usize)],
    weights: Option<&ArrayRef1<f64>>,
    config: &CrossEntropyConfig,
) -> f64 {
    match config.reduction {
        Reduction::Sum => 1.0,
        Reduction::MeanOver(count) => count as f64,
        Reduction::Mean => kept.iter().map(|(_, label)| weight(weights, *label)).sum(),
    }
}

fn weight(weights: Option<&ArrayRef1<f64>>, class: usize) -> f64 {
    weights.map_or(1.0, |w| w[class])
}

fn log_softmax(logits: ArrayView1<'_, f64>) -> Array1<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    logits.mapv(|x| x - max - total.ln())
}
