//! Three ways to draw from one row, 60,000 times each, against its softmax.

use llm_sampling::{RowRandom, SamplingError, categorical, exponential_race, gumbel_max};
use ndarray::array;

/// One in a thousand right samples has more: the chi-square distribution with 3 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.4).
const CRITICAL: f64 = 16.266;

fn main() -> Result<(), SamplingError> {
    // ANCHOR: draws
    const DRAWS: u64 = 60_000;
    let p = array![0.5_f64, 0.25, 0.15, 0.1];
    let row = p.ln();
    for (seed, name) in ["inverse CDF", "Gumbel-max", "race"]
        .into_iter()
        .enumerate()
    {
        let mut counts = [0_u32; 4];
        for step in 0..DRAWS {
            let random = RowRandom::new(seed as u64, 0, step);
            let draw = match name {
                "inverse CDF" => categorical::draw(&row, random.uniform(0))?,
                "Gumbel-max" => gumbel_max::draw(&row, random)?,
                _ => exponential_race::draw(&row, random)?,
            };
            counts[draw.token as usize] += 1;
        }
        let mut chi_square = 0.0;
        for (count, p) in counts.iter().zip(&p) {
            let expected = p * DRAWS as f64;
            chi_square += (f64::from(*count) - expected).powi(2) / expected;
        }
        println!("{name:12} {counts:?}  chi-square {chi_square:.2}");
        assert!(chi_square < CRITICAL);
    }
    // ANCHOR_END: draws
    Ok(())
}
