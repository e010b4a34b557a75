//! Numbers at the edge of what their type can hold, and processors of others: known answers.

use core::convert::Infallible;
use core::ops::ControlFlow;

use llm_sampling::bad_words::BadWords;
use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::dry::Dry;
use llm_sampling::dynamic_temperature::DynamicTemperature;
use llm_sampling::generate::{GenerateConfig, StopReason, generate_text};
use llm_sampling::logit_bias::LogitBias;
use llm_sampling::min_p::MinP;
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::processor::{self, Shortcut};
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
use llm_sampling::search::dola::{self, DolaConfig};
use llm_sampling::sequence_bias::SequenceBias;
use llm_sampling::stream::{StopStreamer, StopStrings, StopText};
use llm_sampling::suppress::Suppress;
use llm_sampling::temperature::Temperature;
use llm_sampling::top_h::TopH;
use llm_sampling::top_k::{Ties, TopK};
use llm_sampling::top_n_sigma::TopNSigma;
use llm_sampling::watermark::{Seeding, Watermark};
use llm_sampling::{
    Candidates, Chain, Context, Dialect, Processor, RowRandom, SamplingConfig, SamplingError,
    reference, sampler,
};
use ndarray::{Array1, Array2, Array3, array};

const MASKED: f32 = f32::NEG_INFINITY;
const INF: f32 = f32::INFINITY;

fn apply(logits: &mut Array2<f32>, tokens: &[u32], processor: &dyn Processor<f32>) {
    let contexts = vec![Context::new(tokens, tokens); logits.nrows()];
    processor::apply_inplace(logits, &contexts, processor).unwrap();
}

/// Two equals at 10 million, where one unit is the distance between numbers: each has probability 1/2.
#[test]
fn log_probabilities_keep_their_digits_at_large_logits() {
    let logits = array![[1e7_f32, 1e7]];
    for config in [
        SamplingConfig::greedy(),
        SamplingConfig::sample(Dialect::HuggingFace, 1.0, None, None).unwrap(),
    ] {
        let draw = sampler::sample(&logits, &config, &[0.1]).unwrap()[0];
        assert_eq!(draw.token, 0);
        assert!((draw.log_probability + 2_f64.ln()).abs() < 1e-15);
    }
}

#[test]
fn a_temperature_that_stands_for_greedy_decoding() {
    let sample = |dialect, t| SamplingConfig::sample(dialect, t, None, None);
    for t in [0.0, 9e-6] {
        assert_eq!(sample(Dialect::Vllm, t), Ok(SamplingConfig::greedy()));
    }
    assert_eq!(sample(Dialect::OpenAi, 0.0), Ok(SamplingConfig::greedy()));
    for (dialect, t) in [
        (Dialect::Vllm, -1e-6),
        (Dialect::HuggingFace, 0.0),
        (Dialect::LlamaCpp, 0.0),
    ] {
        assert_eq!(sample(dialect, t), Err(SamplingError::Temperature(t)));
    }
}

/// All quotients are 0, so all are equal, and all stay.
#[test]
fn quotients_that_vanish_are_ties_in_a_chain_too() {
    let row: Vec<f32> = (0..4096).map(|i| (i % 100) as f32 + 1.0).collect();
    for t in [1e30, 1e38, 1e46] {
        let (temperature, top_k) = (
            Temperature::new(t).unwrap(),
            TopK::new(1, Ties::Kept, 1).unwrap(),
        );
        let mut expected = Array2::from_shape_vec([1, row.len()], row.clone()).unwrap();
        let mut chained = expected.clone();
        apply(&mut expected, &[], &temperature);
        apply(&mut expected, &[], &top_k);
        let chain = Chain::new().with(temperature).with(top_k);
        chain
            .apply_inplace(&mut chained, &[Context::new(&[], &[])])
            .unwrap();
        assert_eq!(chained, expected, "{t}");
    }
}

/// A processor that says of itself what cannot be.
struct Boasts(Shortcut);

impl Processor<f32> for Boasts {
    fn apply(
        &self,
        candidates: &mut Candidates<f32>,
        _: &Context<'_>,
    ) -> Result<(), SamplingError> {
        candidates.logits_mut()[0] = 7.0;
        Ok(())
    }

    fn shortcut(&self) -> Shortcut {
        self.0
    }
}

