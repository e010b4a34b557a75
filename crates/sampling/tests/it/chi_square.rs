//! Do draws with Philox numbers follow the distribution that was asked for?

use llm_numerics::philox::Philox4x32;
use llm_sampling::reference::categorical::log_softmax;
use llm_sampling::{Dialect, SamplingConfig, sampler};
use ndarray::Array2;

const DRAWS: u64 = 100_000;

/// Exceeded by one in a thousand right samples: the upper 0.001 points of the chi-square distribution
/// (NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.4).
const CRITICAL_4: f64 = 18.467;
const CRITICAL_9: f64 = 27.877;

/// Pearson's statistic of 100,000 draws with `config` against the softmax of `expected`, `-inf` for tokens that must not come.
fn statistic(logits: &[f32], config: &SamplingConfig, seed: u64, expected: &[f64]) -> f64 {
    let vocab = logits.len();
    let random = Philox4x32::new(seed);
    let rows = Array2::from_shape_fn([DRAWS as usize, vocab], |(_, i)| logits[i]);
    let uniforms: Vec<f64> = (0..DRAWS).map(|i| random.uniform_f64(0, i)).collect();
    let mut counts = vec![0_u64; vocab];
    for draw in sampler::sample(&rows, config, &uniforms).unwrap() {
        counts[draw.token as usize] += 1;
    }
    let mut total = 0.0;
    for (count, log_p) in counts.into_iter().zip(log_softmax(expected)) {
        if log_p == f64::NEG_INFINITY {
            assert_eq!(count, 0);
            continue;
        }
        let expected = log_p.exp() * DRAWS as f64;
        total += (count as f64 - expected).powi(2) / expected;
    }
    total
}

const LOGITS: [f32; 10] = [0.3, -1.2, 2.0, 0.0, 1.5, -0.4, 0.9, 2.2, -2.0, 1.1];

#[test]
fn draws_follow_the_softmax() {
    let expected = LOGITS.map(f64::from);
    let config = SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, None).unwrap();
    for seed in 0..4 {
        let found = statistic(&LOGITS, &config, seed, &expected);
        assert!(found < CRITICAL_9, "seed {seed}: {found}");
    }
}

#[test]
fn draws_follow_the_tempered_and_filtered_distribution() {
    // The five largest, 2.2, 2.0, 1.5, 1.1 and 0.9, divided by 0.8.
    let expected = LOGITS.map(|x| {
        if x >= 0.9 {
            f64::from(x) / 0.8
        } else {
            f64::NEG_INFINITY
        }
    });
    for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp] {
        let config = SamplingConfig::sample(dialect, 0.8, Some(5), None).unwrap();
        let found = statistic(&LOGITS, &config, 7, &expected);
        assert!(found < CRITICAL_4, "{dialect:?}: {found}");
    }
}

#[test]
fn the_statistic_tells_a_wrong_temperature() {
    let expected = LOGITS.map(f64::from);
    let config = SamplingConfig::sample(Dialect::HuggingFace, 1.05, None, None).unwrap();
    let found = statistic(&LOGITS, &config, 0, &expected);
    assert!(found > CRITICAL_9, "{found}");
}
