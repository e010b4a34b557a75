//! A row with the prompt and a row without it, mixed with several scales.

use llm_blocks_listings::left::written;
use llm_sampling::guidance::{GuidanceSpace, guide};
use llm_sampling::{Candidates, SamplingError};
use ndarray::array;

fn main() -> Result<(), SamplingError> {
    // ANCHOR: scales
    let with = array![[0.5_f64, 0.3, 0.2]].ln();
    let without = array![[0.5_f64, 0.1, 0.4]].ln();
    for scale in [0.0, 1.0, 1.5, 3.0] {
        let guided = guide(&with, &without, scale, GuidanceSpace::LogProbabilities)?;
        let mut candidates = Candidates::new();
        candidates.fill(&guided.row(0).to_vec())?;
        println!("scale {scale:.1}  {}", written(&mut candidates)?);
    }
    // ANCHOR_END: scales
    Ok(())
}