#[test]
fn shortcuts_that_make_no_sense_are_not_taken() {
    let keep = |k| {
        Boasts(Shortcut::KeepLargest {
            k,
            ties: Ties::Kept,
        })
    };
    let logits = Array2::<f32>::zeros([1, 100]);
    for (first, second) in [
        (keep(0), Boasts(Shortcut::None)),
        (Boasts(Shortcut::Divide(f64::NAN)), keep(3)),
        (Boasts(Shortcut::Divide(-1.0)), keep(3)),
        (Boasts(Shortcut::Divide(f64::INFINITY)), keep(3)),
    ] {
        let chain = Chain::new().with(first).with(second);
        let mut changed = logits.clone();
        chain
            .apply_inplace(&mut changed, &[Context::new(&[], &[])])
            .unwrap();
        assert_eq!(changed[[0, 0]], 7.0);
    }
}

#[test]
fn what_is_banned_stays_banned_at_infinity() {
    let mut logits = array![[INF, 1.0]];
    apply(&mut logits, &[], &BadWords::new([vec![0]], &[]).unwrap());
    assert_eq!(logits, array![[MASKED, 1.0]]);
    let mut logits = array![[INF, 1.0]];
    let bias = LogitBias::new(&[(0, f64::NEG_INFINITY)]).unwrap();
    apply(&mut logits, &[], &bias);
    assert_eq!(logits, array![[MASKED, 1.0]]);
}

#[test]
fn sums_that_no_logit_can_hold_are_limited() {
    let limits = array![[f32::MAX, f32::MIN, 1.0]];
    let mut logits = array![[3e38_f32, -3e38, 1.0]];
    let bias = LogitBias::new(&[(0, 1e39), (1, -1e39)]).unwrap();
    apply(&mut logits, &[], &bias);
    assert_eq!(logits, limits);
    let mut logits = array![[3e38_f32, -3e38, 1.0]];
    let penalty = RepetitionPenalty::new(0.5, PenaltyWindow::All).unwrap();
    apply(&mut logits, &[0], &penalty);
    assert_eq!(logits[[0, 0]], f32::MAX);
    let mut logits = array![[3e38_f32, -3e38, 1.0]];
    let penalty = PresenceFrequency::new(1e39, 0.0, PenaltyWindow::All).unwrap();
    apply(&mut logits, &[1], &penalty);
    assert_eq!(logits[[0, 1]], f32::MIN);
}

/// Distances between numbers of `f64` may be infinite; the likeliest token is still far from the others.
#[test]
fn filters_by_distance_do_not_overflow() {
    let masked = f64::NEG_INFINITY;
    let context = [Context::new(&[], &[])];
    // Mean distances 1/2 and 2/3 of the range, deviations 1/2 and sqrt(2)/3 of it: less than the range in both.
    for (row, kept) in [
        (array![[1e308_f64, -1e308]], array![[1e308, masked]]),
        (
            array![[0.0_f64, -1e200, -1e200]],
            array![[0.0, masked, masked]],
        ),
    ] {
        let mut logits = row.clone();
        processor::apply_inplace(&mut logits, &context, &TopNSigma::new(1.0).unwrap()).unwrap();
        assert_eq!(logits, kept);
        // The entropy is 0, which no token goes beyond.
        let mut logits = row.clone();
        processor::apply_inplace(&mut logits, &context, &TopH::new(0.5).unwrap()).unwrap();
        assert_eq!(logits, row);
    }
    let mut logits = array![[1e308_f64, 1e308, -1e308]];
    processor::apply_inplace(&mut logits, &context, &TopH::new(0.5).unwrap()).unwrap();
    assert_eq!(logits, array![[1e308, masked, masked]]); // half of the entropy
}

/// As in `f32`: no finite logit becomes infinite.
#[test]
fn sums_that_no_f64_can_hold_are_limited() {
    const LARGE: f64 = 1.5e308;
    let apply = |processor: &dyn Processor<f64>| {
        let mut logits = array![[LARGE, -LARGE, 1.0]];
        let context = [Context::new(&[], &[0, 1])];
        processor::apply_inplace(&mut logits, &context, processor).unwrap();
        logits
    };
    let limits = array![[f64::MAX, f64::MIN, 1.0]];
    let biases = [(0, LARGE), (1, -LARGE)];
    assert_eq!(apply(&LogitBias::new(&biases).unwrap()), limits);
    let biases = biases.map(|(token, bias)| (vec![token], bias));
    assert_eq!(apply(&SequenceBias::new(biases).unwrap()), limits);
    let penalty = RepetitionPenalty::new(0.5, PenaltyWindow::All).unwrap();
    assert_eq!(apply(&penalty)[[0, 0]], f64::MAX);
    let penalty = RepetitionPenalty::new(2.0, PenaltyWindow::All).unwrap();
    assert_eq!(apply(&penalty)[[0, 1]], f64::MIN);
    let penalty = PresenceFrequency::new(f64::MAX, 0.0, PenaltyWindow::All).unwrap();
    assert_eq!(apply(&penalty)[[0, 1]], f64::MIN);
}

