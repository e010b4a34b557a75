//! Double quantization: what it saves, and what it costs.

use llm_numerics::philox::Philox4x32;
use llm_quant::calculator::{ScaleStorage, bits_per_weight, bits_saved};
use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self, FourBit, FourBitCode, FourBitConfig, Scales};
use llm_quant::{QuantError, report};
use ndarray::Array2;

fn main() -> Result<(), QuantError> {
    // ANCHOR: saved
    let plain = bits_per_weight(4, 64, ScaleStorage::Plain)?;
    let nested = bits_per_weight(4, 64, ScaleStorage::Nested)?;
    println!("bits a weight: {plain:.3} and {nested:.3}");
    let saved = bits_saved(64)?;
    let gigabytes = 65e9 * saved / 8.0 / 1e9;
    println!("saved: {saved:.3} bits a weight, {gigabytes:.2} GB of 65 billion");
    // ANCHOR_END: saved

    let random = Philox4x32::new(1);
    let weights = Array2::from_shape_fn([512, 1024], |(i, j)| {
        random.normal_f64(i as u64, j as u64) as f32
    });
    // ANCHOR: compress
    let packed = four_bit::quantize(&weights, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
    let nested = double::compress(packed.clone(), EightBitSearch::Nearest)?;
    // ANCHOR_END: compress
    for (name, weights_of) in [("plain", &packed), ("nested", &nested)] {
        let bits = 8.0 * weights_of.bytes() as f64 / weights.len() as f64;
        println!(
            "{name:6}  {bits:.3} bits  {:.3} dB",
            decibels(&weights, weights_of)?
        );
    }
    // ANCHOR: scales
    if let (Scales::Plain(exact), Scales::Nested(scales)) = (packed.scales(), nested.scales()) {
        let mean = f64::from(scales.offset());
        let off = double::dequantize(scales)?;
        let off = off.iter().zip(exact).map(|(a, b)| (a - b).abs() / b);
        println!("mean of {} scales: {mean:.3}", scales.len());
        println!(
            "no scale is off by more than {:.2} %",
            100.0 * off.fold(0.0, f32::max)
        );
    }
    // ANCHOR_END: scales
    Ok(())
}

fn decibels(exact: &Array2<f32>, packed: &FourBit) -> Result<f64, QuantError> {
    let back = four_bit::dequantize::<f32>(packed)?;
    Ok(report::compare(&exact.clone().into_dyn(), &back)?.signal_to_noise)
}
