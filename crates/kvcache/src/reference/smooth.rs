//! Smoothed keys by the textbook, in `f64`, for one head: `[tokens][channels]`.

/// The mean of each channel.
#[must_use]
pub fn means(keys: &[Vec<f64>]) -> Vec<f64> {
    let channels = keys.first().map_or(0, Vec::len);
    let sum = |channel: usize| -> f64 { keys.iter().map(|key| key[channel]).sum() };
    (0..channels).map(|c| sum(c) / keys.len() as f64).collect()
}

// ANCHOR: factors
/// `QServe`, section 4.2: `λ_c = (max_t |k_tc|)^alpha`, of keys without their means; 1 where the channel is zero.
#[must_use]
pub fn factors(keys: &[Vec<f64>], means: &[f64], alpha: f64) -> Vec<f64> {
    let most = |c: usize| {
        keys.iter()
            .fold(0.0, |most: f64, key| most.max((key[c] - means[c]).abs()))
    };
    let factor = |most: f64| if most == 0.0 { 1.0 } else { most.powf(alpha) };
    (0..means.len()).map(|c| factor(most(c))).collect()
}
// ANCHOR_END: factors

/// `(K - 1 μᵀ) diag(λ)⁻¹`, as a product of matrices.
#[must_use]
pub fn keys(keys: &[Vec<f64>], means: &[f64], factors: &[f64]) -> Vec<Vec<f64>> {
    let inverse: Vec<f64> = factors.iter().map(|factor| factor.recip()).collect();
    let centered = keys.iter().map(|key| {
        let off = key.iter().zip(means).map(|(x, mean)| x - mean);
        off.collect::<Vec<f64>>()
    });
    times_diagonal(&centered.collect::<Vec<_>>(), &inverse)
}

/// `Q diag(λ)`.
#[must_use]
pub fn queries(queries: &[Vec<f64>], factors: &[f64]) -> Vec<Vec<f64>> {
    times_diagonal(queries, factors)
}

/// A matrix times the dense matrix that has these numbers on its diagonal.
fn times_diagonal(x: &[Vec<f64>], diagonal: &[f64]) -> Vec<Vec<f64>> {
    let n = diagonal.len();
    let entry = |row: usize, column: usize| if row == column { diagonal[row] } else { 0.0 };
    let product =
        |x: &Vec<f64>, column: usize| -> f64 { (0..n).map(|d| x[d] * entry(d, column)).sum() };
    (x.iter())
        .map(|x| (0..n).map(|column| product(x, column)).collect())
        .collect()
}
