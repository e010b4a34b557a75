//! Known answers that a reader can redo by hand.

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_sampling::generate::{GenerateConfig, StopReason, generate};
use llm_sampling::stream::TextStreamer;
use llm_sampling::top_k::Ties;
use llm_sampling::{
    Dialect, SamplingConfig, categorical, greedy, sampler, temperature, top_k, top_p,
};
use ndarray::{Array1, Array2, array, s};

const MASKED: f64 = f64::NEG_INFINITY;

/// Tokens that the chain keeps.
fn kept(logits: &[f64], config: &SamplingConfig) -> Vec<usize> {
    let mut x = Array2::from_shape_vec([1, logits.len()], logits.to_vec()).unwrap();
    sampler::apply_inplace(&mut x, config).unwrap();
    (0..logits.len()).filter(|&i| x[[0, i]] > MASKED).collect()
}

/// Logits 3, 2, 1 with top-p 0.8 and temperature 0.5.
///
/// ```text
/// T = 1:    e^0, e^-1, e^-2 = 1, 0.368, 0.135:  p = 0.665, 0.245, 0.090; 0.665 < 0.8 <= 0.910
/// T = 0.5:  e^0, e^-2, e^-4 = 1, 0.135, 0.018:  p = 0.867, 0.117, 0.016; 0.8 <= 0.867
/// ```
#[test]
fn the_order_of_temperature_and_top_p_decides_which_tokens_stay() {
    let config = |dialect| SamplingConfig::sample(dialect, 0.5, None, Some(0.8)).unwrap();
    assert_eq!(kept(&[3.0, 2.0, 1.0], &config(Dialect::HuggingFace)), [0]);
    assert_eq!(kept(&[3.0, 2.0, 1.0], &config(Dialect::LlamaCpp)), [0, 1]);
}

#[test]
fn the_dialects_differ_in_what_they_do_with_equals() {
    let config = |dialect, k, p| SamplingConfig::sample(dialect, 1.0, k, p).unwrap();
    let logits = [1.0, 2.0, 2.0, 2.0];
    assert_eq!(
        kept(&logits, &config(Dialect::HuggingFace, Some(2), None)),
        [1, 2, 3]
    );
    assert_eq!(
        kept(&logits, &config(Dialect::LlamaCpp, Some(2), None)),
        [1, 2]
    );
    // Four equals of probability 1/4; 0.3 needs two of them.
    assert_eq!(
        kept(&[0.0; 4], &config(Dialect::HuggingFace, None, Some(0.3))),
        [2, 3]
    );
    assert_eq!(
        kept(&[0.0; 4], &config(Dialect::LlamaCpp, None, Some(0.3))),
        [0, 1]
    );
}

#[test]
fn top_p_works_on_what_top_k_left() {
    // Probabilities 0.4, 0.3, 0.2, 0.1. Top-k 2 leaves 4/7 = 0.571 and 3/7; with p 0.5 one is enough,
    // of the whole distribution it would not be.
    let logits = [0.4_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln(), 0.1_f64.ln()];
    for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp] {
        let config = |k| SamplingConfig::sample(dialect, 1.0, k, Some(0.5)).unwrap();
        assert_eq!(kept(&logits, &config(Some(2))), [0]);
        assert_eq!(kept(&logits, &config(None)), [0, 1]);
    }
}

#[test]
fn the_token_that_crosses_p_stays() {
    // Exact binary probabilities 1/2, 1/4, 1/8, 1/8.
    let logits = array![[0.0, -1.0, -2.0, -2.0]] * 2_f64.ln();
    for (p, count) in [
        (0.49, 1),
        (0.51, 2),
        (0.74, 2),
        (0.76, 3),
        (0.87, 3),
        (0.88, 4),
        (1.0, 4),
    ] {
        let mut x = logits.clone();
        top_p::apply_inplace(&mut x, p, 1).unwrap();
        assert_eq!(x.iter().filter(|x| **x > MASKED).count(), count, "{p}");
    }
    let mut x = logits.clone();
    top_p::apply_inplace(&mut x, 0.1, 3).unwrap();
    // Of the equal last two, the lower id is dropped first.
    assert_eq!(
        x,
        array![[logits[[0, 0]], logits[[0, 1]], MASKED, logits[[0, 3]]]]
    );
}

