//! What a product with packed weights moves, beside the same product in 16 bits and after unpacking.

use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
use llm_quant::{QuantError, matmul};
use ndarray::Array2;

/// Rows and columns of a layer.
const SIZE: usize = 1024;

fn main() -> Result<(), QuantError> {
    let weights = Array2::from_shape_fn([SIZE, SIZE], |(i, j)| {
        ((i * 31 + j * 17) % 101) as f32 / 50.0 - 1.0
    });
    let packed = four_bit::quantize(&weights, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
    let packed = double::compress(packed, EightBitSearch::Nearest)?;
    let x = Array2::<f32>::ones([3, SIZE]);
    assert_eq!(matmul::forward(&x, &packed)?.dim(), (3, SIZE));
    println!("MB moved, and operations a byte");
    println!("rows of x      in 16 bits      packed   unpacked first");
    for seq in [1, 16, 256, 4096] {
        // ANCHOR: traffic
        let vectors = (2 * seq * SIZE * 4) as f64; // x is read and y written, in 32 bits
        let half = (2 * weights.len()) as f64; // weights in 16 bits
        let few = packed.bytes() as f64;
        // Packed weights are read, the matrix is written in 16 bits, and read again.
        let moved = [half, few, few + half + half].map(|bytes| bytes + vectors);
        let flops = (2 * seq * weights.len()) as f64;
        // ANCHOR_END: traffic
        let [half, few, unpacked] =
            moved.map(|bytes| format!("{:5.2} {:6.1}", bytes / 1e6, flops / bytes));
        println!("{seq:9}  {half:>14}  {few:>10}  {unpacked:>15}");
    }
    Ok(())
}
