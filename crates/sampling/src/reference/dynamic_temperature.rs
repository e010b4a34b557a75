//! Dynamic temperature by probabilities.

/// The temperature for a row.
#[must_use]
pub fn temperature(logits: &[f64], temperature: f64, range: f64, exponent: f64) -> f64 {
    let alive: Vec<f64> = logits
        .iter()
        .copied()
        .filter(|x| *x > f64::NEG_INFINITY)
        .collect();
    let max = alive.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = alive.iter().map(|x| (x - max).exp()).sum();
    let mut entropy = 0.0;
    for x in &alive {
        let p = (x - max).exp() / total;
        if p > 0.0 {
            entropy -= p * p.ln();
        }
    }
    let share = entropy.max(0.0) / (alive.len() as f64).ln();
    let low = if range < temperature {
        temperature - range
    } else {
        0.0
    };
    low + (temperature + range - low) * share.powf(exponent)
}

/// The row divided by it; a row with one token, and one with a temperature of 0, as documented.
#[must_use]
pub fn apply(logits: &[f64], middle: f64, range: f64, exponent: f64) -> Vec<f64> {
    if range == 0.0 {
        return logits.iter().map(|x| x / middle).collect();
    }
    if logits.iter().filter(|x| **x > f64::NEG_INFINITY).count() == 1 {
        return logits.to_vec();
    }
    let t = temperature(logits, middle, range, exponent);
    let divided: Vec<f64> = logits.iter().map(|x| x / t).collect();
    let overflows = |(x, y): (&f64, &f64)| x.is_finite() && !y.is_finite();
    if t > 0.0 && !logits.iter().zip(&divided).any(overflows) {
        return divided;
    }
    let mut out = vec![f64::NEG_INFINITY; logits.len()];
    let mut best = 0;
    for i in 0..logits.len() {
        if logits[i] > logits[best] {
            best = i;
        }
    }
    out[best] = logits[best];
    out
}
