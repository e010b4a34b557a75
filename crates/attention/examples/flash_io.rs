//! How much attention moves between slow and fast memory: the standard form and both generations of `FlashAttention`.
//!
//! ```sh
//! cargo run -p llm-attention --example flash_io
//! ```

use llm_attention::io_count::{self, IoCount, Sizes, Tiles};
use ndarray::Array2;

const HEAD_DIM: usize = 64;
/// Numbers that fit into fast memory.
const MEMORY: usize = 1 << 16;

fn main() -> Result<(), llm_attention::AttentionError> {
    // Counted while it runs.
    let x = Array2::from_shape_fn((512, HEAD_DIM), |(t, i)| {
        ((t * 7 + i * 3) % 11) as f64 / 11.0
    });
    let (want, _) = io_count::standard(&x, &x, &x)?;
    let (first, io1) = io_count::flash1(&x, &x, &x, Tiles::for_flash1(MEMORY, HEAD_DIM))?;
    let (second, _, io2) = io_count::flash2(&x, &x, &x, Tiles::for_flash2(MEMORY, HEAD_DIM))?;
    for (name, out, io) in [("first", first, io1), ("second", second, io2)] {
        let error = (&out - &want)
            .iter()
            .fold(0.0, |max: f64, x| max.max(x.abs()));
        println!(
            "{name} generation: {} read, {} written, largest difference {error:.1e}",
            io.read, io.written
        );
    }

    // The same numbers without running, for lengths that would take a while.
    println!("\n  tokens   standard    first   second   (millions of elements)");
    for power in [9, 11, 13, 15, 17] {
        let seq = 1 << power;
        let sizes = Sizes {
            seq,
            kv_seq: seq,
            head_dim: HEAD_DIM,
            value_dim: HEAD_DIM,
        };
        let [standard, first, second] = [
            IoCount::of_standard(sizes),
            IoCount::of_flash1(sizes, Tiles::for_flash1(MEMORY, HEAD_DIM)),
            IoCount::of_flash2(sizes, Tiles::for_flash2(MEMORY, HEAD_DIM)),
        ]
        .map(|io| io.total() as f64 / 1e6);
        println!("{seq:8} {standard:10.1} {first:8.1} {second:8.1}");
    }
    Ok(())
}
