//! Bias on sequences, each tried on each token of the vocabulary.

/// The sum of a logit and the biases of the sequences that its token would complete; of equal sequences only the last counts.
#[must_use]
pub fn apply(logits: &[f64], tokens: &[u32], biases: &[(Vec<u32>, f64)]) -> Vec<f64> {
    let mut out = logits.to_vec();
    for (token, x) in out.iter_mut().enumerate() {
        let mut text = tokens.to_vec();
        text.push(token as u32);
        for (i, (sequence, bias)) in biases.iter().enumerate() {
            let again = biases[i + 1..].iter().any(|(later, _)| later == sequence);
            if text.ends_with(sequence) && !again {
                *x += bias;
            }
        }
    }
    out
}
