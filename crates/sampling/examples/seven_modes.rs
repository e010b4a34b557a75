//! One prompt in the seven modes of Hugging Face's `generate`, each asked for by its flags, on a table in the place of a model:
//!
//! ```text
//! Greedy: no flags
//!   the cat sat on the cat sat on the cat sat on the
//! Contrastive: penalty_alpha=0.6 top_k=3
//!   the cat sat on the mat .
//! Multinomial: do_sample
//!   the mat and slept .
//! Beam: num_beams=4
//!   the cat sat on the cat sat on the cat sat on the
//! BeamSample: num_beams=4 do_sample
//!   the cat sat on the cat sat on the cat sat on the
//! DiverseBeam: num_beams=4 num_beam_groups=4
//!   the cat sat on the cat sat on the cat sat on the
//!   the mat .
//!   the cat sat on the mat .
//!   the mat .
//! ConstrainedBeam: num_beams=4 force_words_ids
//!   the cat sat on the cat sat on the cat slept .
//! ```
//!
//! A loop is likelier than an end here, so greedy and beam search repeat themselves. The degeneration penalty and the groups go elsewhere, and
//! the constraint forces the word "slept".

use llm_sampling::chain::{ChainConfig, Setting};
use llm_sampling::huggingface::{Mode, ModeFlags, mode};
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use llm_sampling::search::beam_sample::BeamSample;
use llm_sampling::search::constrained::{ConstrainedBeamSearch, Constraint, ConstraintRule};
use llm_sampling::search::contrastive::{ContrastiveConfig, ContrastiveSearch};
use llm_sampling::search::diverse::DiverseBeamSearch;
use llm_sampling::{Candidates, Context, Dialect, RowRandom, SamplingError};
use ndarray::{Array2, Array3};

const WORDS: [&str; 8] = ["the", "cat", "sat", "on", "mat", "and", "slept", "."];
const STOP: u32 = 7;
const SLEPT: u32 = 6;
const MAX_NEW_TOKENS: usize = 12;
const SEED: u64 = 11;

/// Probabilities of the next word, in percent, by the last one.
const TABLE: [[f32; 8]; 8] = [
    [0.0, 70.0, 0.0, 0.0, 28.0, 0.0, 0.0, 2.0], // the: cat, mat
    [0.0, 0.0, 75.0, 1.0, 0.0, 8.0, 15.0, 1.0], // cat: sat, slept, and
    [0.0, 0.0, 0.0, 90.0, 0.0, 5.0, 0.0, 5.0],  // sat: on
    [97.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0],  // on: the
    [0.0, 0.0, 1.0, 0.0, 0.0, 49.0, 0.0, 50.0], // mat: ., and
    [45.0, 0.0, 15.0, 0.0, 0.0, 0.0, 39.0, 1.0], // and: the, slept, sat
    [0.0, 0.0, 0.0, 25.0, 0.0, 15.0, 0.0, 60.0], // slept: ., on, and
    [12.5; 8],
];

fn main() -> Result<(), SamplingError> {
    print!("{}", report()?);
    Ok(())
}

type Set = fn(&mut ModeFlags);

/// The flags, the mode that they ask for, and what it says after "the".
pub(crate) fn report() -> Result<String, SamplingError> {
    let set: [(&str, Set); 7] = [
        ("no flags", |_| {}),
        ("penalty_alpha=0.6 top_k=3", |f| {
            (f.penalty_alpha, f.top_k) = (Some(0.6), Some(3));
        }),
        ("do_sample", |f| f.do_sample = true),
        ("num_beams=4", |f| f.num_beams = Some(4)),
        ("num_beams=4 do_sample", |f| {
            (f.num_beams, f.do_sample) = (Some(4), true);
        }),
        ("num_beams=4 num_beam_groups=4", |f| {
            (f.num_beams, f.num_beam_groups) = (Some(4), Some(4));
        }),
        ("num_beams=4 force_words_ids", |f| {
            (f.num_beams, f.force_words_ids) = (Some(4), true);
        }),
    ];
    let mut text = String::new();
    for (written, set) in set {
        let mut flags = ModeFlags::default();
        set(&mut flags);
        // ANCHOR: modes
        let mode = mode(&flags)?;
        let n_beams = flags.num_beams.unwrap_or(1);
        let lines = match mode {
            Mode::Greedy => vec![one_row(Setting::Greedy)?],
            Mode::Multinomial => vec![one_row(Setting::TopP(0.95))?],
            Mode::Contrastive => vec![contrastive(&flags)?],
            Mode::Beam => vec![beam(n_beams)?],
            Mode::BeamSample => vec![beam_sample(n_beams)?],
            Mode::DiverseBeam => diverse(n_beams, flags.num_beam_groups.unwrap_or(1))?,
            Mode::ConstrainedBeam => vec![constrained(n_beams)?],
            _ => Vec::new(),
        };
        // ANCHOR_END: modes
        text += &format!("{mode:?}: {written}\n");
        for tokens in lines {
            let words: Vec<&str> = tokens.iter().map(|&t| WORDS[t as usize]).collect();
            text += &format!("  the {}\n", words.join(" "));
        }
    }
    Ok(text)
}

