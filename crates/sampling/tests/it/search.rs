//! Searches: laws, brute force and errors, over models that are a function of the sequence.

mod beam;
mod beam_sample;
mod constrained;
mod diverse;
mod errors;
mod repeats;

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;
use llm_sampling::search::Hypothesis;
use llm_sampling::search::beam::BeamSearch;
use llm_sampling::search::beam_sample::BeamSample;
use llm_sampling::search::constrained::ConstrainedBeamSearch;
use llm_sampling::search::diverse::DiverseBeamSearch;
use llm_sampling::{Candidates, Context, Processor, SamplingError};
use ndarray::{Array1, Array2, ArrayRef2};

/// What all searches can do.
pub(crate) trait Stepper {
    fn is_done(&self) -> bool;
    fn tokens(&self) -> Vec<u32>;
    fn parents(&self) -> Vec<usize>;
    fn sequence(&self, row: usize) -> Option<Vec<u32>>;
    fn step<F: Float, P: Processor<F> + ?Sized>(
        &mut self,
        logits: &ArrayRef2<F>,
        processor: &P,
    ) -> Result<(), SamplingError>;
    fn finish(self) -> Vec<Vec<Hypothesis>>;
}

macro_rules! stepper {
    ($($search:ty),*) => {$(
        impl Stepper for $search {
            fn is_done(&self) -> bool {
                Self::is_done(self)
            }
            fn tokens(&self) -> Vec<u32> {
                Self::tokens(self)
            }
            fn parents(&self) -> Vec<usize> {
                Self::parents(self)
            }
            fn sequence(&self, row: usize) -> Option<Vec<u32>> {
                Self::sequence(self, row)
            }
            fn step<F: Float, P: Processor<F> + ?Sized>(
                &mut self,
                logits: &ArrayRef2<F>,
                processor: &P,
            ) -> Result<(), SamplingError> {
                Self::step(self, logits, processor)
            }
            fn finish(self) -> Vec<Vec<Hypothesis>> {
                Self::finish(self)
            }
        }
    )*};
}
stepper!(
    BeamSearch,
    BeamSample,
    DiverseBeamSearch,
    ConstrainedBeamSearch
);

/// The logits of all rows; NaN where no beam goes on, so that a look there is noticed.
pub(crate) fn logits_of<F: Float>(
    search: &impl Stepper,
    model: impl Fn(&[u32]) -> Array1<F>,
) -> Array2<F> {
    let rows = search.tokens().len();
    let known: Vec<_> = (0..rows)
        .map(|row| search.sequence(row).map(|s| model(&s)))
        .collect();
    let vocab = known.iter().flatten().map(Array1::len).next().unwrap_or(1);
    let nan = F::from_f64(f64::NAN);
    Array2::from_shape_fn((rows, vocab), |(i, v)| {
        known[i].as_ref().map_or(nan, |x| x[v])
    })
}

/// Runs a search to its end.
///
/// A cache that follows `tokens` and `parents` must hold the sequences that the search says.
pub(crate) fn run<F: Float, S: Stepper, P: Processor<F> + ?Sized>(
    mut search: S,
    model: impl Fn(&[u32]) -> Array1<F>,
    processor: &P,
) -> Result<Vec<Vec<Hypothesis>>, SamplingError> {
    let rows = search.tokens().len();
    // Prefilled: the prompts without their last tokens.
    let mut cache: Vec<Vec<u32>> = (0..rows)
        .map(|row| search.sequence(row).unwrap_or_default())
        .collect();
    cache.iter_mut().for_each(|sequence| {
        sequence.pop();
    });
    while !search.is_done() {
        let (tokens, parents) = (search.tokens(), search.parents());
        cache = parents
            .iter()
            .map(|&parent| cache[parent].clone())
            .collect();
        for (row, token) in tokens.iter().enumerate() {
            cache[row].push(*token);
            if let Some(sequence) = search.sequence(row) {
                assert_eq!(sequence, cache[row], "row {row}");
            }
        }
        let logits = logits_of(&search, &model);
        search.step(&logits, processor)?;
    }
    Ok(search.finish())
}

/// Changes nothing.
pub(crate) fn unchanged<F>(_: &mut Candidates<F>, _: &Context<'_>) -> Result<(), SamplingError> {
    Ok(())
}

/// A model of random logits that depend on the whole sequence.
pub(crate) fn random_model(seed: u64, vocab: usize, spread: f64) -> impl Fn(&[u32]) -> Array1<f64> {
    let random = Philox4x32::new(seed);
    move |sequence| {
        // A number for each sequence; collisions do no harm.
        let stream = sequence.iter().fold(1_u64, |hash, token| {
            hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(u64::from(*token) + 1)
        });
        Array1::from_shape_fn(vocab, |i| spread * random.normal_f64(stream, i as u64))
    }
}

/// The same as log-probabilities after a prompt, for the reference.
pub(crate) fn log_probs<'a>(
    model: &'a impl Fn(&[u32]) -> Array1<f64>,
    prompt: &'a [u32],
) -> impl FnMut(&[u32]) -> Vec<f64> + 'a {
    move |generated| {
        let logits = model(&[prompt, generated].concat()).to_vec();
        llm_sampling::reference::categorical::log_softmax(&logits)
    }
}
