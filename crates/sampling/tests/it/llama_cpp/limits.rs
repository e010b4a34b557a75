//! Settings that change nothing change nothing, and others have simple limits.

use llm_sampling::adaptive_p::AdaptiveP;
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::mirostat::{Mirostat, MirostatVersion};
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::repetition_penalty::PenaltyWindow;
use llm_sampling::tail_free::TailFree;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_a::TopA;
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::xtc::Xtc;
use llm_sampling::{Candidates, Context, reference};
use proptest::prelude::*;

use super::{MASKED, bits, kept, no_tokens, row, run, tokens, window};

proptest! {
    #[test]
    fn settings_that_are_off_change_no_bit(row in row(30), prompt in tokens(30), generated in tokens(30), window in window(), threshold in 0.0..=1.0_f64) {
        let context = Context::new(&prompt, &generated);
        let before = bits(&row);
        prop_assert_eq!(bits(&run(&row, context, &PresenceFrequency::new(0.0, 0.0, window).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &PresenceFrequency::new(1.0, 1.0, PenaltyWindow::Last(0)).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &LogitBias::default())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &DynamicTemperature::new(1.0, 0.0, 1.0).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &TopNSigma::new(1e12).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &TopA::new(0.0, 1).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &TopA::new(1.0, 99).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &TailFree::new(1.0, 1).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &TailFree::new(0.0, 99).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &Xtc::new(0.0, threshold, 1).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &Xtc::new(1.0, 0.51, 1).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &Xtc::new(1.0, 0.0, 99).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &Dry::new(0.0, 1.75, 0, window, &[]).unwrap())), before.clone());
        prop_assert_eq!(bits(&run(&row, context, &Dry::new(1.0, 1.75, 61, window, &[]).unwrap())), before);
    }

    #[test]
    fn dry_says_nothing_about_a_text_without_repeats(row in row(30), n in 0..30_u32, allowed in 1..3_usize) {
        let text: Vec<u32> = (0..n).collect();
        let dry = Dry::new(1.0, 1.75, allowed, PenaltyWindow::All, &[]).unwrap();
        prop_assert_eq!(bits(&run(&row, Context::new(&text, &[]), &dry)), bits(&row));
    }

    #[test]
    fn a_dynamic_temperature_without_range_is_a_temperature(row in row(30), t in 0.01..10.0_f64, exponent in 0.0..3.0_f64) {
        let expected = run(&row, no_tokens(), &Temperature::new(t).unwrap());
        let got = run(&row, no_tokens(), &DynamicTemperature::new(t, 0.0, exponent).unwrap());
        prop_assert_eq!(bits(&got), bits(&expected));
    }

    /// Exponent 0 takes the upper end always; equals have all the entropy, and take it with any exponent.
    #[test]
    fn the_upper_end_of_a_dynamic_temperature(row in row(30), x in -5.0..5.0_f64, n in 2..20_usize, exponent in 0.0..3.0_f64) {
        prop_assume!(kept(&row).len() > 1);
        let got = run(&row, no_tokens(), &DynamicTemperature::new(1.5, 0.5, 0.0).unwrap());
        prop_assert_eq!(got, row.iter().map(|x| x / 2.0).collect::<Vec<_>>());
        let got = run(&vec![x; n], no_tokens(), &DynamicTemperature::new(1.5, 0.5, exponent).unwrap());
        prop_assert!(got.iter().all(|y| (y - x / 2.0).abs() <= 1e-12 * x.abs().max(1.0)));
    }

    /// Without bound on the surprise all stay; with none at all, the likeliest does.
    #[test]
    fn mirostat_has_its_ends(row in row(30), n_estimate in 2..40_usize) {
        for version in [MirostatVersion::V1 { n_estimate }, MirostatVersion::V2] {
            let config = Mirostat::new(version, 3.0, 0.1).unwrap();
            for (mu, expected) in [(f64::INFINITY, kept(&row)), (f64::NEG_INFINITY, vec![reference::greedy::argmax(&row)])] {
                let mut candidates = Candidates::new();
                candidates.fill(&row).unwrap();
                config.mask(&mut candidates, mu).unwrap();
                candidates.make_dense();
                prop_assert_eq!(kept(candidates.logits()), expected);
            }
        }
    }

    /// While the mean is on the target, the target is what is preferred: nothing is likelier than a token with its probability.
    #[test]
    fn adaptive_p_peaks_at_its_target(row in row(20), target in 0.0..=1.0_f64, decay in 0.0..0.99_f64) {
        let config = AdaptiveP::new(target, decay).unwrap();
        let state = config.initial_state();
        prop_assert!((state.mean() - target).abs() < 1e-12);
        let next = config.next_state(&state, target);
        prop_assert!((next.mean() - target).abs() < 1e-12);
        let mut candidates = Candidates::new();
        candidates.fill(&row).unwrap();
        config.transform(&mut candidates, &state).unwrap();
        let p = super::probabilities(&row);
        let nearest = |i: &usize, j: &usize| (p[*i] - target).abs().total_cmp(&(p[*j] - target).abs());
        let best = kept(&row).into_iter().min_by(nearest).unwrap();
        let largest = candidates.logits().iter().copied().fold(MASKED, f64::max);
        prop_assert!(candidates.logits()[best] >= largest - 1e-9);
        prop_assert!(largest <= 5.0);
        prop_assert_eq!(kept(candidates.logits()), kept(&row));
    }
}
