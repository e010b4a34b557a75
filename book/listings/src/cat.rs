//! The toy model of the chapter on decoding: eight words, and a table in the place of a network.

use llm_sampling::{Candidates, Context, SamplingError};
use ndarray::Array2;

// ANCHOR: table
/// The vocabulary: the id of a word is its place.
pub const WORDS: [&str; 8] = ["the", "cat", "sat", "on", "mat", "and", "slept", "."];
/// The id that ends a sentence.
pub const STOP: u32 = 7;

/// Probabilities of the next word, in percent, by the last one.
const TABLE: [[f64; 8]; 8] = [
    [0.0, 70.0, 0.0, 0.0, 28.0, 0.0, 0.0, 2.0], // the: cat, mat
    [0.0, 0.0, 75.0, 1.0, 0.0, 8.0, 15.0, 1.0], // cat: sat, slept, and
    [0.0, 0.0, 0.0, 90.0, 0.0, 5.0, 0.0, 5.0],  // sat: on
    [97.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0],  // on: the
    [0.0, 0.0, 1.0, 0.0, 0.0, 49.0, 0.0, 50.0], // mat: ., and
    [45.0, 0.0, 15.0, 0.0, 0.0, 0.0, 39.0, 1.0], // and: the, slept, sat
    [0.0, 0.0, 0.0, 25.0, 0.0, 15.0, 0.0, 60.0], // slept: ., on, and
    [12.5; 8],
];

/// Logits `[batch, vocab]` of the word after each of these.
#[must_use]
pub fn model(last: &[u32]) -> Array2<f64> {
    Array2::from_shape_fn([last.len(), 8], |(row, word)| {
        (TABLE[last[row] as usize][word] / 100.0).ln()
    })
}
// ANCHOR_END: table

/// Words with blanks between them, after "the".
#[must_use]
pub fn text(tokens: &[u32]) -> String {
    let words = tokens.iter().map(|&token| WORDS[token as usize]);
    let words: Vec<&str> = ["the"].into_iter().chain(words).collect();
    words.join(" ")
}

/// The processor that leaves everything as it is.
///
/// # Errors
///
/// None.
pub fn unchanged(_: &mut Candidates<f64>, _: &Context<'_>) -> Result<(), SamplingError> {
    Ok(())
}
