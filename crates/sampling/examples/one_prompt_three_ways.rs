//! One prompt continued three ways: greedy, and sampled in the orders of two libraries, with the
//! tokens streamed as text.

use core::convert::Infallible;
use core::ops::ControlFlow;
use std::io::Write;

use llm_sampling::generate::{GenerateConfig, GenerateError, generate};
use llm_sampling::stream::TextStreamer;
use llm_sampling::{Dialect, SamplingConfig};
use ndarray::Array1;

/// Pieces of text as tokens; the fourth and fifth are halves of a character.
const PIECES: [&[u8]; 8] = [
    b"the ", b"cat ", b"sat ", b"caf\xC3", b"\xA9 ", b"on ", b"mat ", b".",
];
const STOP: u32 = 7;

fn main() -> Result<(), GenerateError<Infallible>> {
    let modes = [
        ("greedy", SamplingConfig::greedy()),
        (
            "Hugging Face",
            SamplingConfig::sample(Dialect::HuggingFace, 1.5, Some(4), Some(0.9))?,
        ),
        (
            "llama.cpp",
            SamplingConfig::sample(Dialect::LlamaCpp, 1.5, Some(4), Some(0.9))?,
        ),
    ];
    for (name, sampling) in modes {
        let config = GenerateConfig::new(sampling, 16)
            .with_stop_ids(vec![STOP])
            .with_seed(1);
        let mut text = TextStreamer::new();
        print!("{name:>12}: the ");
        let generation = generate(&[0], &config, model, |draw| {
            print!("{}", text.push(PIECES[draw.token as usize]));
            let flushed = std::io::stdout().flush();
            if flushed.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        let nats = -generation.log_probabilities.iter().sum::<f64>();
        println!("{}  [{:?}, {nats:.2} nats]", text.finish(), generation.stop);
    }
    Ok(())
}

/// A bigram model: logits of the next token by the last one.
fn model(new_tokens: &[u32]) -> Result<Array1<f32>, Infallible> {
    const TABLE: [[f32; 8]; 8] = [
        [0.0, 3.0, 0.0, 2.0, -9.0, 0.0, 2.5, -9.0], // the: cat, mat, caf
        [0.0, 0.0, 3.0, 0.0, -9.0, 1.0, 0.0, 1.0],  // cat: sat
        [0.5, 0.0, 0.0, 0.0, -9.0, 3.0, 0.0, 2.0],  // sat: on
        [-9.0, -9.0, -9.0, -9.0, 9.0, -9.0, -9.0, -9.0],
        [0.0, 2.0, 2.0, 0.0, -9.0, 1.5, 0.0, 2.5], // café: anything
        [3.0, 0.0, 0.0, 1.0, -9.0, 0.0, 1.0, 0.0], // on: the
        [0.0, 0.0, 1.0, 0.0, -9.0, 1.0, 0.0, 3.5], // mat: .
        [0.0; 8],
    ];
    let last = new_tokens.last().map_or(0, |&token| token as usize);
    Ok(Array1::from(TABLE[last].to_vec()))
}
