//! Known answers of processors that a reader can redo by hand.

use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::guidance::{GuidanceSpace, guide};
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::NoRepeatNgram;
use llm_sampling::prefix_allowed::{PrefixAllowed, Unsatisfiable, apply_beams_inplace};
use llm_sampling::processor::apply_inplace;
use llm_sampling::remove_invalid::RemoveInvalid;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_h::TopH;
use llm_sampling::typical::Typical;
use llm_sampling::{Context, Processor, SamplingError};
use ndarray::{Array2, array};

const MASKED: f64 = f64::NEG_INFINITY;

fn kept(probabilities: &[f64], processor: &impl Processor<f64>) -> Vec<usize> {
    let mut x = Array2::from_shape_fn([1, probabilities.len()], |(_, i)| probabilities[i].ln());
    apply_inplace(&mut x, &[Context::new(&[], &[])], processor).unwrap();
    (0..probabilities.len())
        .filter(|&i| x[[0, i]] > MASKED)
        .collect()
}

/// Probabilities 1/2, 1/4, 1/8, 1/16, 1/16 have an entropy of 15/8 bits, so surprises of 1, 2, 3, 4, 4 bits are 7, 1, 9, 17, 17 eighths away.
#[test]
fn typical_sampling_takes_the_nearest_to_the_entropy() {
    let p = [0.5, 0.25, 0.125, 0.0625, 0.0625];
    let typical = |mass, least| kept(&p, &Typical::new(mass, least).unwrap());
    assert_eq!(typical(0.2, 1), [1]);
    assert_eq!(typical(0.3, 1), [0, 1]);
    assert_eq!(typical(0.74, 1), [0, 1]);
    assert_eq!(typical(0.76, 1), [0, 1, 2]);
    assert_eq!(typical(0.9, 1), [0, 1, 2, 3, 4]); // the last two are equals
    assert_eq!(typical(0.2, 2), [0, 1]);
    assert_eq!(typical(0.2, 4), [0, 1, 2, 3, 4]);
}

/// The same distribution: e^-H = 2^(-15/8) = 0.2726; sqrt(0.04) e^-H = 0.0545, sqrt(0.09) e^-H = 0.0818.
#[test]
fn cutoffs_are_bounds_on_probabilities() {
    let p = [0.5, 0.25, 0.125, 0.0625, 0.0625];
    let epsilon = |e, least| kept(&p, &EpsilonCutoff::new(e, least).unwrap());
    assert_eq!(epsilon(0.06, 1), [0, 1, 2, 3, 4]);
    assert_eq!(epsilon(0.07, 1), [0, 1, 2]);
    assert_eq!(epsilon(0.3, 1), [0]);
    assert_eq!(epsilon(0.6, 1), [0]); // none is likely enough
    assert_eq!(epsilon(0.6, 2), [0, 1]);
    let eta = |e| kept(&p, &EtaCutoff::new(e, 1).unwrap());
    assert_eq!(eta(0.04), [0, 1, 2, 3, 4]); // min(0.04, 0.0545)
    assert_eq!(eta(0.09), [0, 1, 2]); // min(0.09, 0.0818)
    assert_eq!(
        kept(&[0.5, 0.5], &EpsilonCutoff::new(0.7, 1).unwrap()),
        [0, 1]
    );
}

/// Terms -p log2 p of the same distribution: 4/8, 4/8, 3/8, 2/8, 2/8, together 15/8.
#[test]
fn top_h_counts_entropy() {
    let p = [0.5, 0.25, 0.125, 0.0625, 0.0625];
    let top_h = |h| kept(&p, &TopH::new(h).unwrap());
    assert_eq!(top_h(0.1), [0]); // the likeliest, whatever it has
    assert_eq!(top_h(0.52), [0]); // 7.8 eighths
    assert_eq!(top_h(0.54), [0, 1]); // 8.1 eighths
    assert_eq!(top_h(0.74), [0, 1, 2]); // 11.1
    assert_eq!(top_h(0.87), [0, 1, 2, 3]); // 13.05; of equals the lower id
    assert_eq!(top_h(1.0), [0, 1, 2, 3, 4]);
    // No more than one hundred.
    assert_eq!(kept(&[0.005; 200], &TopH::new(1.0).unwrap()).len(), 100);
    assert_eq!(kept(&[0.005; 200], &TopH::new(0.255).unwrap()).len(), 25);
}

#[test]
fn min_p_is_relative_to_the_likeliest() {
    let p = [0.5, 0.25, 0.125, 0.0625, 0.0625];
    assert_eq!(kept(&p, &MinP::new(0.26, 1).unwrap()), [0, 1]);
    assert_eq!(kept(&p, &MinP::new(1.0, 1).unwrap()), [0]);
    assert_eq!(kept(&p, &MinP::new(1.0, 4).unwrap()), [0, 1, 2, 3, 4]);
}

