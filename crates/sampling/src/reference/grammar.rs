//! Tokens after which a text can still become one of a language, by trying all that may follow.

/// True if at most `n_more` tokens can finish a text. Tokens without bytes are never used.
pub fn can_finish<T: AsRef<[u8]>>(
    text: &[u8],
    tokens: &[T],
    n_more: usize,
    accepts: &impl Fn(&[u8]) -> bool,
) -> bool {
    let then = |token: &T| {
        can_finish(
            &[text, token.as_ref()].concat(),
            tokens,
            n_more - 1,
            accepts,
        )
    };
    let has_text = |token: &&T| !token.as_ref().is_empty();
    accepts(text) || (n_more > 0 && tokens.iter().filter(has_text).any(then))
}

/// The tokens after which at most `n_more` others can finish a text.
#[must_use]
pub fn allowed<T: AsRef<[u8]>>(
    text: &[u8],
    tokens: &[T],
    n_more: usize,
    accepts: &impl Fn(&[u8]) -> bool,
) -> Vec<u32> {
    let is_allowed = |token: &[u8]| {
        !token.is_empty() && can_finish(&[text, token].concat(), tokens, n_more, accepts)
    };
    let ids = tokens.iter().zip(0..);
    let ids = ids.filter(|(token, _)| is_allowed(token.as_ref()));
    ids.map(|(_, id)| id).collect()
}
