//! The ban of repeated sequences, token by token of the vocabulary.

/// `-inf` where the last `ngram_size - 1` tokens and this one are in `source`.
#[must_use]
pub fn apply(logits: &[f64], source: &[u32], tokens: &[u32], ngram_size: usize) -> Vec<f64> {
    let repeats = |token: usize| {
        if tokens.len() + 1 < ngram_size {
            return false;
        }
        let mut ngram = tokens[tokens.len() + 1 - ngram_size..].to_vec();
        ngram.push(token as u32);
        source.windows(ngram_size).any(|window| window == ngram)
    };
    (0..logits.len())
        .map(|i| {
            if repeats(i) {
                f64::NEG_INFINITY
            } else {
                logits[i]
            }
        })
        .collect()
}
