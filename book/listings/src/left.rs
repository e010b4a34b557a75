//! What processors leave of a row, as pairs of token and probability.

use llm_sampling::{Candidates, SamplingError};

/// The tokens that can still be drawn, with their probabilities.
///
/// # Errors
///
/// Those of [`Candidates::weigh`].
pub fn left(candidates: &mut Candidates<f64>) -> Result<Vec<(u32, f64)>, SamplingError> {
    let (max, total) = candidates.weigh()?;
    let logits = candidates.logits().iter().enumerate();
    let pairs = logits.filter_map(|(i, x)| Some((candidates.token(i)?, (x - max).exp() / total)));
    Ok(pairs.filter(|(_, p)| *p > 0.0).collect())
}

/// The same as text: `0: 0.881  1: 0.119`.
///
/// # Errors
///
/// As [`left`].
pub fn written(candidates: &mut Candidates<f64>) -> Result<String, SamplingError> {
    let pairs = left(candidates)?;
    let pairs = pairs.iter().map(|(token, p)| format!("{token}: {p:.3}"));
    Ok(pairs.collect::<Vec<_>>().join("  "))
}
