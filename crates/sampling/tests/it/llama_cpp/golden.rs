//! Known answers that a reader can redo by hand.

use llm_numerics::philox::Philox4x32;
use llm_sampling::adaptive_p::{self, AdaptiveP};
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::mirostat::{self, Mirostat, MirostatVersion};
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::tail_free::TailFree;
use llm_sampling::top_a::TopA;
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::xtc::Xtc;
use llm_sampling::{Context, RowRandom, gumbel_max};
use ndarray::array;

use super::{MASKED, kept, no_tokens, run};

fn logs(p: &[f64]) -> Vec<f64> {
    p.iter().map(|p| p.ln()).collect()
}

#[test]
fn libraries_count_different_tokens() {
    // Prompt 0 0 1, generated 1 2 2 2.
    let context = Context::new(&[0, 0, 1], &[1, 2, 2, 2]);
    let penalty = |window| PresenceFrequency::new(0.5, 0.25, window).unwrap();
    let zeros = [0.0; 4];
    // OpenAI, vLLM: 1 once, 2 three times.
    assert_eq!(
        run(&zeros, context, &penalty(PenaltyWindow::Generated)),
        [0.0, -0.75, -1.25, 0.0]
    );
    // llama.cpp with the last 6: 0 once, 1 twice, 2 three times.
    assert_eq!(
        run(&zeros, context, &penalty(PenaltyWindow::Last(6))),
        [-0.75, -1.0, -1.25, 0.0]
    );
    // llama.cpp's penalties in one: first the repetition, 3 / 1.5 and -3 · 1.5, then the others.
    let context = Context::new(&[], &[0, 1, 1]);
    let repeated = run(
        &[3.0, -3.0, 3.0],
        context,
        &RepetitionPenalty::new(1.5, PenaltyWindow::Last(64)).unwrap(),
    );
    assert_eq!(
        run(&repeated, context, &penalty(PenaltyWindow::Last(64))),
        [1.25, -5.5, 3.0]
    );
}

/// The text `a b c c b c y a b c`, with a = 0, b = 1, c = 2, y = 3.
///
/// ```text
/// after "a b c" came c: repeat of 3;   after "c" came b: 1, and c: 1;   after "b c" came y: 2;   b and c after a, b: 0
/// ```
#[test]
fn dry_finds_what_would_continue_a_repeat() {
    let text = [0, 1, 2, 2, 1, 2, 3, 0, 1, 2];
    let at = |allowed, breakers: &[Vec<u32>]| {
        let dry = Dry::new(1.0, 2.0, allowed, PenaltyWindow::All, breakers).unwrap();
        run(&[0.0; 4], Context::new(&text[..6], &text[6..]), &dry)
    };
    assert_eq!(at(1, &[]), [0.0, -1.0, -4.0, -2.0]); // exponents 0, 2, 1
    assert_eq!(at(2, &[]), [0.0, 0.0, -2.0, -1.0]); // 1, 0
    assert_eq!(at(3, &[]), [0.0, 0.0, -1.0, 0.0]);
    assert_eq!(at(4, &[]), [0.0; 4]);
    // With the breaker a only b c may match: c and y continue a repeat of 2.
    assert_eq!(at(2, &[vec![0]]), [0.0, 0.0, -1.0, -1.0]);
    // With a b, only c is left.
    assert_eq!(at(2, &[vec![0, 1]]), [0.0; 4]);
    assert_eq!(at(1, &[vec![0, 1], vec![0]]), [0.0, -1.0, -1.0, -1.0]); // the longer of the two from a
    // A token that breaks by itself is not penalized; here it leaves all ten tokens but y a b c.
    assert_eq!(at(2, &[vec![3]]), [0.0, 0.0, -2.0, 0.0]);
    // The last five, c y a b c: only "c" before y.
    let dry = Dry::new(1.0, 2.0, 1, PenaltyWindow::Last(5), &[]).unwrap();
    assert_eq!(
        run(&[0.0; 4], Context::new(&text, &[]), &dry),
        [0.0, 0.0, 0.0, -1.0]
    );
}

/// Probabilities 0.4, 0.3, 0.15, 0.1, 0.05: steps 0.1, 0.15, 0.05, 0.05; bends 0.05, 0.1, 0; of their sum 1/3, 1, 1.
#[test]
fn tail_free_cuts_where_the_bends_end() {
    let row = logs(&[0.05, 0.3, 0.4, 0.1, 0.15]);
    let count = |z, least| kept(&run(&row, no_tokens(), &TailFree::new(z, least).unwrap()));
    assert_eq!(count(0.3, 1), [2]); // 1/3 is passed at once, but one has to stay; so the second bend decides
    assert_eq!(count(0.9, 1), [2]);
    assert_eq!(count(0.9, 2), [1, 2]);
    assert_eq!(count(0.9, 3), [0, 1, 2, 3, 4]); // there is no fourth bend
    assert_eq!(count(1.0, 1), [0, 1, 2, 3, 4]);
    // A straight line has no bends: each place counts the same, here a third. With 0.5, two places and so one token.
    let flat = [1.0; 5];
    let count = |z| kept(&run(&flat, no_tokens(), &TailFree::new(z, 1).unwrap()));
    assert_eq!(count(0.5), [0]);
    assert_eq!(count(2.0 / 3.0), [0, 1]); // two places are not more than two thirds
    assert_eq!(count(0.7), [0, 1]);
    // Two tokens are no curve, whatever is masked.
    let two = [MASKED, 3.0, MASKED, 1.0];
    assert_eq!(run(&two, no_tokens(), &TailFree::new(0.0, 1).unwrap()), two);
}

