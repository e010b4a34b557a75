//! The samplers of llama.cpp and its relatives: what is claimed about them, by kind of claim.

mod chi_square;
mod choices;
mod errors;
mod golden;
mod laws;
mod limits;

use llm_sampling::reference::categorical::log_softmax;
use llm_sampling::repetition_penalty::PenaltyWindow;
use llm_sampling::{Candidates, Context, Processor, processor};
use ndarray::Array2;
use proptest::prelude::*;

const MASKED: f64 = f64::NEG_INFINITY;

/// A logit: masked, one of a few (so that there are ties), usual, or large.
fn logit() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => Just(MASKED),
        3 => (-3..4_i32).prop_map(f64::from),
        6 => -8.0..8.0,
        1 => -2e3..2e3,
    ]
}

/// A row with at least one token above `-inf`.
fn row(max_vocab: usize) -> impl Strategy<Value = Vec<f64>> {
    (
        prop::collection::vec(logit(), 1..=max_vocab),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut row, index)| {
            let token = index.index(row.len());
            if row.iter().all(|x| *x == MASKED) {
                row[token] = 1.0;
            }
            row
        })
}

/// Tokens of a few kinds, so that they repeat; some of no vocabulary here.
fn tokens(max_len: usize) -> impl Strategy<Value = Vec<u32>> {
    let token = prop_oneof![9 => 0..4_u32, 2 => 0..20_u32, 1 => Just(u32::MAX)];
    prop::collection::vec(token, 0..=max_len)
}

fn window() -> impl Strategy<Value = PenaltyWindow> {
    prop_oneof![
        Just(PenaltyWindow::All),
        Just(PenaltyWindow::Generated),
        (0..30_usize).prop_map(PenaltyWindow::Last),
        (0..10_usize).prop_map(PenaltyWindow::SkipFirst),
    ]
}

fn uniform() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..1.0, 1 => Just(0.0), 1 => Just(1.0 - f64::EPSILON / 2.0)]
}

/// What a processor makes of a row.
fn run(row: &[f64], context: Context<'_>, processor: &impl Processor<f64>) -> Vec<f64> {
    let mut logits = Array2::from_shape_vec([1, row.len()], row.to_vec()).unwrap();
    processor::apply_inplace(&mut logits, &[context], processor).unwrap();
    logits.into_raw_vec_and_offset().0
}

/// The same with the masked tokens left out at first.
fn run_compact(row: &[f64], context: &Context<'_>, processor: &impl Processor<f64>) -> Vec<f64> {
    let mut candidates = Candidates::new();
    candidates.fill(row).unwrap();
    candidates.compact();
    processor.apply(&mut candidates, context).unwrap();
    candidates.make_dense();
    candidates.logits().to_vec()
}

fn no_tokens() -> Context<'static> {
    Context::new(&[], &[])
}

fn probabilities(row: &[f64]) -> Vec<f64> {
    log_softmax(row).into_iter().map(f64::exp).collect()
}

fn bits(row: &[f64]) -> Vec<u64> {
    row.iter().map(|x| x.to_bits()).collect()
}

fn kept(row: &[f64]) -> Vec<usize> {
    (0..row.len()).filter(|&i| row[i] > MASKED).collect()
}

/// Equal up to rounding; `-inf` equals itself only.
fn close(got: &[f64], want: &[f64], tolerance: f64) -> bool {
    got.len() == want.len()
        && got.iter().zip(want).all(|(g, w)| {
            if *w == MASKED || *g == MASKED {
                g == w
            } else {
                (g - w).abs() <= tolerance * w.abs().max(1.0)
            }
        })
}