/// A penalty without bounds masks what is finite, and leaves the rest: infinity less infinity would be no number.
#[test]
fn dry_leaves_infinite_logits_alone() {
    let context = Context::new(&[], &[1, 2, 0, 1, 2]);
    let dry = Dry::new(f64::MAX, 10.0, 1, PenaltyWindow::All, &[]).unwrap();
    for (before, after) in [(INF, INF), (MASKED, MASKED), (3.0, MASKED)] {
        let mut logits = array![[before, 0.0, 0.0]];
        processor::apply_inplace(&mut logits, &[context], &dry).unwrap();
        assert_eq!(logits, array![[after, 0.0, 0.0]]);
    }
}

/// What is masked stays so: infinity less infinity would be no number.
#[test]
fn penalties_leave_infinite_logits_alone() {
    for (frequency, made) in [(f64::MAX, MASKED), (-f64::MAX, INF)] {
        let penalty = PresenceFrequency::new(0.0, frequency, PenaltyWindow::Generated).unwrap();
        let generated = [0, 0, 1, 1, 2, 2];
        let context = Context::new(&[], &generated);
        let mut logits = array![[MASKED, INF, 1.0, 3.0]];
        processor::apply_inplace(&mut logits, &[context], &penalty).unwrap();
        assert_eq!(logits, array![[MASKED, INF, made, 3.0]]);
        let inf = f64::INFINITY;
        let want = [-inf, inf, f64::from(made), 3.0];
        let mut logits = array![[-inf, inf, 1.0, 3.0]];
        processor::apply_inplace(&mut logits, &[context], &penalty).unwrap();
        assert_eq!(logits.as_slice(), Some(&want[..]));
        let row = [-inf, inf, 1.0, 3.0];
        let got = reference::presence_frequency::apply(&row, &generated, 0.0, frequency);
        assert_eq!(got, want);
    }
}

/// The lowest number is as good as a mask: it does not make the others greedy.
#[test]
fn a_dynamic_temperature_lets_tiny_probabilities_vanish() {
    for range in [0.0, 0.25] {
        let mut logits = array![[2.0_f32, 1.0, f32::MIN]];
        let processor = DynamicTemperature::new(0.5, range, 1.0).unwrap();
        apply(&mut logits, &[], &processor);
        assert!(logits[[0, 1]] > 1.0, "{logits}");
        assert_eq!(logits[[0, 2]], MASKED);
    }
    // Two equals take the upper end, 0 + 0.5.
    let mut logits = array![[2.0_f32, 2.0]];
    apply(
        &mut logits,
        &[],
        &DynamicTemperature::new(0.0, 0.5, 1.0).unwrap(),
    );
    assert_eq!(logits, array![[4.0, 4.0]]);
    assert_eq!(
        DynamicTemperature::new(0.0, 0.0, 1.0),
        Err(SamplingError::Temperature(0.0))
    );
}

/// The watermark is no filter: it also colors what is chosen greedily.
#[test]
fn greedy_decoding_in_hugging_face_has_its_watermark() {
    let watermark = Watermark::new(0.5, 3.0, 5, Seeding::LeftHash, 1).unwrap();
    let context = Context::new(&[3], &[]);
    let mut colored = Array2::<f32>::zeros([1, 64]);
    apply(&mut colored, &[3], &watermark);
    let green = colored.iter().position(|x| *x > 0.0).unwrap();
    // A bias on a green token wins over the plain maximum.
    let mut logits = Array2::<f32>::zeros([1, 64]);
    let red = colored.iter().position(|x| *x == 0.0).unwrap();
    logits[[0, red]] = 1.0;
    let config = ChainConfig::new(Dialect::HuggingFace)
        .with(Setting::Greedy)
        .with(Setting::TopK(1))
        .with(Setting::Watermark(watermark));
    let draw = config.build().unwrap().sample(&logits, &[context]).unwrap()[0];
    assert_eq!(draw.token as usize, green);
}

#[test]
fn a_chain_goes_into_a_chain_and_into_a_search() {
    let inner = Chain::new().with(Suppress::new(vec![0]));
    let chain = Chain::new()
        .with(inner)
        .with(TopK::new(1, Ties::Exact, 1).unwrap());
    let logits = array![[3.0_f32, 2.0, 1.0]];
    let mut search = BeamSearch::new(&[[1]], &BeamConfig::textbook(1, 1)).unwrap();
    search.step(&logits, &chain).unwrap();
    assert_eq!(search.finish()[0][0].tokens, [1]);
}

