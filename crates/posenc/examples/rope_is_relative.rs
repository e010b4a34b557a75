//! Shows that the score of a rotated query and key depends on their distance only.

use llm_posenc::rope::{self, RopeConfig, RopePairing};
use ndarray::{Array4, array, s};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = RopeConfig::new(64, RopePairing::HalfSplit);
    // One head, two tokens: a query and a key that point the same way.
    let qk = Array4::<f64>::from_elem((1, 1, 2, 64), 0.125); // [batch, heads, seq, head_dim]

    // ANCHOR: scores
    println!("distance   from 0   from 100   from 100000");
    for distance in [0, 1, 2, 5, 10, 50] {
        let mut scores = Vec::new();
        for start in [0, 100, 100_000] {
            let turned = rope::apply_at(&qk, &array![start + distance, start], &config)?;
            let query = turned.slice(s![0, 0, 0, ..]);
            let key = turned.slice(s![0, 0, 1, ..]);
            scores.push((&query * &key).sum());
        }
        println!(
            "{distance:8} {:8.4} {:10.4} {:13.4}",
            scores[0], scores[1], scores[2]
        );
        assert!(scores.iter().all(|score| (score - scores[0]).abs() < 1e-5));
    }
    // ANCHOR_END: scores
    println!("Each row has one score: only the distance matters.");
    Ok(())
}
