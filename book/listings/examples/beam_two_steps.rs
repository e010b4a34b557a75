//! Two steps of two beams, by hand: the likeliest first token leads to nothing likely.

use llm_blocks_listings::cat::unchanged;
use llm_sampling::SamplingError;
use llm_sampling::search::beam::{BeamConfig, BeamSearch};
use ndarray::Array2;

fn main() -> Result<(), SamplingError> {
    // ANCHOR: beams
    // Probabilities after the start (token 2), after token 0, and after token 1.
    let table = |last: u32| match last {
        2 => [0.5_f64, 0.4, 0.1],
        0 => [0.4, 0.3, 0.3],
        _ => [0.05, 0.05, 0.9],
    };
    for n_beams in [1, 2] {
        let mut search = BeamSearch::new(&[[2]], &BeamConfig::textbook(n_beams, 2))?;
        while !search.is_done() {
            let last = search.tokens();
            let p = Array2::from_shape_fn([n_beams, 3], |(row, v)| table(last[row])[v]);
            search.step(&p.ln(), &unchanged)?;
        }
        let best = &search.finish()[0][0];
        let (tokens, p) = (&best.tokens, best.sum.exp());
        println!("beams {n_beams}: tokens {tokens:?}, probability {p:.2}");
    }
    // ANCHOR_END: beams
    Ok(())
}
