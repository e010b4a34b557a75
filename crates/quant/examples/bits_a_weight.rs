//! What four bits cost and what they lose: the same weights by both codes and all block sizes.

use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self, BLOCKS, FourBitCode, FourBitConfig};
use llm_quant::{QuantError, normal};
use ndarray::Array2;

fn main() -> Result<(), QuantError> {
    // Normal weights, each quantile once, shuffled by a step that has no common factor with their number.
    let n = 1 << 16;
    let weight = |i: usize| normal::quantile(((i * 40_503 % n) as f64 + 0.5) / n as f64);
    let weights: Result<Vec<f32>, _> = (0..n).map(|i| weight(i).map(|x| x as f32)).collect();
    let weights = Array2::from_shape_fn([256, 256], {
        let weights = weights?;
        move |(i, j)| weights[256 * i + j]
    });

    println!("code  block  bits a weight  with double quantization  root mean square error");
    for code in [FourBitCode::Nf4, FourBitCode::Fp4] {
        for block in BLOCKS {
            let packed = four_bit::quantize(&weights, &FourBitConfig::new(code, block))?;
            let plain_bits = 8.0 * packed.bytes() as f64 / n as f64;
            let back = four_bit::dequantize::<f32>(&packed)?;
            let squares = weights
                .iter()
                .zip(&back)
                .map(|(x, y)| f64::from(x - y).powi(2));
            let error = (squares.sum::<f64>() / n as f64).sqrt();
            let nested = double::compress(packed, EightBitSearch::Nearest)?;
            let nested_bits = 8.0 * nested.bytes() as f64 / n as f64;
            println!("{code:?}   {block:>5}  {plain_bits:13.3}  {nested_bits:24.3}  {error:22.4}");
        }
    }
    Ok(())
}
