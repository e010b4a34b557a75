//! Exercise of the page on repetition: the tokens that would repeat a sequence.

// ANCHOR: exercise
/// The tokens that would complete a sequence of `n` tokens that is there already, in the order in which they came. `n` is at least 1.
#[must_use]
pub fn banned(tokens: &[u32], n: usize) -> Vec<u32> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let Some(start) = (tokens.len() + 1).checked_sub(n) else {
        return Vec::new();
    };
    let end = &tokens[start..]; // the last n - 1 tokens
    let windows = tokens.windows(n);
    windows
        .filter(|window| window[..n - 1] == *end)
        .map(|window| window[n - 1])
        .collect()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_sampling::no_repeat_ngram::NoRepeatNgram;
    use llm_sampling::{Candidates, Context, Processor};

    use super::banned;

    // ANCHOR: tests
    #[test]
    fn what_followed_the_same_tokens_is_banned() {
        let tokens = [1, 2, 3, 1, 2, 4, 1, 2];
        assert_eq!(banned(&tokens, 3), [3, 4]);
        assert_eq!(banned(&tokens, 4), [] as [u32; 0]);
        assert_eq!(banned(&tokens[..1], 3), [] as [u32; 0]);
        assert_eq!(banned(&[7, 7], 2), [7]); // the end may overlap what it repeats
    }

    #[test]
    fn the_crate_agrees() {
        let text: Vec<u32> = (0..60_u32).map(|i| i * i % 7).collect();
        for n in 1..5 {
            for end in 0..text.len() {
                let mut candidates = Candidates::new();
                candidates.fill(&[0.0_f64; 7]).unwrap();
                let context = Context::new(&text[..end], &[]);
                let ban = NoRepeatNgram::new(n).unwrap();
                ban.apply(&mut candidates, &context).unwrap();
                let ours = banned(&text[..end], n);
                for (token, x) in candidates.logits().iter().enumerate() {
                    assert_eq!(x.is_finite(), !ours.contains(&(token as u32)));
                }
            }
        }
    }
    // ANCHOR_END: tests
}
