//! Prompt lookup by trying all places.

/// What followed the oldest (or newest) place that has the last tokens, up to a stop token.
#[must_use]
pub fn candidates(
    tokens: &[u32],
    max_ngram: usize,
    max_tokens: usize,
    newest: bool,
    stop_ids: &[u32],
) -> Vec<u32> {
    for n in (1..=max_ngram).rev() {
        // Places whose n-gram ends before the last token.
        let mut starts: Vec<usize> = (0..tokens.len())
            .filter(|&start| start + n < tokens.len())
            .filter(|&start| (0..n).all(|i| tokens[start + i] == tokens[tokens.len() - n + i]))
            .collect();
        if newest {
            starts.reverse();
        }
        if let Some(start) = starts.first() {
            let after = tokens[start + n..].iter().take(max_tokens);
            return after
                .take_while(|token| !stop_ids.contains(token))
                .copied()
                .collect();
        }
    }
    Vec::new()
}