#[test]
fn temperature_masks_what_falls_below_all_numbers() {
    let mut x = array![[f32::NAN, 1.0, f32::NEG_INFINITY]];
    let context = [Context::new(&[], &[])];
    apply_inplace(&mut x, &context, &RemoveInvalid).unwrap();
    assert_eq!(x, array![[0.0, 1.0, f32::MIN]]);
    apply_inplace(&mut x, &context, &Temperature::new(0.5).unwrap()).unwrap();
    assert_eq!(x, array![[0.0, 2.0, f32::NEG_INFINITY]]);
    // If that is the largest, nothing would be left.
    let mut x = array![[f32::MIN, f32::MIN]];
    assert!(matches!(
        apply_inplace(&mut x, &context, &Temperature::new(0.5).unwrap()),
        Err(SamplingError::TemperatureOverflow { token: 0, .. })
    ));
}

#[test]
fn an_end_that_grows_beyond_all_numbers_is_the_largest_number() {
    let context = [Context::new(&[], &[0; 2000])];
    let mut x = array![[1.0_f32, -1.0, 0.0, f32::NEG_INFINITY]];
    let decay = ExponentialDecayLength::new(0, 1.9, vec![1, 1, 2, 3]).unwrap();
    apply_inplace(&mut x, &context, &decay).unwrap();
    assert_eq!(x, array![[1.0, f32::MAX, 0.0, f32::NEG_INFINITY]]);
    let mut x = array![[1.0_f32, f32::MIN]];
    let decay = ExponentialDecayLength::new(0, 0.1, vec![0, 1]).unwrap();
    apply_inplace(&mut x, &context, &decay).unwrap();
    assert_eq!(x, array![[0.0, f32::MIN]]);
}

// ANCHOR: repeated
#[test]
fn a_repeated_token_is_its_own_successor() {
    let mut x = array![[1.0, 2.0, 3.0]];
    let context = Context::new(&[2], &[2]); // one pair, across prompt and what was made
    apply_inplace(&mut x, &[context], &NoRepeatNgram::new(2).unwrap()).unwrap();
    assert_eq!(x, array![[1.0, 2.0, MASKED]]);
    apply_inplace(&mut x, &[context], &NoRepeatNgram::new(3).unwrap()).unwrap();
    assert_eq!(x, array![[1.0, 2.0, MASKED]]); // too short for three
    apply_inplace(&mut x, &[context], &NoRepeatNgram::new(usize::MAX).unwrap()).unwrap();
    assert_eq!(x, array![[1.0, 2.0, MASKED]]);
}
// ANCHOR_END: repeated

#[test]
fn a_row_without_allowed_tokens_can_stay_masked() {
    let first = |_: &Context<'_>, ids: &mut Vec<u32>| ids.push(0);
    let mut x = array![[MASKED, 2.0], [MASKED, 2.0]];
    let contexts = [Context::new(&[], &[]); 2];
    let masked = PrefixAllowed::new(first).with_unsatisfiable(Unsatisfiable::Masked);
    apply_inplace(&mut x, &contexts, &masked).unwrap();
    assert_eq!(x, array![[MASKED, MASKED], [MASKED, MASKED]]);
    apply_beams_inplace(&mut x, &contexts, 2, &masked).unwrap();
    assert_eq!(x, array![[MASKED, MASKED], [MASKED, MASKED]]);
    // Columns as rows, as a view would be.
    let mut turned = array![[MASKED, MASKED], [2.0, 2.0]];
    let mut view = turned.view_mut().reversed_axes();
    apply_beams_inplace(&mut view, &contexts, 2, &PrefixAllowed::new(first)).unwrap();
    assert_eq!(turned, array![[0.0, 0.0], [MASKED, MASKED]]);
}

/// Logits 0, 0 against probabilities 3/4, 1/4: with a scale of 2 the log-probabilities are 2 ln(3/4) - ln(1/2), 2 ln(1/4) - ln(1/2).
#[test]
fn guidance_of_log_probabilities() {
    let c = array![[3_f64.ln(), 0.0]];
    let u = array![[0.0, 0.0]];
    let guided = guide(&c, &u, 2.0, GuidanceSpace::LogProbabilities).unwrap();
    assert!((guided[[0, 0]] - 1.125_f64.ln()).abs() < 1e-15);
    assert!((guided[[0, 1]] - 0.125_f64.ln()).abs() < 1e-15);
    // A token that one of them masks.
    let c = array![[1.0, MASKED, 3.0, MASKED]];
    let u = array![[0.5, 1.0, MASKED, MASKED]];
    let guided = guide(&c, &u, 2.0, GuidanceSpace::Logits).unwrap();
    assert_eq!(guided, array![[1.5, MASKED, 3.0, MASKED]]);
}
