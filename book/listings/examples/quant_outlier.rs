//! One large weight, and what it does to the others: by the size of the blocks.

use llm_numerics::philox::Philox4x32;
use llm_quant::calculator::{ScaleStorage, bits_per_weight};
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
use llm_quant::{QuantError, report};
use ndarray::{Array1, s};

fn main() -> Result<(), QuantError> {
    let random = Philox4x32::new(1);
    let even: Array1<f32> = (0..4096).map(|i| random.normal_f64(0, i) as f32).collect();
    println!("block  bits a weight  even weights  with one of 40");
    for block in [32, 64, 256, 1024, 4096] {
        // ANCHOR: outlier
        let config = FourBitConfig::new(FourBitCode::Nf4, block);
        let error = |weights: &Array1<f32>| -> Result<f64, QuantError> {
            let packed = four_bit::quantize(weights, &config)?;
            let back = four_bit::dequantize::<f32>(&packed)?;
            let back = back.slice(s![1..]).into_dyn().to_owned(); // all but the first
            let exact = weights.slice(s![1..]).into_dyn().to_owned();
            Ok(report::compare(&exact, &back)?.mean_square.sqrt())
        };
        let mut one = even.clone();
        one[0] = 40.0;
        // ANCHOR_END: outlier
        let bits = bits_per_weight(4, block, ScaleStorage::Plain)?;
        println!(
            "{block:5}  {bits:13.4}  {:12.4}  {:14.4}",
            error(&even)?,
            error(&one)?
        );
    }
    Ok(())
}
