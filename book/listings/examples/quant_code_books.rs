//! Five codes with four bits, over three kinds of weights.

use llm_numerics::philox::Philox4x32;
use llm_quant::af4::{self, ZeroCell};
use llm_quant::code_book::{self, CodeBook, CodeBookConfig, LearnConfig};
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme};
use llm_quant::{QuantError, nf4, report};
use ndarray::{Array1, ArrayD};

const BLOCK: usize = 64;

fn main() -> Result<(), QuantError> {
    let random = Philox4x32::new(1);
    let weights = |number: &dyn Fn(u64) -> f64| -> Array1<f32> {
        (0..1 << 15).map(|i| number(i) as f32).collect()
    };
    // ANCHOR: weights
    let normal = weights(&|i| random.normal_f64(0, i));
    let uniform = weights(&|i| random.uniform_f64(1, i) - 0.5);
    // Half of the weights ten times as wide as the others: heavy tails.
    let mixed = weights(&|i| random.normal_f64(2, i) * if i % 2 == 0 { 1.0 } else { 0.1 });
    // ANCHOR_END: weights
    println!("signal to noise in decibels");
    println!("code       normal  uniform  mixed");
    // ANCHOR: codes
    let nf4 = CodeBook::new(nf4::code())?;
    let af4 = CodeBook::new(af4::code(BLOCK, ZeroCell::Nearest)?)?;
    let learn = LearnConfig::new(nf4, BLOCK).with_iterations(30);
    let codes: [(&str, &Code); 5] = [
        ("NF4", &|x| coded(x, &nf4)),
        ("AF4", &|x| coded(x, &af4)),
        ("learnt", &|x| coded(x, &code_book::learn(x, &learn)?)),
        ("FP4", &fp4),
        ("integers", &integers),
    ];
    // ANCHOR_END: codes
    for (name, back) in codes {
        let [normal, uniform, mixed] = [&normal, &uniform, &mixed].map(|x| decibels(x, back));
        println!(
            "{name:8}  {:7.2}  {:7.2}  {:5.2}",
            normal?, uniform?, mixed?
        );
    }
    Ok(())
}

/// What comes back.
type Code<'a> = dyn Fn(&Array1<f32>) -> Result<ArrayD<f32>, QuantError> + 'a;

fn coded(x: &Array1<f32>, book: &CodeBook) -> Result<ArrayD<f32>, QuantError> {
    code_book::dequantize(&code_book::quantize(x, &CodeBookConfig::new(*book, BLOCK))?)
}

fn fp4(x: &Array1<f32>) -> Result<ArrayD<f32>, QuantError> {
    let config = FourBitConfig::new(FourBitCode::Fp4, BLOCK);
    four_bit::dequantize(&four_bit::quantize(x, &config)?)
}

fn integers(x: &Array1<f32>) -> Result<ArrayD<f32>, QuantError> {
    let config = IntegerConfig::new(IntegerBits::Four, IntegerScheme::Symmetric, BLOCK);
    integer::dequantize(&integer::quantize(x, &config)?)
}

fn decibels(x: &Array1<f32>, back: &Code<'_>) -> Result<f64, QuantError> {
    let exact = x.clone().into_dyn();
    Ok(report::compare(&exact, &back(x)?)?.signal_to_noise)
}