#[test]
fn top_a_asks_less_of_tokens_where_the_likeliest_is_unlikely() {
    let top_a = TopA::new(0.5, 1).unwrap();
    // 0.5 · 0.8^2 = 0.32; 0.5 · 0.4^2 = 0.08.
    assert_eq!(
        kept(&run(&logs(&[0.8, 0.15, 0.05]), no_tokens(), &top_a)),
        [0]
    );
    assert_eq!(
        kept(&run(
            &logs(&[0.4, 0.35, 0.15, 0.07, 0.03]),
            no_tokens(),
            &top_a
        )),
        [0, 1, 2]
    );
    assert_eq!(
        kept(&run(
            &logs(&[0.8, 0.15, 0.05]),
            no_tokens(),
            &TopA::new(1.0, 2).unwrap()
        )),
        [0, 1]
    );
    // Equals at the edge all stay.
    assert_eq!(
        kept(&run(
            &logs(&[0.8, 0.1, 0.1]),
            no_tokens(),
            &TopA::new(1.0, 2).unwrap()
        )),
        [0, 1, 2]
    );
}

#[test]
fn xtc_leaves_the_least_likely_of_the_likely() {
    let xtc = |threshold, least| Xtc::new(1.0, threshold, least).unwrap();
    let row = logs(&[0.4, 0.1, 0.3, 0.2]);
    assert_eq!(kept(&run(&row, no_tokens(), &xtc(0.15, 1))), [1, 3]);
    assert_eq!(kept(&run(&row, no_tokens(), &xtc(0.25, 1))), [1, 2, 3]);
    assert_eq!(kept(&run(&row, no_tokens(), &xtc(0.35, 1))), [0, 1, 2, 3]); // one is no choice
    assert_eq!(kept(&run(&row, no_tokens(), &xtc(0.15, 3))), [0, 1, 2, 3]); // two would stay
    // Four equals of exactly 1/4 reach 1/4; the highest id stays.
    assert_eq!(kept(&run(&[1.0; 4], no_tokens(), &xtc(0.25, 1))), [3]);
    // Two of exactly 1/2 reach the largest threshold that two can.
    assert_eq!(kept(&run(&[1.0; 2], no_tokens(), &xtc(0.5, 1))), [1]);
    assert_eq!(kept(&run(&[1.0; 2], no_tokens(), &xtc(0.51, 1))), [0, 1]);
}

#[test]
fn top_n_sigma_does_not_count_what_is_masked() {
    // 4, 2, 0 and masked ones: mean 2, variance 8/3, deviation 1.633.
    let row = [4.0, MASKED, 2.0, 0.0, MASKED];
    assert_eq!(
        kept(&run(&row, no_tokens(), &TopNSigma::new(1.0).unwrap())),
        [0]
    );
    assert_eq!(
        kept(&run(&row, no_tokens(), &TopNSigma::new(1.3).unwrap())),
        [0, 2]
    );
    assert_eq!(
        kept(&run(&row, no_tokens(), &TopNSigma::new(2.5).unwrap())),
        [0, 2, 3]
    );
    assert_eq!(
        kept(&run(&[7.0; 3], no_tokens(), &TopNSigma::new(1e-9).unwrap())),
        [0, 1, 2]
    ); // no deviation
}

/// Probabilities 1/2, 1/4, 1/4: 1.5 bits of log2(3) = 1.585, a share of 0.9464.
#[test]
fn a_dynamic_temperature_by_hand() {
    let row = logs(&[0.5, 0.25, 0.25]);
    let t = 0.5 + (1.5 / 3_f64.log2()).powi(2); // from 0.5 to 1.5
    let got = run(
        &row,
        no_tokens(),
        &DynamicTemperature::new(1.0, 0.5, 2.0).unwrap(),
    );
    assert!(got.iter().zip(&row).all(|(y, x)| (y - x / t).abs() < 1e-12));
    // No entropy at all, and the lower end is 0: the likeliest, unchanged.
    let sure = [900.0, 0.0, MASKED];
    assert_eq!(
        run(
            &sure,
            no_tokens(),
            &DynamicTemperature::new(1.0, 2.0, 1.0).unwrap()
        ),
        [900.0, MASKED, MASKED]
    );
    assert_eq!(
        run(
            &sure,
            no_tokens(),
            &DynamicTemperature::new(1.0, 0.5, 1.0).unwrap()
        ),
        [1800.0, 0.0, MASKED]
    );
    // A little entropy, e^-40 (1 + 40) of the two tokens' ln 2: the root of it is no rounding error.
    let nearly = [40.0, 0.0];
    let t = 2.0 * ((-40_f64).exp() * 41.0 / 2_f64.ln()).sqrt();
    let got = run(
        &nearly,
        no_tokens(),
        &DynamicTemperature::new(1.0, 1.0, 0.5).unwrap(),
    );
    assert!((got[0] - 40.0 / t).abs() < 1e-12 * got[0]);
    // One token has no temperature.
    let one = [MASKED, 3.0];
    assert_eq!(
        run(
            &one,
            no_tokens(),
            &DynamicTemperature::new(1.0, 0.5, 1.0).unwrap()
        ),
        one
    );
}