/// All tokens of the second prompt are forbidden, and a filter behind that has nothing to do: only that beam ends.
#[test]
fn a_beam_without_tokens_ends_alone() {
    let mut search = BeamSearch::new(&[[1], [2]], &BeamConfig::textbook(1, 2)).unwrap();
    let ban = |candidates: &mut Candidates<f32>, context: &Context<'_>| {
        if context.prompt == [2] {
            candidates.logits_mut().fill(MASKED);
        }
        Ok(())
    };
    let chain = Chain::new().with(ban).with(MinP::new(0.1, 1).unwrap());
    search
        .step(&array![[0.0_f32, 1.0], [0.0, 1.0]], &chain)
        .unwrap();
    assert_eq!(search.sequence(0), Some(vec![1, 1]));
    assert_eq!(search.sequence(1), None);
    // What a processor reports of a row that it has not masked is an error, of that row.
    let fail = |_: &mut Candidates<f32>, context: &Context<'_>| match context.row {
        1 => Err(SamplingError::MaskedRow { row: 0 }),
        _ => Ok(()),
    };
    let mut search = BeamSearch::new(&[[1], [2]], &BeamConfig::textbook(1, 2)).unwrap();
    assert_eq!(
        search.step(&array![[0.0_f32, 1.0], [0.0, 1.0]], &fail),
        Err(SamplingError::MaskedRow { row: 1 })
    );
}

/// A processor that draws gives each prompt what it gives it alone.
#[test]
fn random_numbers_of_a_search_follow_the_prompt() {
    let noise = |candidates: &mut Candidates<f64>, context: &Context<'_>| {
        let random: RowRandom = context.random;
        for (i, x) in candidates.logits_mut().iter_mut().enumerate() {
            *x += random.uniform(i as u16 + 1);
        }
        Ok(())
    };
    let config = BeamConfig::textbook(2, 3);
    let run = |prompts: &[[u32; 1]], streams: &[u64]| {
        let search = BeamSearch::new(prompts, &config).unwrap();
        let mut search = search.with_random(9, streams).unwrap();
        while !search.is_done() {
            let logits = Array2::<f64>::zeros([2 * prompts.len(), 5]);
            search.step(&logits, &noise).unwrap();
        }
        search.finish()
    };
    let together = run(&[[1], [1]], &[4, 7]);
    assert_eq!(together[0], run(&[[1]], &[4])[0]);
    assert_eq!(together[1][0].tokens, run(&[[1]], &[7])[0][0].tokens);
    assert_ne!(together[0][0].tokens, together[1][0].tokens);
    assert_eq!(
        BeamSearch::new(&[[1]], &config)
            .unwrap()
            .with_random(0, &[])
            .unwrap_err(),
        SamplingError::BeamStreams {
            expected: 1,
            got: 0
        }
    );
}

#[test]
fn more_candidates_than_tokens_are_refused_without_rows_too() {
    let config = ContrastiveConfig::new(usize::MAX, 0.6).unwrap();
    let hidden = Array3::<f32>::zeros([0, 1, 1]);
    let search = ContrastiveSearch::new(config, &hidden, None).unwrap();
    let error = SamplingError::TooManyCandidates {
        got: usize::MAX,
        vocab: 3,
    };
    assert_eq!(
        search.propose(&Array2::<f32>::zeros([0, 3])).unwrap_err(),
        error
    );
}

/// Half of the smallest number is 0; the divergence stays below ln 2.
#[test]
fn the_divergence_of_layers_is_bounded_where_probabilities_vanish() {
    for (last, premature) in [(-745.0, -1000.0), (-1000.0, -745.0)] {
        let last = array![[0.0_f64, last]];
        let layers = vec![0.0, premature, 0.0, 0.0];
        let premature = Array3::from_shape_vec([2, 1, 2], layers).unwrap();
        let found = dola::contrast(&last, &premature, &DolaConfig::paper()).unwrap();
        assert!((0.0..1e-9).contains(&found.divergences[[0, 0]]));
        assert_eq!(found.layers, [1]); // the one that differs
    }
}

/// Half a character becomes U+FFFD at the end of the text, and that is the stop string.
#[test]
fn the_end_of_the_text_may_complete_a_stop_string() {
    let stops = StopStrings::new(&["\u{FFFD}"]).unwrap();
    let mut streamer = StopStreamer::new(stops, StopText::Drop);
    let config = GenerateConfig::new(SamplingConfig::greedy(), 1);
    let step = |_: &[u32]| Ok::<_, Infallible>(Array1::<f32>::from(vec![0.0, 1.0]));
    let half = |_: u32| "é".as_bytes()[..1].to_vec();
    let generation = generate_text(&[0], &config, &mut streamer, half, step, |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(generation.stop, StopReason::StopString(0));
}
