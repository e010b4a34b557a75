//! Forbidden words, each tried on each token of the vocabulary.

/// `-inf` where a token would complete one of the words; a word that is a stop id alone does not count.
#[must_use]
pub fn apply(logits: &[f64], tokens: &[u32], words: &[Vec<u32>], stop_ids: &[u32]) -> Vec<f64> {
    let forbidden = |token: usize| {
        let mut text = tokens.to_vec();
        text.push(token as u32);
        let counts = |word: &&Vec<u32>| !(word.len() == 1 && stop_ids.contains(&word[0]));
        words.iter().filter(counts).any(|word| text.ends_with(word))
    };
    (0..logits.len())
        .map(|i| {
            if forbidden(i) {
                f64::NEG_INFINITY
            } else {
                logits[i]
            }
        })
        .collect()
}
