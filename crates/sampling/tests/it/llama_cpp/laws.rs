//! Laws of the processors: they are their references, and masked tokens do not matter.

use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::tail_free::TailFree;
use llm_sampling::top_a::TopA;
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::xtc::Xtc;
use llm_sampling::{Context, Processor, RowRandom, reference};
use proptest::prelude::*;

use super::{
    MASKED, bits, close, kept, no_tokens, probabilities, row, run, run_compact, tokens, window,
};

/// Penalties of presence and frequency.
fn penalty() -> impl Strategy<Value = f64> {
    prop_oneof![4 => -2.0..2.0_f64, 1 => Just(0.0)]
}

fn biases() -> impl Strategy<Value = Vec<(u32, f64)>> {
    let bias = prop_oneof![6 => -100.0..100.0_f64, 1 => Just(MASKED)];
    prop::collection::vec((0..25_u32, bias), 0..8)
}

fn breakers() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..5_u32, 1..4), 0..4)
}

/// Share of the likelier tokens that a value is away from each of many, so that rounding does not decide.
fn clear(values: impl IntoIterator<Item = f64>, bound: f64) -> bool {
    values
        .into_iter()
        .all(|v| (v - bound).abs() > 1e-9 * bound.abs().max(1e-12))
}

/// True if the cumulative bends of tail-free sampling stay away from `z`.
fn clear_bends(row: &[f64], z: f64) -> bool {
    let mut p: Vec<f64> = probabilities(row)
        .into_iter()
        .zip(row)
        .filter(|(_, x)| **x > MASKED)
        .map(|(p, _)| p)
        .collect();
    p.sort_by(|a, b| b.total_cmp(a));
    let bends: Vec<f64> = p
        .windows(3)
        .map(|p| ((p[0] - p[1]) - (p[1] - p[2])).abs())
        .collect();
    let total: f64 = bends.iter().sum();
    let mut sum = 0.0;
    let steps: Vec<f64> = bends
        .iter()
        .map(|b| {
            sum += if total > 1e-6 {
                b / total
            } else {
                1.0 / bends.len() as f64
            };
            sum
        })
        .collect();
    (total - 1e-6).abs() > 1e-9 && clear(steps, z)
}

