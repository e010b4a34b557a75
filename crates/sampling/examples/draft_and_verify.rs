//! A model that drafts for another one: the same text in fewer passes, greedy and sampled.

use llm_sampling::search::speculative::{DRAFT_DRAW, DraftSchedule, RowMode, verify};
use llm_sampling::{RowRandom, SamplingError, categorical, greedy};
use ndarray::{Array1, Array2, Array3};

const WORDS: [&str; 6] = ["the", "cat", "sat", "on", "mat", "."];
const NEW_TOKENS: usize = 24;

/// Logits of the next word by the last one.
const TARGET: [[f64; 6]; 6] = [
    [-9.0, 2.0, 0.0, -9.0, 2.2, -9.0],
    [-9.0, -9.0, 3.0, 1.0, -9.0, 0.5],
    [0.5, -9.0, -9.0, 3.0, -9.0, 1.0],
    [3.0, 0.0, -9.0, -9.0, 0.0, -9.0],
    [0.0, -9.0, 1.0, -9.0, -9.0, 2.5],
    [3.0, 1.0, -9.0, -9.0, -9.0, 0.0],
];

fn target(last: usize) -> Array1<f64> {
    Array1::from(TARGET[last].to_vec())
}

/// A smaller model: after "the" it expects a cat.
fn draft(last: usize) -> Array1<f64> {
    let mut logits = 0.7 * target(last);
    if last == 0 {
        logits[4] = 0.0;
    }
    logits
}

fn main() -> Result<(), SamplingError> {
    for sampled in [false, true] {
        let (mut text, mut passes) = (vec![0_usize], 0);
        let mut schedule = DraftSchedule::heuristic(3)?;
        while text.len() <= NEW_TOKENS {
            let made = text.len() - 1;
            // The small model drafts, token by token.
            let mut tokens: Vec<usize> = Vec::new();
            for i in 0..schedule.len(NEW_TOKENS - made) {
                let logits = draft(*tokens.last().unwrap_or(&text[made]));
                let random = RowRandom::new(7, 0, (made + i) as u64);
                tokens.push(if sampled {
                    categorical::draw(&logits, random.uniform(DRAFT_DRAW))?.token as usize
                } else {
                    greedy::argmax(&logits)? as usize
                });
            }
            // The real one sees all of them in one pass.
            let n = tokens.len();
            let seen = |i: usize| if i == 0 { text[made] } else { tokens[i - 1] };
            let p = Array3::from_shape_fn([1, n + 1, 6], |(_, i, token)| target(seen(i))[token]);
            let q = Array3::from_shape_fn([1, n, 6], |(_, i, token)| draft(seen(i))[token]);
            let drafted = Array2::from_shape_fn([1, n], |(_, i)| tokens[i] as u32);
            let mode = if sampled {
                RowMode::Sample(RowRandom::new(7, 0, made as u64))
            } else {
                RowMode::Greedy
            };
            for verified in verify(&p, Some(&q), &drafted, &[n], &[mode])? {
                schedule.update(verified.accepted, verified.drafted);
                text.extend(verified.tokens.iter().map(|&token| token as usize));
            }
            passes += 1;
        }
        let words: Vec<_> = text.iter().map(|&word| WORDS[word]).collect();
        let name = if sampled { "sampled" } else { "greedy" };
        println!(
            "{name}, {NEW_TOKENS} tokens in {passes} passes: {}",
            words.join(" ")
        );
    }
    Ok(())
}
