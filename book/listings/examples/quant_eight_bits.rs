//! Three ways to eight bits, over weights on both sides of zero and numbers on one.

use llm_numerics::philox::Philox4x32;
use llm_quant::eight_bit::{self, EightBitConfig, EightBitSearch};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme};
use llm_quant::{QuantError, report};
use ndarray::{Array1, ArrayD};

fn main() -> Result<(), QuantError> {
    let random = Philox4x32::new(1);
    let both: Array1<f32> = (0..1 << 14)
        .map(|i| random.normal_f64(0, i) as f32)
        .collect();
    // After a ReLU.
    let one = both.mapv(|x| x.max(0.0));
    println!("signal to noise in decibels");
    println!("code         block  both sides  one side");
    for block in [256, 4096] {
        let integers = |scheme| {
            move |x: &Array1<f32>| {
                let config = IntegerConfig::new(IntegerBits::Eight, scheme, block);
                integer::dequantize(&integer::quantize(x, &config)?)
            }
        };
        let dynamic = |x: &Array1<f32>| {
            let config = EightBitConfig::new(EightBitSearch::Nearest, block);
            eight_bit::dequantize(&eight_bit::quantize(x, &config)?)
        };
        let codes: [(&str, &Code); 3] = [
            ("symmetric", &integers(IntegerScheme::Symmetric)),
            ("affine", &integers(IntegerScheme::Affine)),
            ("dynamic map", &dynamic),
        ];
        for (name, back) in codes {
            let decibels = |x: &Array1<f32>| -> Result<f64, QuantError> {
                Ok(report::compare(&x.clone().into_dyn(), &back(x)?)?.signal_to_noise)
            };
            println!(
                "{name:11}  {block:5}  {:10.2}  {:8.2}",
                decibels(&both)?,
                decibels(&one)?
            );
        }
    }
    Ok(())
}

/// What comes back.
type Code<'a> = dyn Fn(&Array1<f32>) -> Result<ArrayD<f32>, QuantError> + 'a;
