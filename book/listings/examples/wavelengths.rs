//! After how many tokens each feature of a sinusoidal encoding repeats itself.

use std::error::Error;

use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: wavelengths
    let config = SinusoidalConfig::new(
        128,
        SinusoidalLayout::Interleaved,
        SinusoidalExponent::TwoIOverDim,
    );
    for (i, inv_freq) in sinusoidal::inv_freq(&config)?.iter().enumerate() {
        if i % 9 == 0 {
            let wavelength = std::f64::consts::TAU / inv_freq;
            println!(
                "features {:3} and {:3} repeat after {wavelength:9.2} tokens",
                2 * i,
                2 * i + 1
            );
        }
    }
    // ANCHOR_END: wavelengths
    Ok(())
}