/// Log-probabilities of the word after each of these.
fn model(last: &[u32]) -> Array2<f32> {
    Array2::from_shape_fn([last.len(), 8], |(row, word)| {
        TABLE[last[row] as usize][word].ln()
    })
}

fn unchanged(_: &mut Candidates<f32>, _: &Context<'_>) -> Result<(), SamplingError> {
    Ok(())
}

fn one_row(setting: Setting) -> Result<Vec<u32>, SamplingError> {
    let mut chain = ChainConfig::new(Dialect::HuggingFace)
        .with(setting)
        .build()?;
    let mut tokens = Vec::new();
    let mut last = 0;
    while last != STOP && tokens.len() < MAX_NEW_TOKENS {
        let random = RowRandom::new(SEED, 0, tokens.len() as u64);
        let context = Context::new(&[0], &tokens).with_random(random);
        last = chain.sample(&model(&[last]), &[context])?[0].token;
        tokens.push(last);
    }
    Ok(tokens)
}

/// A word's hidden state is a direction of its own, with a little of all others.
fn hidden(tokens: &[u32]) -> Array3<f32> {
    Array3::from_shape_fn([1, tokens.len(), 8], |(_, i, j)| {
        if tokens[i] as usize == j { 1.0 } else { 0.2 }
    })
}

fn contrastive(flags: &ModeFlags) -> Result<Vec<u32>, SamplingError> {
    let k = flags.top_k.unwrap_or(1);
    let config = ContrastiveConfig::new(k, flags.penalty_alpha.unwrap_or(0.0))?;
    let mut search = ContrastiveSearch::new(config, &hidden(&[0]), None)?;
    let mut tokens = Vec::new();
    let mut last = 0;
    while last != STOP && tokens.len() < MAX_NEW_TOKENS {
        let proposal = search.propose(&model(&[last]))?;
        let candidates: Vec<u32> = proposal.tokens.iter().copied().collect();
        last = search.choose(&proposal, &hidden(&candidates))?[0].token;
        tokens.push(last);
    }
    Ok(tokens)
}

fn config(n_beams: usize) -> BeamConfig {
    BeamConfig::transformers(n_beams, MAX_NEW_TOKENS).with_stop_ids(vec![STOP])
}

fn beam(n_beams: usize) -> Result<Vec<u32>, SamplingError> {
    let mut search = BeamSearch::new(&[[0]], &config(n_beams))?;
    while !search.is_done() {
        search.step(&model(&search.tokens()), &unchanged)?;
    }
    Ok(search.finish()[0][0].tokens.clone())
}

fn beam_sample(n_beams: usize) -> Result<Vec<u32>, SamplingError> {
    let mut search = BeamSample::new(&[[0]], &config(n_beams), SEED, &[0])?;
    while !search.is_done() {
        search.step(&model(&search.tokens()), &unchanged)?;
    }
    Ok(search.finish()[0][0].tokens.clone())
}

/// The best of each group.
fn diverse(n_beams: usize, n_groups: usize) -> Result<Vec<Vec<u32>>, SamplingError> {
    let config = config(n_beams).with_n_return(n_groups);
    let mut search = DiverseBeamSearch::new(&[[0]], &config, n_groups, 1.0)?;
    while !search.is_done() {
        search.step(&model(&search.tokens()), &unchanged)?;
    }
    let found = search.finish();
    Ok(found[0].iter().map(|found| found.tokens.clone()).collect())
}

fn constrained(n_beams: usize) -> Result<Vec<u32>, SamplingError> {
    let constraints = [Constraint::phrase(vec![SLEPT])];
    let rule = ConstraintRule::Occurs;
    let mut search = ConstrainedBeamSearch::new(&[[0]], &config(n_beams), &constraints, rule)?;
    while !search.is_done() {
        search.step(&model(&search.tokens()), &unchanged)?;
    }
    Ok(search.finish()[0][0].tokens.clone())
}
