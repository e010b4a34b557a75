//! Prints the inner product of two sinusoidal positions by their distance, for four widths.

use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use ndarray::Array1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let distances = Array1::from_iter([0, 1, 2, 5, 10, 20, 40, 78].map(f64::from));
    println!("{:>10} {distances:7.0}", "distance");
    for dim in [32, 64, 128, 256] {
        let config = SinusoidalConfig::new(
            dim,
            SinusoidalLayout::Interleaved,
            SinusoidalExponent::TwoIOverDim,
        );
        let curve = sinusoidal::decay(&distances, &config)?;
        println!("{:>10} {curve:7.2}", format!("dim {dim}"));

        // The same from a table: rows 1 and 79 are 78 apart.
        let products = sinusoidal::inner_products(&sinusoidal::table(80, &config)?)?;
        assert!((f64::from(products[[1, 79]]) - curve[7]).abs() < 1e-3);
    }
    println!(
        "The farther apart, the smaller, with swings: the curve falls without a mask or a bias."
    );
    Ok(())
}