proptest! {
    #[test]
    fn presence_and_frequency_match_the_reference(row in row(30), prompt in tokens(20), generated in tokens(20), window in window(), presence in penalty(), frequency in penalty()) {
        let context = Context::new(&prompt, &generated);
        let processor = PresenceFrequency::new(presence, frequency, window).unwrap();
        let seen: Vec<u32> = window.tokens(&context).collect();
        let expected = reference::presence_frequency::apply(&row, &seen, presence, frequency);
        prop_assert!(close(&run(&row, context, &processor), &expected, 1e-12));
        prop_assert_eq!(bits(&run(&row, context, &processor)), bits(&run_compact(&row, &context, &processor)));
    }

    /// A shift of all logits shifts the result: penalties that subtract are of no sign.
    #[test]
    fn presence_and_frequency_do_not_see_a_shift(row in row(30), generated in tokens(20), presence in penalty(), frequency in penalty(), shift in -10.0..10.0_f64) {
        let processor = PresenceFrequency::new(presence, frequency, llm_sampling::repetition_penalty::PenaltyWindow::All).unwrap();
        let context = Context::new(&[], &generated);
        let shifted: Vec<f64> = row.iter().map(|x| x + shift).collect();
        let expected: Vec<f64> = run(&row, context, &processor).iter().map(|x| x + shift).collect();
        prop_assert!(close(&run(&shifted, context, &processor), &expected, 1e-12));
    }

    #[test]
    fn logit_bias_matches_the_reference(row in row(20), biases in biases()) {
        let processor = LogitBias::new(&biases).unwrap();
        let expected = reference::logit_bias::apply(&row, &biases);
        prop_assert!(close(&run(&row, no_tokens(), &processor), &expected, 1e-12));
        prop_assert_eq!(bits(&run(&row, no_tokens(), &processor)), bits(&run_compact(&row, &no_tokens(), &processor)));
    }

    #[test]
    fn dynamic_temperature_matches_the_reference(row in row(30), middle in 0.05..3.0_f64, range in 0.0..3.0_f64, exponent in 0.0..3.0_f64) {
        let processor = DynamicTemperature::new(middle, range, exponent).unwrap();
        // Where weights are subnormal, they have few digits, and the temperature is a power of them.
        let max = row.iter().copied().fold(MASKED, f64::max);
        prop_assume!(row.iter().all(|x| !(700.0..760.0).contains(&(max - x))));
        let expected = reference::dynamic_temperature::apply(&row, middle, range, exponent);
        let got = run(&row, no_tokens(), &processor);
        prop_assert!(close(&got, &expected, 1e-9), "{got:?} {expected:?}");
        prop_assert!(close(&run_compact(&row, &no_tokens(), &processor), &got, 1e-9));
    }

    /// The temperature lies between its ends: every distance to the likeliest token shrinks by as much.
    #[test]
    fn dynamic_temperature_stays_in_its_range(row in row(30), middle in 0.5..3.0_f64, share in 0.0..0.9_f64, exponent in 0.0..3.0_f64) {
        let range = share * middle;
        let got = run(&row, no_tokens(), &DynamicTemperature::new(middle, range, exponent).unwrap());
        prop_assert_eq!(kept(&got), kept(&row));
        if kept(&row).len() > 1 {
            for (x, y) in row.iter().zip(&got).filter(|(x, _)| **x > MASKED && **x != 0.0) {
                let t = x / y;
                prop_assert!(t >= (middle - range) * (1.0 - 1e-9) && t <= (middle + range) * (1.0 + 1e-9), "{t}");
            }
        }
    }

    #[test]
    fn top_n_sigma_matches_the_reference(row in row(40), n in 0.05..4.0_f64) {
        let alive: Vec<f64> = row.iter().copied().filter(|x| *x > MASKED).collect();
        let max = alive.iter().copied().fold(MASKED, f64::max);
        let mean = alive.iter().sum::<f64>() / alive.len() as f64;
        let sigma = (alive.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / alive.len() as f64).sqrt();
        prop_assume!(alive.iter().all(|x| *x == max || (max - n * sigma - x).abs() > 1e-9));
        let processor = TopNSigma::new(n).unwrap();
        let got = run(&row, no_tokens(), &processor);
        prop_assert_eq!(&got, &reference::top_n_sigma::apply(&row, n));
        prop_assert_eq!(&got, &run_compact(&row, &no_tokens(), &processor));
        // The temperature does not matter.
        let hot: Vec<f64> = row.iter().map(|x| x / 8.0).collect();
        prop_assert_eq!(kept(&run(&hot, no_tokens(), &processor)), kept(&got));
    }

    #[test]
    fn top_a_matches_the_reference(row in row(40), a in 0.0..1.0_f64, least in 1..5_usize) {
        let p = probabilities(&row);
        let largest = p.iter().copied().fold(0.0, f64::max);
        prop_assume!(clear(p, a * largest * largest));
        let processor = TopA::new(a, least).unwrap();
        let got = run(&row, no_tokens(), &processor);
        prop_assert_eq!(&got, &reference::top_a::apply(&row, a, least));
        prop_assert_eq!(&got, &run_compact(&row, &no_tokens(), &processor));
    }

    #[test]
    fn tail_free_matches_the_reference(row in row(40), z in 0.0..1.0_f64, least in 1..5_usize) {
        prop_assume!(clear_bends(&row, z));
        let processor = TailFree::new(z, least).unwrap();
        let got = run(&row, no_tokens(), &processor);
        prop_assert_eq!(&got, &reference::tail_free::apply(&row, z, least));
        prop_assert_eq!(&got, &run_compact(&row, &no_tokens(), &processor));
    }

    #[test]
    fn xtc_matches_the_reference(row in row(20), probability in 0.0..1.0_f64, threshold in prop_oneof![Just(0.0), 0.001..0.6_f64], least in 1..5_usize, seed in any::<u64>(), step in 0..1000_u64) {
        prop_assume!(threshold == 0.0 || clear(probabilities(&row), threshold));
        let random = RowRandom::new(seed, 3, step);
        let context = no_tokens().with_random(random);
        let processor = Xtc::new(probability, threshold, least).unwrap();
        let expected = if random.uniform(1) < probability {
            reference::xtc::apply(&row, threshold, least)
        } else {
            row.clone()
        };
        prop_assert_eq!(run(&row, context, &processor), expected.clone());
        prop_assert_eq!(run_compact(&row, &context, &processor), expected);
    }

    /// What XTC drops is likelier than anything it keeps but one token, and that one reaches the threshold.
    #[test]
    fn xtc_drops_the_top_but_one(row in row(20), threshold in 0.01..0.5_f64) {
        prop_assume!(clear(probabilities(&row), threshold));
        let got = run(&row, no_tokens(), &Xtc::new(1.0, threshold, 1).unwrap());
        let p = probabilities(&row);
        let likely = p.iter().filter(|p| **p >= threshold).count();
        let dropped: Vec<usize> = (0..row.len()).filter(|&i| got[i] != row[i]).collect();
        prop_assert_eq!(dropped.len(), likely.saturating_sub(1));
        let best = (0..row.len()).filter(|&i| got[i] > MASKED).map(|i| p[i]).fold(0.0, f64::max);
        prop_assert!(dropped.iter().all(|&i| p[i] >= best));
        prop_assert!(likely == 0 || best >= threshold);
    }

    #[test]
    fn dry_matches_the_reference(
        row in row(12), prompt in tokens(40), generated in tokens(40), window in window(),
        multiplier in 0.01..3.0_f64, base in prop_oneof![1.0..3.0_f64, Just(1.0), Just(1e30), Just(1e60)], allowed in 0..5_usize, breakers in breakers(),
    ) {
        let context = Context::new(&prompt, &generated);
        let processor = Dry::new(multiplier, base, allowed, window, &breakers).unwrap();
        let seen: Vec<u32> = window.tokens(&context).collect();
        let expected = reference::dry::apply(&row, &seen, multiplier, base, allowed, &breakers);
        let got = run(&row, context, &processor);
        prop_assert!(close(&got, &expected, 1e-9), "{got:?} {expected:?}");
        prop_assert_eq!(bits(&got), bits(&run_compact(&row, &context, &processor)));
    }

    /// A text that says the same over and over again has the longest repeats that there are: the exponent is limited.
    #[test]
    fn dry_limits_its_exponent(n in 100..400_usize, multiplier in 0.1..2.0_f64, base in 1.1..3.0_f64) {
        let text = vec![0_u32; n];
        let got = run(&[0.0, 0.0], Context::new(&text, &[]), &Dry::new(multiplier, base, 2, llm_sampling::repetition_penalty::PenaltyWindow::All, &[]).unwrap());
        let most = (88.722_839_1 / base.ln()).floor().min((n - 3) as f64);
        let expected = -multiplier * base.powf(most);
        prop_assert!((got[0] - expected).abs() <= 1e-9 * expected.abs(), "{} {expected}", got[0]);
        prop_assert_eq!(got[1], 0.0);
    }

    /// After a breaker nothing is a repeat.
    #[test]
    fn dry_begins_anew_after_a_breaker(row in row(8), text in tokens(40), breaker in prop::collection::vec(0..5_u32, 1..4), allowed in 1..4_usize) {
        let context = Context::new(&text, &breaker);
        let processor = Dry::new(1.0, 1.75, allowed, llm_sampling::repetition_penalty::PenaltyWindow::All, std::slice::from_ref(&breaker)).unwrap();
        // The breaker may begin again within itself, and end later: then the later one counts, with nothing after it, or it is incomplete.
        prop_assert_eq!(bits(&run(&row, context, &processor)), bits(&row));
    }

    /// Filters mask or keep, and the likeliest stays.
    #[test]
    fn filters_change_no_logit_that_they_keep(row in row(30), a in 0.0..=1.0_f64, n in 0.01..5.0_f64) {
        let max = row.iter().copied().fold(MASKED, f64::max);
        for got in [
            run(&row, no_tokens(), &TopA::new(a, 1).unwrap()),
            run(&row, no_tokens(), &TailFree::new(a, 1).unwrap()),
            run(&row, no_tokens(), &TopNSigma::new(n).unwrap()),
        ] {
            prop_assert!(got.iter().zip(&row).all(|(g, x)| g.to_bits() == x.to_bits() || *g == MASKED));
            prop_assert!(got.contains(&max));
        }
    }

    /// In `f32` the same tokens stay as in the reference, unless rounding decides.
    #[test]
    fn f32_filters_match_the_reference(narrow in prop::collection::vec(-6.0..6.0_f32, 3..60), a in 0.01..1.0_f64, z in 0.05..0.95_f64, threshold in 0.01..0.5_f64) {
        let row: Vec<f64> = narrow.iter().map(|x| f64::from(*x)).collect();
        let run = |processor: &dyn Fn(&mut llm_sampling::Candidates<f32>)| {
            let mut candidates = llm_sampling::Candidates::new();
            candidates.fill(&narrow).unwrap();
            processor(&mut candidates);
            candidates.make_dense();
            candidates.logits().iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
        };
        let p = probabilities(&row);
        let largest = p.iter().copied().fold(0.0, f64::max);
        let apart = |bound: f64| p.iter().all(|p| (p - bound).abs() > 1e-5 * bound);
        if apart(a * largest * largest) {
            let got = run(&|c| TopA::new(a, 1).unwrap().apply(c, &no_tokens()).unwrap());
            prop_assert_eq!(got, reference::top_a::apply(&row, a, 1));
        }
        if apart(threshold) {
            let got = run(&|c| Xtc::new(1.0, threshold, 1).unwrap().apply(c, &no_tokens()).unwrap());
            prop_assert_eq!(got, reference::xtc::apply(&row, threshold, 1));
        }
        // Bends are differences of differences: their sum has an error of some 1e-6 of its own.
        if clear_bends(&row, z - 1e-4) && clear_bends(&row, z + 1e-4) && reference::tail_free::apply(&row, z - 1e-4, 1) == reference::tail_free::apply(&row, z + 1e-4, 1) {
            let got = run(&|c| TailFree::new(z, 1).unwrap().apply(c, &no_tokens()).unwrap());
            prop_assert_eq!(got, reference::tail_free::apply(&row, z, 1));
        }
    }
}
