//! What one head of attention moves between slow and fast memory.

use llm_attention::io_count::{IoCount, Sizes, Tiles};

fn main() {
    // ANCHOR: count
    let (head_dim, memory) = (64, 65536);
    println!("tokens  standard  first  second   (millions of elements)");
    for seq in [512, 2048, 8192, 32768] {
        let sizes = Sizes {
            seq,
            kv_seq: seq,
            head_dim,
            value_dim: head_dim,
        };
        let counts = [
            IoCount::of_standard(sizes),
            IoCount::of_flash1(sizes, Tiles::for_flash1(memory, head_dim)),
            IoCount::of_flash2(sizes, Tiles::for_flash2(memory, head_dim)),
        ];
        let [standard, first, second] = counts.map(|io| io.total() as f64 / 1e6);
        println!("{seq:6} {standard:9.1} {first:6.1} {second:7.1}");
    }
    // ANCHOR_END: count
}