/// Zipf's law with exponent 2 over 5 tokens: logits -2 ln 1, .. -2 ln 5, so s = 2 and e = 1.
///
/// ```text
/// k = sqrt(2^mu / (1 - 1/5));   mu = 3: sqrt(10) = 3.16;   mu = 1.6: sqrt(3.789) = 1.95;   mu = 5: sqrt(40) = 6.3
/// ```
#[test]
fn mirostat_1_knows_zipf() {
    let logits = ndarray::Array1::from_shape_fn(5, |i| -2.0 * ((i + 1) as f64).ln());
    for n_estimate in [2, 3, 100] {
        let config = Mirostat::new(MirostatVersion::V1 { n_estimate }, 2.0, 0.5).unwrap();
        // The largest u takes the last that stays: weights 1, 1/4, 1/9.
        for (mu, token, share) in [
            (3.0, 2, (1.0 / 9.0) / (1.0 + 0.25 + 1.0 / 9.0)),
            (1.6, 0, 1.0),
        ] {
            let (draw, next) = mirostat::draw(&logits, &config, mu, 0.999).unwrap();
            assert_eq!(draw.token, token);
            let surprise = -f64::log2(share);
            assert!((next - (mu - 0.5 * (surprise - 2.0))).abs() < 1e-9);
        }
        assert_eq!(
            mirostat::draw(&logits, &config, 5.0, 0.9999)
                .unwrap()
                .0
                .token,
            4
        );
    }
    // Exponent 1 is the limit 2^mu / ln 5: mu = 2 gives 2.49.
    let logits = ndarray::Array1::from_shape_fn(5, |i| -((i + 1) as f64).ln());
    let config = Mirostat::new(MirostatVersion::V1 { n_estimate: 2 }, 2.0, 0.5).unwrap();
    assert_eq!(
        mirostat::draw(&logits, &config, 2.0, 0.999)
            .unwrap()
            .0
            .token,
        1
    );
}

#[test]
fn adaptive_p_by_hand() {
    // Probabilities 0.7, 0.2, 0.1; the mean is 0.5 with weight 2, so 2 · 0.4 - 0.5 = 0.3 is preferred.
    let logits = array![0.7_f64.ln(), 0.2_f64.ln(), 0.1_f64.ln()];
    let config = AdaptiveP::new(0.4, 0.5).unwrap();
    let state = adaptive_p::AdaptiveState {
        weighted_sum: 1.0,
        total_weight: 2.0,
    };
    // Distances 4/3, 1/3, 2/3: 5 - 10 (16/9) / (7/3) = -2.619, 5 - 10 (1/9) / (4/3) = 4.167, 5 - 10 (4/9) / (5/3) = 2.333.
    let weights = [
        (-2.619_047_619_f64).exp(),
        4.166_666_667_f64.exp(),
        2.333_333_333_f64.exp(),
    ];
    let total: f64 = weights.iter().sum();
    for (u, token, p) in [(0.0005, 0, 0.7), (0.5, 1, 0.2), (0.95, 2, 0.1)] {
        let (draw, next) = adaptive_p::draw(&logits, &config, &state, u).unwrap();
        assert_eq!(draw.token, token);
        assert!((draw.log_probability - (weights[token as usize] / total).ln()).abs() < 1e-6);
        assert!((next.weighted_sum - (p + 0.5)).abs() < 1e-12);
        assert_eq!(next.total_weight, 2.0);
    }
    assert_eq!(
        config.initial_state(),
        adaptive_p::AdaptiveState {
            weighted_sum: 0.8,
            total_weight: 2.0
        }
    );
}

#[test]
fn numbers_of_tokens_are_those_of_a_generator_for_the_step() {
    let random = RowRandom::new(42, 5, 17);
    let [low, high, ..] = Philox4x32::new(42).block_at(5, (1 << 63) + 17);
    let philox = Philox4x32::new(u64::from(high) << 32 | u64::from(low));
    for token in [0, 1, 2, 3, 150_001, u32::MAX] {
        assert_eq!(
            gumbel_max::uniform(random, token),
            philox.uniform_f64(0, u64::from(token))
        );
    }
}
