//! A cached key moves to another position without being computed again.

use std::error::Error;

use llm_posenc::rope::{self, RopeConfig, RopePairing};
use ndarray::{Array4, array};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: reposition
    let config = RopeConfig::new(8, RopePairing::HalfSplit);
    let inv_freq = rope::inv_freq(&config)?;
    let key = Array4::from_shape_fn((1, 1, 1, 8), |(.., i)| i as f64);

    let cached = rope::apply_at(&key, &array![100], &config)?;
    let moved = rope::reposition(&cached, &array![-96], &inv_freq, config.pairing)?;
    let fresh = rope::apply_at(&key, &array![4], &config)?;
    // ANCHOR_END: reposition
    println!("cached at 100  {:7.3}", cached.flatten());
    println!("moved to 4     {:7.3}", moved.flatten());
    println!("fresh at 4     {:7.3}", fresh.flatten());
    assert!((moved - fresh).iter().all(|x| x.abs() < 1e-6));
    Ok(())
}
