//! One head, one position, two pair layouts: different numbers, and a permutation between them.

use std::error::Error;

use llm_posenc::rope::{self, RopeConfig, RopePairing};
use ndarray::{Array4, array};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: layouts
    let x = Array4::from_shape_fn((1, 1, 1, 8), |(.., i)| i as f64);
    for pairing in [RopePairing::Interleaved, RopePairing::HalfSplit] {
        let y = rope::apply_at(&x, &array![5], &RopeConfig::new(8, pairing))?;
        println!("{pairing:12?} {:7.3}", y.flatten());
    }
    // ANCHOR_END: layouts
    Ok(())
}
