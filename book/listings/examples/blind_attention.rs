//! Attention without positions cannot tell one order of the tokens from another.

use std::error::Error;

use llm_attention::{AttentionConfig, Mask, flash};
use ndarray::{Array4, Axis};

fn main() -> Result<(), Box<dyn Error>> {
    let q = Array4::from_shape_fn((1, 1, 1, 4), |(.., i)| (i as f32).cos());
    // ANCHOR: shuffle
    // Three tokens before the query, and the same three in another order.
    let k = Array4::from_shape_fn((1, 1, 3, 4), |(.., t, i)| (t + 2 * i) as f32 / 4.0);
    let v = Array4::from_shape_fn((1, 1, 3, 4), |(.., t, i)| (3 * t + i) as f32);
    let shuffled = |x: &Array4<f32>| x.select(Axis(2), &[2, 0, 1]);

    let config = AttentionConfig::new(Mask::Full);
    let before = flash::forward(&q, &k, &v, &config)?;
    let after = flash::forward(&q, &shuffled(&k), &shuffled(&v), &config)?;
    // ANCHOR_END: shuffle
    println!("in order: {:.4}", before.flatten());
    println!("shuffled: {:.4}", after.flatten());
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5));
    Ok(())
}