/// Where the tail is flat, tokens that lie too deep to matter count once.
///
/// ```text
/// weights: 1; 500 tokens e^-6.900 = 1.00779e-3; 499 tokens e^-6.912 = 9.9575e-4.   Sum 2.000773, half of it 1.000387
/// from the smallest: 499 deep ones 0.49688, and 499 of the others: 0.99977; with the 500th 1.00077
/// ```
#[test]
fn a_flat_tail_is_dropped_up_to_its_last_token() {
    let mut logits = vec![0.0_f64];
    logits.extend([-6.9; 500]);
    logits.extend([-6.912; 499]);
    let config = SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, Some(0.5)).unwrap();
    assert_eq!(kept(&logits, &config), [0, 500]);
}

#[test]
fn any_strides_are_fine() {
    let mut wide = array![
        [1.0, 9.0, 3.0, 9.0, 2.0, 9.0],
        [3.0, 9.0, 2.0, 9.0, 1.0, 9.0]
    ];
    let mut every_other = wide.slice_mut(s![.., ..;2]);
    top_k::apply_inplace(&mut every_other, 2, Ties::Exact, 1).unwrap();
    temperature::apply_inplace(&mut every_other, 0.5).unwrap();
    assert_eq!(
        wide,
        array![
            [MASKED, 9.0, 6.0, 9.0, 4.0, 9.0],
            [6.0, 9.0, 4.0, 9.0, MASKED, 9.0]
        ]
    );

    let columns = array![[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]];
    let draws = sampler::sample(&columns.t(), &SamplingConfig::greedy(), &[]).unwrap();
    assert_eq!((draws[0].token, draws[1].token), (2, 0));
    assert_eq!(greedy::argmax(&columns.slice(s![..;-1, 0])), Ok(0));
}

#[test]
fn probabilities_come_with_the_draw() {
    let logits = array![[1_f64.ln(), 2_f64.ln(), 3_f64.ln(), 4_f64.ln()]];
    let greedy = sampler::sample(&logits, &SamplingConfig::greedy(), &[]).unwrap()[0];
    assert_eq!(greedy.token, 3);
    assert!((greedy.log_probability - 0.4_f64.ln()).abs() < 1e-15);
    // Top-k 2 leaves 3/7 and 4/7; T = 1/2 squares them: 9/25 and 16/25.
    let config = SamplingConfig::sample(Dialect::HuggingFace, 0.5, Some(2), None).unwrap();
    for (u, token, p) in [
        (0.0, 2, 9.0 / 25.0),
        (0.35, 2, 9.0 / 25.0),
        (0.37, 3, 16.0 / 25.0),
        (0.999, 3, 16.0 / 25.0),
    ] {
        let draw = sampler::sample(&logits, &config, &[u]).unwrap()[0];
        assert_eq!(draw.token, token);
        assert!((draw.log_probability - f64::ln(p)).abs() < 1e-14);
    }
}

