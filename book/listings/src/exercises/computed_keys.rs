//! Exercise of the first page on the cache: how many keys an answer computes.

// ANCHOR: exercise
/// Tokens whose keys and values are computed for an answer, without a cache and with one.
///
/// Each token of the answer takes a pass. The last token of the answer is not read any more.
#[must_use]
pub fn computed_keys(prompt: usize, answer: usize) -> [usize; 2] {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let without = (0..answer).map(|t| prompt + t).sum(); // all tokens so far, each time
    let with = if answer == 0 { 0 } else { prompt + answer - 1 }; // each token once
    [without, with]
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use super::computed_keys;

    // ANCHOR: tests
    #[test]
    fn the_poem_is_counted_as_it_was_written() {
        assert_eq!(computed_keys(5, 7), [56, 11]);
        assert_eq!(computed_keys(5, 1), [5, 5]);
        assert_eq!(computed_keys(5, 0), [0, 0]);
    }

    #[test]
    fn the_saving_grows_with_the_answer() {
        let ratio = |answer| {
            let [without, with] = computed_keys(100, answer);
            without as f64 / with as f64
        };
        assert!(ratio(10) < 10.0 && ratio(1000) > 500.0);
    }
    // ANCHOR_END: tests
}
