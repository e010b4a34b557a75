//! Laws of what chooses a token: mirostat, adaptive-p, Gumbel-max, the exponential race.

use llm_sampling::adaptive_p::{self, AdaptiveP};
use llm_sampling::mirostat::{self, Mirostat, MirostatVersion};
use llm_sampling::{Candidates, RowRandom, categorical, exponential_race, gumbel_max, reference};
use ndarray::{Array1, ArrayView1, s};
use proptest::prelude::*;

use super::{MASKED, close, kept, probabilities, row, uniform};

/// What of a row stays, with all tokens in place or the masked ones left out.
fn masked(row: &[f64], config: &Mirostat, mu: f64, compact: bool) -> Vec<f64> {
    let mut candidates = Candidates::new();
    candidates.fill(row).unwrap();
    if compact {
        candidates.compact();
    }
    config.mask(&mut candidates, mu).unwrap();
    candidates.make_dense();
    candidates.logits().to_vec()
}

proptest! {
    #[test]
    fn mirostat_1_matches_the_reference(row in row(40), n_estimate in 2..50_usize, mu in -2.0..12.0_f64) {
        // Probabilities that f64 has: the reference takes logarithms of their quotients.
        let row: Vec<f64> = row.iter().map(|x| if *x == MASKED { MASKED } else { x.clamp(-300.0, 300.0) }).collect();
        let k = reference::mirostat::k(&row, n_estimate, mu);
        prop_assume!(kept(&row).len() == 1 || (k.is_finite() && (k - k.round()).abs() > 1e-6 * k.max(1.0)) || k > 1e3);
        let config = Mirostat::new(MirostatVersion::V1 { n_estimate }, 5.0, 0.1).unwrap();
        let got = masked(&row, &config, mu, false);
        prop_assert_eq!(&got, &reference::mirostat::mask_v1(&row, n_estimate, mu));
        prop_assert_eq!(&got, &masked(&row, &config, mu, true));
    }

    #[test]
    fn mirostat_2_matches_the_reference(row in row(40), mu in -1.0..12.0_f64) {
        let p = probabilities(&row);
        prop_assume!(p.iter().all(|p| *p == 0.0 || (-p.log2() - mu).abs() > 1e-9));
        let config = Mirostat::new(MirostatVersion::V2, 5.0, 0.1).unwrap();
        let got = masked(&row, &config, mu, false);
        prop_assert_eq!(&got, &reference::mirostat::mask_v2(&row, mu));
        prop_assert_eq!(&got, &masked(&row, &config, mu, true));
    }

    /// One step: mask, draw, and the state moves by what the draw said.
    #[test]
    fn mirostat_is_a_draw_from_what_stays(row in row(40), mu in 0.0..12.0_f64, tau in 0.0..8.0_f64, eta in 0.0..1.0_f64, u in uniform()) {
        for version in [MirostatVersion::V1 { n_estimate: 100 }, MirostatVersion::V2] {
            let config = Mirostat::new(version, tau, eta).unwrap();
            let (draw, next) = mirostat::draw(&ArrayView1::from(&row), &config, mu, u).unwrap();
            let expected = categorical::draw(&Array1::from(masked(&row, &config, mu, false)), u).unwrap();
            prop_assert_eq!(draw.token, expected.token);
            prop_assert!((draw.log_probability - expected.log_probability).abs() <= 1e-12 * expected.log_probability.abs().max(1.0));
            let want = reference::mirostat::next_mu(mu, tau, eta, expected.log_probability.exp());
            prop_assert!((next - want).abs() <= 1e-9 * want.abs().max(1.0));
        }
    }

    /// Where surprise is above the target, the bound falls; below, it rises.
    #[test]
    fn mirostat_leads_the_surprise_to_its_target(seed in any::<u64>(), tau in 1.0..3.0_f64) {
        // 64 tokens of slowly falling probability: 6 bits at most.
        let logits = Array1::from_shape_fn(64, |i| -(i as f64) / 10.0);
        let config = Mirostat::new(MirostatVersion::V2, tau, 0.05).unwrap();
        let (mut mu, mut bits, n) = (config.initial_mu(), 0.0, 2000);
        for step in 0..n {
            let u = RowRandom::new(seed, 0, step).uniform(0);
            let (draw, next) = mirostat::draw(&logits, &config, mu, u).unwrap();
            bits -= draw.log_probability / core::f64::consts::LN_2;
            mu = next;
        }
        let mean = bits / n as f64;
        // The sum telescopes: mu_n = mu_0 - eta sum (bits - tau), and mu stays within some bits.
        prop_assert!((mean - tau).abs() < 0.1, "{mean}");
        prop_assert!((config.initial_mu() - mu - 0.05 * (bits - n as f64 * tau)).abs() < 1e-6);
    }

    #[test]
    fn adaptive_p_matches_the_reference(row in row(20), target in 0.0..=1.0_f64, decay in 0.0..0.99_f64, chosen in prop::collection::vec(0.0..=1.0_f64, 0..20)) {
        let config = AdaptiveP::new(target, decay).unwrap();
        let state = chosen.iter().fold(config.initial_state(), |state, p| config.next_state(&state, *p));
        let expected = reference::adaptive_p::transform(&row, target, decay, &chosen);
        for compact in [false, true] {
            let mut candidates = Candidates::new();
            candidates.fill(&row).unwrap();
            if compact {
                candidates.compact();
            }
            config.transform(&mut candidates, &state).unwrap();
            candidates.make_dense();
            prop_assert!(close(candidates.logits(), &expected, 1e-8), "{:?} {expected:?}", candidates.logits());
        }
    }

    /// One step: the draw is from the new logits, the state learns the old probability.
    #[test]
    fn adaptive_p_is_a_draw_from_its_logits(row in row(20), target in 0.0..=1.0_f64, decay in 0.0..0.99_f64, u in uniform()) {
        let config = AdaptiveP::new(target, decay).unwrap();
        let state = config.initial_state();
        let (draw, next) = adaptive_p::draw(&ArrayView1::from(&row), &config, &state, u).unwrap();
        let expected = reference::adaptive_p::transform(&row, target, decay, &[]);
        let cumulative = reference::categorical::cumulative(&expected);
        prop_assume!(cumulative.iter().all(|c| (c - u).abs() > 1e-9));
        prop_assert_eq!(draw.token as usize, cumulative.iter().position(|c| *c > u).unwrap());
        let p = probabilities(&row)[draw.token as usize];
        let want = config.next_state(&state, p);
        prop_assert!((next.weighted_sum - want.weighted_sum).abs() < 1e-9);
        prop_assert_eq!(next.total_weight, want.total_weight);
    }

    #[test]
    // ANCHOR: law
    fn gumbel_max_and_the_race_match_their_references_and_each_other(row in row(40), seed in any::<u64>(), stream in any::<u64>(), step in 0..1_u64 << 48) {
        let random = RowRandom::new(seed, stream, step);
        let uniforms: Vec<f64> = (0..row.len() as u32).map(|i| gumbel_max::uniform(random, i)).collect();
        prop_assert!(uniforms.iter().all(|u| *u > 0.0 && *u < 1.0));
        let view = ArrayView1::from(&row);
        let gumbel = gumbel_max::draw(&view, random).unwrap();
        let race = exponential_race::draw(&view, random).unwrap();
        prop_assert_eq!(gumbel.token as usize, reference::gumbel_max::argmax(&row, &uniforms));
        prop_assert_eq!(race.token as usize, reference::exponential_race::first(&row, &uniforms));
        prop_assert_eq!(gumbel, race);
        let log_p = reference::categorical::log_softmax(&row)[gumbel.token as usize];
        prop_assert!((gumbel.log_probability - log_p).abs() <= 1e-12 * log_p.abs().max(1.0));
    }
    // ANCHOR_END: law

    /// Sums are of `f64`, so `f32` logits give the token of the reference, whatever is passed over on the way.
    #[test]
    fn gumbel_max_of_f32_matches_the_reference(row in prop::collection::vec(-40.0..40.0_f32, 1..200), seed in any::<u64>()) {
        let random = RowRandom::new(seed, 0, 0);
        let wide: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let uniforms: Vec<f64> = (0..row.len() as u32).map(|i| gumbel_max::uniform(random, i)).collect();
        let draw = gumbel_max::draw(&ArrayView1::from(&row), random).unwrap();
        prop_assert_eq!(draw.token as usize, reference::gumbel_max::argmax(&wide, &uniforms));
    }

    /// A token has its number whoever else is there: of two halves the better winner wins the whole.
    #[test]
    fn rows_of_gumbel_max_can_be_split(row in row(40), seed in any::<u64>(), cut in any::<prop::sample::Index>()) {
        let random = RowRandom::new(seed, 0, 0);
        let cut = cut.index(row.len() + 1);
        let half = |keep: core::ops::Range<usize>| {
            let mut half = vec![MASKED; row.len()];
            half[keep.clone()].copy_from_slice(&row[keep]);
            half
        };
        let halves = [half(0..cut), half(cut..row.len())];
        let score = |token: u32| row[token as usize] - (-gumbel_max::uniform(random, token).ln()).ln();
        let winners = halves.iter().filter_map(|h| {
            let mut candidates = Candidates::new();
            candidates.fill(h).unwrap();
            candidates.compact();
            gumbel_max::choose(&mut candidates, random).ok().map(|draw| draw.token)
        });
        let winner = winners.max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
        prop_assert_eq!(gumbel_max::draw(&ArrayView1::from(&row), random).unwrap().token, winner);
    }

    #[test]
    fn strides_do_not_matter(row in row(20), seed in any::<u64>(), u in uniform()) {
        let mut wide = Array1::from_elem(2 * row.len(), 99.0);
        wide.slice_mut(s![..;2]).assign(&ArrayView1::from(&row));
        let (apart, dense) = (wide.slice(s![..;2]), ArrayView1::from(&row));
        let random = RowRandom::new(seed, 0, 0);
        prop_assert_eq!(gumbel_max::draw(&apart, random), gumbel_max::draw(&dense, random));
        prop_assert_eq!(exponential_race::draw(&apart, random), exponential_race::draw(&dense, random));
        let config = Mirostat::new(MirostatVersion::V2, 2.0, 0.1).unwrap();
        prop_assert_eq!(mirostat::draw(&apart, &config, 4.0, u), mirostat::draw(&dense, &config, 4.0, u));
        let config = AdaptiveP::new(0.3, 0.5).unwrap();
        let state = config.initial_state();
        prop_assert_eq!(adaptive_p::draw(&apart, &config, &state, u), adaptive_p::draw(&dense, &config, &state, u));
    }
}
