//! The article's table of 80 positions by 128 features, and its inner products.

use std::error::Error;

use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use ndarray::array;

fn main() -> Result<(), Box<dyn Error>> {
    let paper = |dim| {
        SinusoidalConfig::new(
            dim,
            SinusoidalLayout::Interleaved,
            SinusoidalExponent::TwoIOverDim,
        )
    };
    // ANCHOR: article
    let table = sinusoidal::table(80, &paper(128))?; // [n_positions, dim]
    let products = sinusoidal::inner_products(&table)?; // [n_positions, n_positions]
    println!("table {:?}, products {:?}", table.shape(), products.shape());
    println!("rows 10 and 15: {:.3}", products[[10, 15]]);
    println!("rows 70 and 75: {:.3}", products[[70, 75]]);
    // ANCHOR_END: article
    println!();
    let distances = array![0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 78.0];
    print!("distance ");
    for distance in &distances {
        print!("{distance:8}");
    }
    println!();
    for dim in [32, 64, 128, 256] {
        print!("dim {dim:4} ");
        for product in sinusoidal::decay(&distances, &paper(dim))? {
            print!("{product:8.2}");
        }
        println!();
    }
    Ok(())
}
