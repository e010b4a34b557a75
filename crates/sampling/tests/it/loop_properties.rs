//! Laws of the decoding loop and of streamed text.

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_numerics::philox::Philox4x32;
use llm_sampling::generate::{GenerateConfig, StopReason, generate};
use llm_sampling::stream::TextStreamer;
use llm_sampling::{Dialect, SamplingConfig, sampler};
use ndarray::{Array1, Array2, Axis};
use proptest::prelude::*;

/// Logits of the next token depend on the last one.
fn table(vocab: usize) -> impl Strategy<Value = Array2<f32>> {
    prop::collection::vec(-3.0..3.0_f32, vocab * vocab)
        .prop_map(move |x| Array2::from_shape_vec([vocab, vocab], x).unwrap())
}

fn run(
    table: &Array2<f32>,
    prompt: &[u32],
    config: &GenerateConfig,
) -> llm_sampling::generate::Generation {
    let step = |new: &[u32]| -> Result<Array1<f32>, Infallible> {
        Ok(table.row(new[new.len() - 1] as usize).to_owned())
    };
    generate(prompt, config, step, |_| ControlFlow::Continue(())).unwrap()
}

proptest! {
    /// The loop is: choose with uniform number `i` of the stream, append, look for a stop token.
    #[test]
    fn the_loop_is_what_it_says(
        table in table(6), prompt in prop::collection::vec(0..6_u32, 1..4), n in 0..12_usize,
        stop_ids in prop::collection::vec(0..6_u32, 0..2), seed in any::<u64>(), stream in any::<u64>(), greedy in any::<bool>(),
    ) {
        let sampling = if greedy {
            SamplingConfig::greedy()
        } else {
            SamplingConfig::sample(Dialect::HuggingFace, 0.9, Some(4), Some(0.95)).unwrap()
        };
        let config = GenerateConfig::new(sampling, n).with_stop_ids(stop_ids.clone()).with_seed(seed).with_stream(stream);
        let generation = run(&table, &prompt, &config);

        let (mut tokens, mut log_probabilities, mut stop) = (Vec::new(), Vec::new(), StopReason::MaxNewTokens);
        let mut last = prompt[prompt.len() - 1];
        for i in 0..n {
            let u = Philox4x32::new(seed).uniform_f64(stream, i as u64);
            let draw = sampler::sample(&table.row(last as usize).insert_axis(Axis(0)), &sampling, &[u]).unwrap()[0];
            last = draw.token;
            tokens.push(last);
            log_probabilities.push(draw.log_probability);
            if stop_ids.contains(&last) {
                stop = StopReason::StopToken(last);
                break;
            }
        }
        prop_assert_eq!(generation.tokens, tokens);
        prop_assert_eq!(generation.log_probabilities, log_probabilities);
        prop_assert_eq!(generation.stop, stop);
    }

    /// More tokens continue fewer: the same seed and stream give the same start.
    #[test]
    fn a_longer_generation_starts_like_a_shorter_one(table in table(8), seed in any::<u64>(), n in 0..20_usize) {
        let sampling = SamplingConfig::sample(Dialect::LlamaCpp, 1.3, None, None).unwrap();
        let long = run(&table, &[3], &GenerateConfig::new(sampling, 20).with_seed(seed));
        let short = run(&table, &[3], &GenerateConfig::new(sampling, n).with_seed(seed));
        prop_assert_eq!(&long.tokens[..n], short.tokens.as_slice());
    }

    /// Wherever bytes are cut, the pieces are the whole.
    #[test]
    fn cuts_do_not_matter_to_the_text(
        bytes in prop_oneof![
            ".*".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(prop::sample::select(vec![0xE4_u8, 0xBD, 0xA0, 0xF0, 0x9F, 0x99, 0x82, 0xC3, b'a', 0xED, 0xFF]), 0..40),
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let mut streamer = TextStreamer::new();
        let mut text: String = cuts.windows(2).map(|pair| streamer.push(&bytes[pair[0]..pair[1]])).collect();
        text.push_str(&streamer.finish());
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }

    /// Nothing complete is held back.
    #[test]
    fn whole_characters_come_at_once(text in ".*") {
        let mut streamer = TextStreamer::new();
        for character in text.chars() {
            prop_assert_eq!(streamer.push(character.to_string().as_bytes()), character.to_string());
        }
        prop_assert_eq!(streamer.finish(), "");
    }
}
