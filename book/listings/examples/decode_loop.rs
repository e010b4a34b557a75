//! The loop that makes a text: logits, a choice, and one token more.

use llm_blocks_listings::cat::{STOP, model, text};
use llm_sampling::{RowRandom, SamplingError, categorical, greedy};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: loop
    for greedily in [true, false] {
        let mut tokens: Vec<u32> = Vec::new();
        let mut last = 0; // "the"
        while last != STOP && tokens.len() < 12 {
            let logits = model(&[last]); // [1, vocab]
            let row = logits.row(0);
            last = if greedily {
                greedy::argmax(&row)?
            } else {
                let u = RowRandom::new(10, 0, tokens.len() as u64).uniform(0);
                categorical::draw(&row, u)?.token
            };
            tokens.push(last);
        }
        println!("{}", text(&tokens));
    }
    // ANCHOR_END: loop
    Ok(())
}
