//! After the first step nothing is allocated: counted, for each thread.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one counts and asks the system"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use llm_sampling::bad_words::BadWords;
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::epsilon_cutoff::EpsilonCutoff;
use llm_sampling::eta_cutoff::EtaCutoff;
use llm_sampling::exponential_decay_length::ExponentialDecayLength;
use llm_sampling::log_normalization::LogNormalization;
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::min_length::MinNewTokens;
use llm_sampling::min_p::MinP;
use llm_sampling::no_repeat_ngram::{EncoderNoRepeatNgram, NoRepeatNgram};
use llm_sampling::prefix_allowed::PrefixAllowed;
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::remove_invalid::RemoveInvalid;
use llm_sampling::repetition_penalty::{
    EncoderRepetitionPenalty, PenaltyWindow, RepetitionPenalty,
};
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::suppress::Suppress;
use llm_sampling::synthid::SynthId;
use llm_sampling::tail_free::TailFree;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_a::TopA;
use llm_sampling::top_h::TopH;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::top_p::{SumFrom, TopP};
use llm_sampling::typical::Typical;
use llm_sampling::watermark::{Seeding, Watermark};
use llm_sampling::xtc::Xtc;
use llm_sampling::{Chain, Context, Processor, RowRandom, Sources};
use ndarray::Array2;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // Where the thread is ending there is nothing to count.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: the system's allocator does the work, with what it was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as promised to this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as promised to this function.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

type Boxed = Box<dyn Processor<f32> + Send + Sync>;

fn processors() -> Vec<(&'static str, Boxed)> {
    let temperature = Temperature::new(0.7).unwrap();
    let green = Watermark::new(0.5, 2.0, 5, Seeding::LeftHash, 1).unwrap();
    let dry = Dry::new(0.8, 1.75, 2, PenaltyWindow::All, &[]).unwrap();
    let xtc = Xtc::new(1.0, 0.01, 1).unwrap();
    let words = BadWords::new([vec![5], vec![1, 2]], &[]).unwrap();
    let penalty = RepetitionPenalty::new(1.3, PenaltyWindow::All).unwrap();
    let counts = PresenceFrequency::new(0.5, 0.5, PenaltyWindow::All).unwrap();
    let source = || Sources::one(vec![1, 7, 9, 7, 2]);
    let allowed = |_: &Context<'_>, ids: &mut Vec<u32>| ids.extend(0..3000);
    let decay = ExponentialDecayLength::new(1, 1.1, vec![6]).unwrap();
    let of_source = EncoderRepetitionPenalty::new(1.3, source()).unwrap();
    let not_of_source = EncoderNoRepeatNgram::new(2, source()).unwrap();
    let bias = SequenceBias::new([(vec![1, 7, 8], 1.0), (vec![9], -1.0)]).unwrap();
    vec![
        ("temperature", Box::new(temperature)),
        ("top-k", Box::new(TopK::new(50, Ties::Exact, 1).unwrap())),
        (
            "top-k of many",
            Box::new(TopK::new(900, Ties::Kept, 1).unwrap()),
        ),
        (
            "top-p",
            Box::new(TopP::new(0.9, SumFrom::Smallest, 3).unwrap()),
        ),
        ("min-p", Box::new(MinP::new(0.05, 2).unwrap())),
        ("typical", Box::new(Typical::new(0.9, 2).unwrap())),
        ("top-h", Box::new(TopH::new(0.9).unwrap())),
        ("epsilon", Box::new(EpsilonCutoff::new(0.001, 2).unwrap())),
        ("eta", Box::new(EtaCutoff::new(0.01, 2).unwrap())),
        ("top-a", Box::new(TopA::new(0.3, 2).unwrap())),
        ("top-n-sigma", Box::new(TopNSigma::new(1.0).unwrap())),
        ("tail-free", Box::new(TailFree::new(0.9, 1).unwrap())),
        ("xtc", Box::new(xtc)),
        (
            "dynamic temperature",
            Box::new(DynamicTemperature::new(1.0, 0.5, 1.0).unwrap()),
        ),
        ("dry", Box::new(dry)),
        ("repetition penalty", Box::new(penalty)),
        ("presence and frequency", Box::new(counts)),
        ("logit bias", Box::new(LogitBias::new(&[(3, 1.0)]).unwrap())),
        (
            "no repeated n-grams",
            Box::new(NoRepeatNgram::new(2).unwrap()),
        ),
        ("bad words", Box::new(words)),
        ("sequence bias", Box::new(bias)),
        ("penalty of a source", Box::new(of_source)),
        ("n-grams of a source", Box::new(not_of_source)),
        ("allowed tokens", Box::new(PrefixAllowed::new(allowed))),
        ("decay of the length", Box::new(decay)),
        ("tournament", Box::new(SynthId::new(1, 30, 6, 100).unwrap())),
        ("least new tokens", Box::new(MinNewTokens::new(9, vec![2]))),
        ("suppress", Box::new(Suppress::new(vec![4]))),
        ("remove invalid", Box::new(RemoveInvalid)),
        ("watermark", Box::new(green)),
        ("log normalization", Box::new(LogNormalization)),
    ]
}

/// Allocations of a second step, after one like it.
fn second_step(chain: &mut Chain<f32>) -> usize {
    let logits = Array2::from_shape_fn([2, 4000], |(row, i)| ((i * 37 + row) % 101) as f32 / 9.0);
    let tokens = [1, 7, 3, 1, 7, 3, 1, 7];
    let context = Context::new(&tokens[..3], &tokens[3..]);
    let contexts = [0, 1].map(|row| context.with_random(RowRandom::new(3, row, 5)));
    let mut draws = Vec::new();
    chain.sample_into(&logits, &contexts, &mut draws).unwrap();
    let before = ALLOCATIONS.get();
    chain.sample_into(&logits, &contexts, &mut draws).unwrap();
    ALLOCATIONS.get() - before
}

#[test]
fn no_processor_allocates_after_its_first_step() {
    for (name, processor) in processors() {
        let mut chain = Chain::new();
        chain.push(processor);
        assert_eq!(second_step(&mut chain), 0, "{name}");
    }
    // All of them: those that make rows shorter last.
    let mut all = processors();
    all.sort_by_key(|(name, _)| name.starts_with("top") || name.ends_with("-p"));
    let mut chain = Chain::new();
    for (_, processor) in all {
        chain.push(processor);
    }
    assert_eq!(second_step(&mut chain), 0);
}

/// Whether masks are kept or made in each step.
#[cfg(feature = "grammar")]
#[test]
fn no_grammar_allocates_where_its_states_were_seen() {
    use llm_sampling::grammar::{Grammar, MASK_BYTES, Vocabulary};

    let tokens: Vec<String> = (0..4000).map(|i| format!("{i}")).collect();
    let vocabulary = Vocabulary::new(&tokens, &[3999], &[]).unwrap();
    for mask_bytes in [MASK_BYTES, 0] {
        let grammar = Grammar::regex(&vocabulary, "(?:[0-9]{2,4},?)*|[0-9]{1,30}").unwrap();
        let mut chain = Chain::new()
            .with(grammar.with_mask_bytes(mask_bytes))
            .with(TopK::new(50, Ties::Exact, 1).unwrap());
        assert_eq!(second_step(&mut chain), 0, "{mask_bytes}");
    }
}

#[test]
fn an_allocation_is_noticed() {
    let before = ALLOCATIONS.get();
    let copy = std::hint::black_box([1.0_f32; 9].to_vec());
    assert_eq!(ALLOCATIONS.get() - before, 1);
    drop(copy);
}
