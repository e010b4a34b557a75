//! The tournament by its formula.

/// `ln` of the chances after all rounds; `coins` has a row of 0 and 1 for each round.
#[must_use]
pub fn tournament(logits: &[f64], coins: &[Vec<f64>]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let mut p: Vec<f64> = logits.iter().map(|x| (x - max).exp() / total).collect();
    for g in coins {
        let mass: f64 = p.iter().zip(g).map(|(p, g)| p * g).sum();
        p = p.iter().zip(g).map(|(p, g)| p * (1.0 + g - mass)).collect();
    }
    p.into_iter().map(f64::ln).collect()
}
