//! A draw depends on key, stream and index alone: threads and order do not matter.

use llm_numerics::{philox::Philox4x32, threads};

fn main() {
    let random = Philox4x32::new(2024);
    let draw = |i: u64| random.uniform_f64(0, i);

    let in_order: Vec<f64> = (0..8).map(draw).collect();
    let on_threads = threads::map((0..8).collect(), draw);
    assert_eq!(in_order, on_threads);
    for (i, u) in in_order.iter().enumerate() {
        println!("draw {i}: {u:.6}");
    }
}
