//! Products in eight bits: inputs without and with a column of outliers.

use llm_numerics::philox::Philox4x32;
use llm_quant::QuantError;
use llm_quant::four_bit::NonFinite;
use llm_quant::int8_matmul::{self, EXACT_FACTOR, Int8MatmulConfig};
use llm_quant::vector_wise::{self, InputConfig};
use ndarray::{Array2, Axis};

fn main() -> Result<(), QuantError> {
    let random = |key: u64, rows: usize| {
        let random = Philox4x32::new(key);
        Array2::from_shape_fn([rows, 512], |(i, j)| {
            random.normal_f64(i as u64, j as u64) as f32
        })
    };
    // ANCHOR: data
    let (even, weights) = (random(1, 32), random(2, 256));
    let mut far = even.clone();
    far.index_axis_mut(Axis(1), 7).mapv_inplace(|x| 60.0 + x); // one column of 512
    // ANCHOR_END: data
    println!("threshold  even inputs  with a column of outliers");
    // ANCHOR: products
    let rows = vector_wise::quantize(&weights, NonFinite::Refuse)?;
    for threshold in [0.0, 6.0] {
        let config = Int8MatmulConfig::new(threshold, EXACT_FACTOR);
        let error = |x: &Array2<f32>| -> Result<f64, QuantError> {
            let off = int8_matmul::forward(x, &rows, &config)? - x.dot(&weights.t());
            Ok(100.0 * size(&off) / size(&even.dot(&weights.t())))
        };
        println!(
            "{threshold:9}  {:9.2} %  {:23.2} %",
            error(&even)?,
            error(&far)?
        );
    }
    // ANCHOR_END: products
    let split = vector_wise::quantize_inputs(&far, &InputConfig::new(6.0))?;
    println!("outliers: columns {:?}", split.outliers);
    Ok(())
}

/// Root of the mean square.
fn size(x: &Array2<f32>) -> f64 {
    let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    (squares / x.len() as f64).sqrt()
}