#[test]
fn the_ends_of_the_unit_interval_give_tokens_with_probability() {
    let last = 1.0 - f64::EPSILON / 2.0; // the largest number below 1
    let p = array![0.0_f32, 0.3, 0.0, 0.7, 0.0];
    assert_eq!(categorical::inverse_cdf(&p, 0.0), Ok(1));
    assert_eq!(categorical::inverse_cdf(&p, last), Ok(3));
    let logits = array![f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    for u in [0.0, 0.5, last] {
        let draw = categorical::draw(&logits, u).unwrap();
        assert_eq!((draw.token, draw.log_probability), (1, 0.0));
    }
    // A slice starts at its lower end and ends before its upper one.
    let quarters = array![0.25, 0.0, 0.5, 0.25];
    for (u, token) in [(0.2499, 0), (0.25, 2), (0.7499, 2), (0.75, 3)] {
        assert_eq!(categorical::inverse_cdf(&quarters, u), Ok(token), "{u}");
    }
    // Subnormal sums round; still a token with probability comes.
    let tiny = array![f64::from_bits(1), 0.0];
    assert_eq!(categorical::inverse_cdf(&tiny, last), Ok(0));
}

#[test]
fn huge_logits_are_no_problem() {
    let logits = array![[f32::MAX, f32::MIN, 0.0]];
    for config in [
        SamplingConfig::greedy(),
        SamplingConfig::sample(Dialect::HuggingFace, 1.0, Some(2), Some(0.5)).unwrap(),
        SamplingConfig::sample(Dialect::LlamaCpp, 1e10, None, Some(0.5)).unwrap(),
    ] {
        assert_eq!(
            sampler::sample(&logits, &config, &[0.9]).unwrap()[0].token,
            0
        );
    }
}

/// A model over 10 tokens: after n comes n + 1.
fn counting(new_tokens: &[u32]) -> Result<Array1<f64>, Infallible> {
    let next = (new_tokens[new_tokens.len() - 1] as usize + 1) % 10;
    Ok(Array1::from_shape_fn(10, |i| {
        if i == next { 50.0 } else { 0.0 }
    }))
}

#[test]
fn a_generation_ends_for_a_reason() {
    let go_on = |_: &_| ControlFlow::Continue(());
    let config = GenerateConfig::new(SamplingConfig::greedy(), 3);
    let done = generate(&[1], &config, counting, go_on).unwrap();
    assert_eq!(
        (done.tokens.as_slice(), done.stop),
        ([2, 3, 4].as_slice(), StopReason::MaxNewTokens)
    );
    assert_eq!(done.log_probabilities.len(), 3);

    let stops = config.clone().with_stop_ids(vec![9, 4]);
    let done = generate(&[1], &stops, counting, go_on).unwrap();
    assert_eq!(
        (done.tokens.as_slice(), done.stop),
        ([2, 3, 4].as_slice(), StopReason::StopToken(4))
    );

    // A stop token in the prompt stops nothing.
    let done = generate(&[9, 4], &stops, counting, go_on).unwrap();
    assert_eq!(
        (done.tokens.as_slice(), done.stop),
        ([5, 6, 7].as_slice(), StopReason::MaxNewTokens)
    );

    let mut seen = Vec::new();
    let done = generate(&[1], &stops, counting, |draw| {
        seen.push(draw.token);
        if draw.token == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert_eq!(
        (done.tokens.as_slice(), done.stop),
        ([2, 3].as_slice(), StopReason::Callback)
    );
    assert_eq!(seen, [2, 3]);

    let none = GenerateConfig::new(SamplingConfig::greedy(), 0);
    let step = |_: &[u32]| -> Result<Array1<f64>, Infallible> { panic!("called") };
    let done = generate(&[1], &none, step, go_on).unwrap();
    assert_eq!(
        (done.tokens.len(), done.stop),
        (0, StopReason::MaxNewTokens)
    );
}

#[test]
fn the_model_sees_every_token_once_but_the_last() {
    let mut fed = Vec::new();
    let config = GenerateConfig::new(SamplingConfig::greedy(), 4);
    let step = |new: &[u32]| {
        fed.push(new.to_vec());
        counting(new)
    };
    let done = generate(&[7, 8, 0], &config, step, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(done.tokens, [1, 2, 3, 4]);
    assert_eq!(fed, [vec![7, 8, 0], vec![1], vec![2], vec![3]]);
}

#[test]
fn text_streams_by_whole_characters() {
    let mut streamer = TextStreamer::new();
    // U+4F60 is E4 BD A0, U+1F642 is F0 9F 99 82 (the Unicode standard, table 3-6).
    assert_eq!(streamer.push(b"a\xE4"), "a");
    assert_eq!(streamer.push(b"\xBD"), "");
    assert_eq!(streamer.push(b"\xA0\xF0\x9F\x99"), "\u{4F60}");
    assert_eq!(streamer.push(b"\x82!"), "\u{1F642}!");
    assert_eq!(streamer.finish(), "");
    // A lead byte that is not continued, and one at the end.
    assert_eq!(streamer.push(b"\xE4a\xFFb\xF0\x9F"), "\u{FFFD}a\u{FFFD}b");
    assert_eq!(streamer.finish(), "\u{FFFD}");
    assert_eq!(streamer.finish(), "");
}
