//! DRY by comparing everything with everything.

/// How many tokens at the end of `tokens` come after the last breaker.
#[must_use]
pub fn since_breaker(tokens: &[u32], breakers: &[Vec<u32>]) -> usize {
    let n = tokens.len();
    for start in (0..n).rev() {
        let longest = breakers
            .iter()
            .filter(|b| tokens[start..].starts_with(b))
            .map(Vec::len)
            .max();
        if let Some(length) = longest {
            return n - start - length;
        }
    }
    n
}

/// The length of the longest repeat that each token would continue, by id; `None` without one of the allowed length.
#[must_use]
pub fn lengths(
    vocab: usize,
    tokens: &[u32],
    allowed_length: usize,
    breakers: &[Vec<u32>],
) -> Vec<Option<usize>> {
    let n = tokens.len();
    let mut found = vec![None; vocab];
    let limit = since_breaker(tokens, breakers);
    if n <= allowed_length || limit < allowed_length {
        return found;
    }
    for (token, longest) in found.iter_mut().enumerate() {
        if breakers
            .iter()
            .any(|b| b.len() == 1 && b[0] as usize == token)
        {
            continue;
        }
        for j in 1..n {
            if tokens[j] as usize != token {
                continue;
            }
            let mut length = 0;
            while length < j.min(limit) && tokens[j - 1 - length] == tokens[n - 1 - length] {
                length += 1;
            }
            if length >= allowed_length && Some(length) > *longest {
                *longest = Some(length);
            }
        }
    }
    found
}

/// The logits less the penalties.
#[must_use]
pub fn apply(
    logits: &[f64],
    tokens: &[u32],
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    breakers: &[Vec<u32>],
) -> Vec<f64> {
    let most = if base > 1.000001 {
        (88.7228391 / base.ln()) as usize
    } else {
        0
    };
    let penalty = |length: usize| {
        let exponent = length - allowed_length;
        let exponent = if most > 0 && exponent > most {
            most
        } else {
            exponent
        };
        multiplier * base.powi(exponent as i32)
    };
    lengths(logits.len(), tokens, allowed_length, breakers)
        .into_iter()
        .zip(logits)
        .map(|(length, x)| x - length.map_or(0.0, penalty))
        .collect()
}
