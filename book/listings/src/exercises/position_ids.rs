//! Exercise of the page on learned positions: the rows that `RoBERTa` looks up.

// ANCHOR: exercise
/// The row of each token: `padding_idx` for padding, and `padding_idx + 1`, `padding_idx + 2`, .. for the others.
#[must_use]
pub fn position_ids(is_token: &[bool], padding_idx: usize) -> Vec<usize> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let mut count = 0;
    is_token
        .iter()
        .map(|&is_token| {
            count += usize::from(is_token);
            if is_token {
                padding_idx + count
            } else {
                padding_idx
            }
        })
        .collect()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_posenc::learned::{self, PositionConvention};

    use super::position_ids;

    // ANCHOR: tests
    #[test]
    fn padding_does_not_count() {
        let is_token = [false, false, true, true, false, true];
        assert_eq!(position_ids(&is_token, 1), [1, 1, 2, 3, 1, 4]);
    }

    #[test]
    fn the_crate_agrees() {
        let is_token = [true, false, true, true];
        let mask = ndarray::Array2::from_shape_fn((1, 4), |(_, t)| is_token[t]);
        let convention = PositionConvention::Roberta { padding_idx: 7 };
        let want = learned::positions(&mask, 0, convention).unwrap();
        assert_eq!(position_ids(&is_token, 7), want.as_slice().unwrap());
    }
    // ANCHOR_END: tests
}
