//! What four bits lose: a report of all weights, and a histogram of the blocks.

use llm_numerics::philox::Philox4x32;
use llm_quant::QuantError;
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig, Scales};
use llm_quant::report::{self, HistogramConfig};
use ndarray::Array1;

fn main() -> Result<(), QuantError> {
    let random = Philox4x32::new(1);
    let weights: Array1<f32> = (0..1 << 17)
        .map(|i| random.normal_f64(0, i) as f32)
        .collect();
    let weights = weights.into_dyn();
    // ANCHOR: report
    let packed = four_bit::quantize(&weights, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
    let back = four_bit::dequantize::<f32>(&packed)?;
    let all = report::compare(&weights, &back)?;
    println!(
        "max {:.3}, MSE {:.5}, {:.2} dB",
        all.max, all.mean_square, all.signal_to_noise
    );
    let blocks = report::by_block(&weights, &back, 64)?;
    let decibels = blocks.iter().map(|block| block.signal_to_noise);
    let histogram = report::histogram(decibels, &HistogramConfig::new(17.0..=23.0).with_bins(6))?;
    // ANCHOR_END: report
    for (bin, count) in histogram.counts.iter().enumerate() {
        println!("{} to {} dB: {count:4} blocks", 17 + bin, 18 + bin);
    }
    println!("below: {}, above: {}", histogram.below, histogram.above);
    let off = weights.iter().zip(&back).map(|(x, y)| (x - y).abs());
    if let (Some((i, _)), Scales::Plain(scales)) = (
        off.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)),
        packed.scales(),
    ) {
        println!(
            "the worst weight is {:.2}, its scale {:.2}",
            weights[[i]],
            scales[i / 64]
        );
    }
    Ok(())
}
