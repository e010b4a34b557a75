//! Do random samplers follow the distribution that they claim? 100,000 draws each, against exact enumeration.

use llm_sampling::adaptive_p::{self, AdaptiveP, AdaptiveState};
use llm_sampling::mirostat::{self, Mirostat, MirostatVersion};
use llm_sampling::xtc::Xtc;
use llm_sampling::{
    Candidates, Context, Processor, RowRandom, categorical, exponential_race, gumbel_max, reference,
};
use ndarray::Array1;

use super::probabilities;

const DRAWS: u64 = 100_000;

/// Exceeded by one in a thousand right samples: the upper 0.001 points of the chi-square distribution for 1 to 9 degrees of freedom
/// (NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.4).
const CRITICAL: [f64; 9] = [
    10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.125, 27.877,
];

const LOGITS: [f64; 10] = [0.3, -1.2, 2.0, 0.0, 1.5, -0.4, 0.9, 2.2, -2.0, 1.1];

/// Pearson's statistic of 100,000 tokens, and the bound for it; tokens without probability must not come.
fn statistic(expected: &[f64], mut draw: impl FnMut(u64) -> u32) -> (f64, f64) {
    let mut counts = vec![0_u64; expected.len()];
    for step in 0..DRAWS {
        counts[draw(step) as usize] += 1;
    }
    let (mut sum, mut cells) = (0.0, 0);
    for (count, p) in counts.into_iter().zip(expected) {
        if *p == 0.0 {
            assert_eq!(count, 0);
            continue;
        }
        let want = p * DRAWS as f64;
        sum += (count as f64 - want).powi(2) / want;
        cells += 1;
    }
    (sum, CRITICAL[cells - 2])
}

fn follows(name: &str, expected: &[f64], draw: impl FnMut(u64) -> u32) {
    let (found, critical) = statistic(expected, draw);
    assert!(found < critical, "{name}: {found}");
}

#[test]
fn gumbel_max_and_the_race_follow_the_softmax() {
    let expected = probabilities(&LOGITS);
    let (wide, narrow) = (
        Array1::from(LOGITS.to_vec()),
        Array1::from(LOGITS.map(|x| x as f32).to_vec()),
    );
    for seed in 0..3 {
        follows("gumbel", &expected, |step| {
            gumbel_max::draw(&wide, RowRandom::new(seed, 0, step))
                .unwrap()
                .token
        });
        follows("race", &expected, |step| {
            exponential_race::draw(&narrow, RowRandom::new(seed, 1, step))
                .unwrap()
                .token
        });
    }
    // A stream for each sequence is as good as a step for each token.
    follows("streams", &expected, |stream| {
        gumbel_max::draw(&wide, RowRandom::new(5, stream, 0))
            .unwrap()
            .token
    });
}

#[test]
fn the_statistic_tells_a_wrong_temperature_of_gumbel_max() {
    let warm = Array1::from(LOGITS.map(|x| x / 1.05).to_vec());
    let (found, critical) = statistic(&probabilities(&LOGITS), |step| {
        gumbel_max::draw(&warm, RowRandom::new(0, 0, step))
            .unwrap()
            .token
    });
    assert!(found > critical, "{found}");
}

/// Number 1 of a step decides about XTC, number 0 chooses the token: the mixture of both outcomes, so the two numbers are independent.
#[test]
fn xtc_mixes_its_two_outcomes() {
    for probability in [0.3, 0.8] {
        let with = probabilities(&reference::xtc::apply(&LOGITS, 0.1, 1));
        let without = probabilities(&LOGITS);
        let mixture: Vec<f64> = with
            .iter()
            .zip(&without)
            .map(|(a, b)| probability * a + (1.0 - probability) * b)
            .collect();
        let xtc = Xtc::new(probability, 0.1, 1).unwrap();
        let mut candidates = Candidates::new();
        let mut acted = 0_u64;
        let draw = |step| {
            let random = RowRandom::new(11, 0, step);
            candidates.fill(&LOGITS).unwrap();
            xtc.apply(&mut candidates, &Context::new(&[], &[]).with_random(random))
                .unwrap();
            acted += u64::from(!candidates.is_dense());
            categorical::choose(&mut candidates, random.uniform(0))
                .unwrap()
                .token
        };
        follows("xtc", &mixture, draw);
        let want = probability * DRAWS as f64;
        let chi = (acted as f64 - want).powi(2) / (want * (1.0 - probability));
        assert!(chi < CRITICAL[0], "{chi}");
    }
}

#[test]
fn mirostat_follows_what_stays_while_its_state_does() {
    let logits = Array1::from(LOGITS.to_vec());
    let u = |step| RowRandom::new(3, 0, step).uniform(0);
    // A learning rate of 0 keeps the state.
    let config = Mirostat::new(MirostatVersion::V2, 1.0, 0.0).unwrap();
    let expected = reference::mirostat::mask_v2(&LOGITS, 3.7);
    assert_eq!(super::kept(&expected), [2, 4, 6, 7, 9]);
    follows("mirostat 2", &probabilities(&expected), |step| {
        let (draw, mu) = mirostat::draw(&logits, &config, 3.7, u(step)).unwrap();
        assert_eq!(mu, 3.7);
        draw.token
    });
    let config = Mirostat::new(MirostatVersion::V1 { n_estimate: 5 }, 1.0, 0.0).unwrap();
    let expected = reference::mirostat::mask_v1(&LOGITS, 5, 3.3);
    let count = super::kept(&expected).len();
    assert!((2..9).contains(&count), "{count}");
    follows("mirostat 1", &probabilities(&expected), |step| {
        mirostat::draw(&logits, &config, 3.3, u(step))
            .unwrap()
            .0
            .token
    });
}

#[test]
fn adaptive_p_follows_its_logits() {
    let logits = Array1::from(LOGITS.to_vec());
    let config = AdaptiveP::new(0.2, 0.9).unwrap();
    let state = AdaptiveState {
        weighted_sum: 1.4,
        total_weight: 10.0,
    }; // so 0.26 is preferred
    let expected = reference::adaptive_p::transform(&LOGITS, 0.26, 0.0, &[]);
    follows("adaptive-p", &probabilities(&expected), |step| {
        adaptive_p::draw(
            &logits,
            &config,
            &state,
            RowRandom::new(9, 0, step).uniform(0),
        )
        .unwrap()
        .0
        .token
    });
}
