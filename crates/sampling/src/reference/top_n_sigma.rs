//! Top-nσ by the textbook variance.

/// `-inf` where a logit is below `max - n sigma`.
#[must_use]
pub fn apply(logits: &[f64], n: f64) -> Vec<f64> {
    let alive: Vec<f64> = logits
        .iter()
        .copied()
        .filter(|x| *x > f64::NEG_INFINITY)
        .collect();
    let count = alive.len() as f64;
    let max = alive.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = alive.iter().sum::<f64>() / count;
    let sigma = (alive.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
    let stays = |x: f64| x >= max - n * sigma;
    logits
        .iter()
        .map(|&x| if stays(x) { x } else { f64::NEG_INFINITY })
        .collect()
}
