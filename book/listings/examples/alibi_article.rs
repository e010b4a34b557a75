//! The slopes of 8 heads and the distances of 10 tokens, as the article prints them.

use std::error::Error;

use llm_posenc::alibi::{self, AlibiOrigin};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: article
    let slopes = alibi::slopes(8, alibi::MAX_BIAS)?; // [heads]
    let bias = alibi::bias(&slopes, 10, 10, AlibiOrigin::PastDistance)?; // [heads, seq, kv_seq]
    println!("slopes {slopes}");
    println!("bias {:?}, distances:", bias.shape());
    for row in alibi::distances(10, 10, AlibiOrigin::PastDistance)?.rows() {
        println!("{row:3}");
    }
    // ANCHOR_END: article
    Ok(())
}
