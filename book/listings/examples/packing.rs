//! A text draws the same words alone and in a batch, with numbers by counter.

use llm_blocks_listings::cat::{model, text};
use llm_sampling::{Chain, Context, RowRandom, SamplingError};

/// Eight words for each stream, all in one batch.
fn sample(streams: &[u64]) -> Result<Vec<Vec<u32>>, SamplingError> {
    // ANCHOR: sample
    let mut chain = Chain::new();
    let mut texts = vec![Vec::new(); streams.len()];
    for step in 0..8 {
        let last: Vec<u32> = texts
            .iter()
            .map(|tokens: &Vec<u32>| tokens.last().copied().unwrap_or(0))
            .collect();
        let contexts: Vec<Context<'_>> = streams
            .iter()
            .map(|&stream| Context::new(&[0], &[]).with_random(RowRandom::new(7, stream, step)))
            .collect();
        let draws = chain.sample(&model(&last), &contexts)?;
        for (tokens, draw) in texts.iter_mut().zip(draws) {
            tokens.push(draw.token);
        }
    }
    // ANCHOR_END: sample
    Ok(texts)
}

fn main() -> Result<(), SamplingError> {
    // ANCHOR: packing
    let alone = sample(&[5])?;
    let together = sample(&[9, 5, 2])?;
    println!("alone:    {}", text(&alone[0]));
    println!("together: {}", text(&together[1]));
    // ANCHOR_END: packing
    assert_eq!(alone[0], together[1]);
    Ok(())
}
