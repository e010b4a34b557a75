//! Which distances share a bucket in T5.

use std::error::Error;

use llm_posenc::t5::{self, T5Config, T5Direction};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: buckets
    let config = T5Config::new(t5::N_BUCKETS, t5::MAX_DISTANCE, T5Direction::Causal)?;
    let bucket = |distance: i64| t5::bucket(-distance, &config);
    let mut first = 0;
    for distance in 1..=200 {
        if bucket(distance) != bucket(first) || distance == 200 {
            println!("bucket {:2}: from distance {first}", bucket(first));
            first = distance;
        }
    }
    // ANCHOR_END: buckets
    Ok(())
}
