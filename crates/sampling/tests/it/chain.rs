//! Laws of chains.

use llm_numerics::philox::Philox4x32;
use llm_sampling::min_p::MinP;
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::temperature::Temperature;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::{
    Candidates, Chain, Context, Dialect, Processor, RowRandom, SamplingConfig, SamplingError,
    processor, sampler,
};
use ndarray::{Array2, s};
use proptest::prelude::*;

const MASKED: f32 = f32::NEG_INFINITY;

/// Long enough for the ways of a chain that pass over whole blocks; with ties, or nearly so, and masked tokens.
fn logits(seed: u64, vocab: usize, distinct: f32, masked: f32) -> Array2<f32> {
    let random = Philox4x32::new(seed);
    Array2::from_shape_fn([2, vocab], |(row, i)| {
        let u = random.uniform_f32(row as u64, 2 * i as u64);
        if random.uniform_f32(row as u64, 2 * i as u64 + 1) < masked {
            MASKED
        } else {
            10.0 * (u * distinct).floor() / distinct - 3.0
        }
    })
}

fn contexts<'a>(prompt: &'a [u32], seed: u64) -> [Context<'a>; 2] {
    [0, 1].map(|row| Context::new(prompt, &[]).with_random(RowRandom::new(seed, row, 3)))
}

