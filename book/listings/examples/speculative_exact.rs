//! Speculative decoding on three tokens, counted exactly: every draft, and every pair of numbers on a grid that no border of the rule
//! lies on.

use llm_sampling::SamplingError;
use llm_sampling::search::speculative::{
    RowMode, accept_probabilities, accept_rate, residual, verify,
};
use ndarray::{Array, array};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: rule
    let p = array![0.5_f64, 0.3, 0.2]; // the target
    let q = array![0.2_f64, 0.2, 0.6]; // the draft
    println!("accepted with {:.3}", accept_probabilities(&p, &q)?);
    println!("drawn instead {:.3}", residual(&p, &q)?);
    println!("accepted in all {:.2}", accept_rate(&p, &q)?);
    // ANCHOR_END: rule
    // ANCHOR: count
    let grid: Vec<f64> = (0..60).map(|i| (f64::from(i) + 0.5) / 60.0).collect();
    let cell = 1.0 / 3600.0;
    let target = Array::from_shape_fn([1, 2, 3], |(_, _, token)| p[token].ln());
    let draft = Array::from_shape_fn([1, 1, 3], |(_, _, token)| q[token].ln());
    let mut found = [0.0; 3];
    for drafted in 0..3_u32 {
        for accept in &grid {
            for choose in &grid {
                let numbers = RowMode::Uniforms {
                    accept: &[*accept],
                    choose: &[*choose, 0.5],
                };
                let tokens = array![[drafted]];
                let verified = verify(&target, Some(&draft), &tokens, &[1], &[numbers])?;
                let first = verified[0].tokens[0] as usize;
                found[first] += q[drafted as usize] * cell;
            }
        }
    }
    println!("the first token is {found:.3?}");
    // ANCHOR_END: count
    Ok(())
}
