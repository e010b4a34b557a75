//! Dynamic temperature by probabilities.

/// `-p_i ln p_i`, where `-ln p_i` is the logarithm of 1 and all the other terms over this one.
fn term(logits: &[f64], i: usize) -> f64 {
    let others = (0..logits.len()).filter(|&j| j != i);
    let distances: Vec<f64> = others.map(|j| logits[j] - logits[i]).collect();
    let max = distances.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max > 40.0 {
        // The 1 is lost beside the others, whose sum may be more than a number can say.
        let ln_ratio = max + distances.iter().map(|d| (d - max).exp()).sum::<f64>().ln();
        return ln_ratio * (-ln_ratio).exp();
    }
    let ratio: f64 = distances.iter().map(|d| d.exp()).sum();
    ratio.ln_1p() / (1.0 + ratio)
}

/// The temperature for a row.
#[must_use]
pub fn temperature(logits: &[f64], temperature: f64, range: f64, exponent: f64) -> f64 {
    let alive: Vec<f64> = logits
        .iter()
        .copied()
        .filter(|x| *x > f64::NEG_INFINITY)
        .collect();
    let entropy: f64 = alive.iter().enumerate().map(|(i, _)| term(&alive, i)).sum();
    let share = entropy / (alive.len() as f64).ln();
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
    // Smaller logits may fall below all numbers: their probability is 0.
    let largest = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if t > 0.0 && largest(&divided).is_finite() {
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