proptest! {
    /// A chain may take shortcuts; one processor after the other may not.
    #[test]
    fn a_chain_is_its_processors_one_after_the_other(
        seed in any::<u64>(), vocab in prop_oneof![1..40_usize, 2000..6000_usize], distinct in prop_oneof![Just(3.0_f32), Just(1e3), Just(1e6)],
        masked in prop_oneof![Just(0.0_f32), Just(0.5), Just(0.999)], k in prop_oneof![1..60_usize, 60..7000_usize],
        t in prop_oneof![Just(1.0), 0.05..3.0], p in 0.05..1.0, exact in any::<bool>(), first in 0..3_u8,
    ) {
        let mut x = logits(seed, vocab, distinct, masked);
        x.column_mut(vocab - 1).fill(1.0);
        let ties = if exact { Ties::Exact } else { Ties::Kept };
        let steps = || -> Vec<Box<dyn Processor<f32> + Send + Sync>> {
            let mut steps: Vec<Box<dyn Processor<f32> + Send + Sync>> = vec![
                Box::new(Temperature::new(t).unwrap()),
                Box::new(TopK::new(k, ties, 1).unwrap()),
                Box::new(TopP::new(p, SumFrom::Smallest, 1).unwrap()),
                Box::new(MinP::new(0.1, 1).unwrap()),
            ];
            match first {
                0 => {}
                1 => steps.insert(0, Box::new(RepetitionPenalty::new(1.7, PenaltyWindow::All).unwrap())),
                _ => steps.swap(0, 1),
            }
            steps
        };
        let prompt = [0, 5, 7, vocab as u32 - 1];
        let contexts = contexts(&prompt, seed);
        let mut expected = x.clone();
        for step in steps() {
            processor::apply_inplace(&mut expected, &contexts, &*step).unwrap();
        }
        let mut chain = Chain::new();
        for step in steps() {
            chain = chain.with(move |candidates: &mut Candidates<f32>, context: &Context<'_>| step.apply(candidates, context));
        }
        let mut plain = x.clone();
        chain.apply_inplace(&mut plain, &contexts).unwrap();
        prop_assert_eq!(&plain, &expected); // closures have no shortcut

        let mut chain = Chain::new();
        for step in steps() {
            chain.push(step);
        }
        let mut short = x.clone();
        chain.apply_inplace(&mut short, &contexts).unwrap();
        prop_assert_eq!(&short, &expected);
        // Draws come from what is left, again and again, whatever the memory held before.
        let draws = chain.sample(&x, &contexts).unwrap();
        prop_assert_eq!(&chain.sample(&x, &contexts).unwrap(), &draws);
        for (row, draw) in draws.iter().enumerate() {
            prop_assert!(expected[[row, draw.token as usize]] > MASKED);
            let alone = chain.sample(&x.slice(s![row..=row, ..]), &contexts[row..=row]).unwrap();
            prop_assert_eq!(&alone[0], draw);
        }
    }

    /// The two ways to say the usual chain.
    #[test]
    fn a_chain_of_a_dialect_is_its_settings(
        seed in any::<u64>(), vocab in prop_oneof![1..40_usize, 2000..4000_usize], k in 1..60_usize, t in 0.05..3.0, p in 0.05..1.0,
        llama_cpp in any::<bool>(),
    ) {
        let x = logits(seed, vocab, 1e6, 0.0);
        let temperature = Temperature::new(t).unwrap();
        let (dialect, chain) = if llama_cpp {
            let top_k = TopK::new(k, Ties::Exact, 1).unwrap();
            let top_p = TopP::new(p, SumFrom::Largest, 1).unwrap();
            (Dialect::LlamaCpp, Chain::new().with(top_k).with(top_p).with(temperature))
        } else {
            let top_k = TopK::new(k, Ties::Kept, 1).unwrap();
            let top_p = TopP::new(p, SumFrom::Smallest, 1).unwrap();
            (Dialect::HuggingFace, Chain::new().with(temperature).with(top_k).with(top_p))
        };
        let config = SamplingConfig::sample(dialect, t, Some(k), Some(p)).unwrap();
        let contexts = contexts(&[], seed);
        let uniforms = contexts.map(|context| context.random.uniform(0));
        let mut chain = chain;
        prop_assert_eq!(chain.sample(&x, &contexts).unwrap(), sampler::sample(&x, &config, &uniforms).unwrap());
    }
}

#[test]
fn errors_name_the_row_and_change_nothing() {
    let mut x = logits(1, 3000, 1e6, 0.0);
    x[[1, 2999]] = f32::NAN;
    let before = x.clone();
    let contexts = contexts(&[], 1);
    let mut chain = Chain::new()
        .with(Temperature::new(0.5).unwrap())
        .with(TopK::new(5, Ties::Kept, 1).unwrap());
    let error = SamplingError::NanLogits {
        row: 1,
        token: 2999,
    };
    assert_eq!(chain.apply_inplace(&mut x, &contexts), Err(error));
    assert_eq!(x.slice(s![.., ..2999]), before.slice(s![.., ..2999]));
    let mut draws = chain
        .sample(&before.slice(s![..1, ..]), &contexts[..1])
        .unwrap();
    assert_eq!(draws.len(), 1);
    assert_eq!(chain.sample_into(&x, &contexts, &mut draws), Err(error));
    assert!(draws.is_empty());

    x[[1, 2999]] = 3e38;
    let error = SamplingError::TemperatureOverflow {
        row: 1,
        token: 2999,
        logit: f64::from(3e38_f32),
        temperature: 0.5,
    };
    assert_eq!(chain.sample(&x, &contexts), Err(error));

    let error = SamplingError::Contexts {
        expected: 2,
        got: 1,
    };
    assert_eq!(chain.sample(&x, &contexts[..1]), Err(error));
    assert_eq!(chain.apply_inplace(&mut x, &contexts[..1]), Err(error));
    let nothing = Array2::<f32>::zeros([2, 0]);
    assert_eq!(
        chain.sample(&nothing, &contexts),
        Err(SamplingError::Vocab(0))
    );
}

#[test]
fn no_two_numbers_of_a_sequence_are_the_same() {
    let mut numbers = Vec::new();
    for step in [0, 1, 2, (1 << 47) - 1] {
        for draw in [0, 1, 2, 255, 32767, 32768, 32769, 65535] {
            numbers.push(RowRandom::new(5, 1, step).uniform(draw).to_bits());
        }
    }
    let n = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), n);
}
