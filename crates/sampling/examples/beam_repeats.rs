//! Beam search repeats itself where a loop is likelier than an end, and a ban of repeated n-grams makes it say something else:
//!
//! ```text
//! free:       the cat sat on the cat sat on the cat sat on the cat sat on the [-0.195]
//! no 8-gram:  the cat sat on the cat sat on the mat and the cat sat on the cat [-0.343]
//! no 3-gram:  the cat sat on the mat . [-0.458]
//! ```
//!
//! The number is the mean log-probability of a token, in nats, which the search maximizes. A short ban also forbids what may well come twice.

use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::{Candidates, Context, Processor, SamplingError};
use ndarray::Array2;

const WORDS: [&str; 8] = ["the", "cat", "sat", "on", "mat", "and", "slept", "."];
const STOP: u32 = 7;

/// Probabilities of the next word, in percent, by the last one.
const TABLE: [[f32; 8]; 8] = [
    [0.0, 70.0, 0.0, 0.0, 28.0, 0.0, 0.0, 2.0], // the: cat, mat
    [0.0, 0.0, 75.0, 1.0, 0.0, 8.0, 15.0, 1.0], // cat: sat, slept, and
    [0.0, 0.0, 0.0, 90.0, 0.0, 5.0, 0.0, 5.0],  // sat: on
    [97.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0],  // on: the
    [0.0, 0.0, 1.0, 0.0, 0.0, 49.0, 0.0, 50.0], // mat: ., and
    [45.0, 0.0, 15.0, 0.0, 0.0, 0.0, 39.0, 1.0], // and: the, slept, sat
    [0.0, 0.0, 0.0, 25.0, 0.0, 15.0, 0.0, 60.0], // slept: ., on, and
    [12.5; 8],
];

fn main() -> Result<(), SamplingError> {
    print!("{}", report()?);
    Ok(())
}

/// What the search finds for "the", with and without bans.
pub(crate) fn report() -> Result<String, SamplingError> {
    let free = |_: &mut Candidates<f32>, _: &Context<'_>| Ok(());
    let mut text = format!("free:       {}\n", likeliest(&free)?);
    for n in [8, 3] {
        let ban = move |candidates: &mut Candidates<f32>, context: &Context<'_>| {
            ban_repeats(candidates, context, n);
            Ok(())
        };
        text += &format!("no {n}-gram:  {}\n", likeliest(&ban)?);
    }
    Ok(text)
}

// ANCHOR: ban
/// Masks each token that would end an n-gram that the sequence has.
fn ban_repeats(candidates: &mut Candidates<f32>, context: &Context<'_>, n: usize) {
    let sequence: Vec<u32> = context.tokens().collect();
    let Some(start) = (sequence.len() + 1).checked_sub(n) else {
        return;
    };
    for window in sequence.windows(n) {
        if window[..n - 1] == sequence[start..]
            && let Some(x) = candidates.get_mut(window[n - 1])
        {
            *x = f32::NEG_INFINITY;
        }
    }
}
// ANCHOR_END: ban

/// The best of four beams: words, and their mean log-probability.
fn likeliest(processor: &impl Processor<f32>) -> Result<String, SamplingError> {
    let config = BeamConfig::transformers(4, 16).with_stop_ids(vec![STOP]);
    let mut search = BeamSearch::new(&[[0]], &config)?;
    while !search.is_done() {
        let tokens = search.tokens();
        let logits =
            Array2::from_shape_fn([4, 8], |(row, word)| TABLE[tokens[row] as usize][word].ln());
        search.step(&logits, processor)?;
    }
    let best = &search.finish()[0][0];
    let words = best.tokens.iter().map(|&token| WORDS[token as usize]);
    let words: Vec<&str> = words.collect();
    Ok(format!("the {} [{:.3}]", words.join(" "), best.score))
}
