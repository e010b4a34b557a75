//! A feed-forward block with its norm and residual, forward and backward, and one step downhill.
//!
//! Run with `cargo run -p llm-ffn --example swiglu_block`.

use llm_ffn::rms_norm;
use llm_ffn::swiglu::{self, SwigluWeights};
use ndarray::{Array1, Array2};

fn main() -> Result<(), llm_ffn::FfnError> {
    let (tokens, d_model, d_ff) = (4, 8, 24);
    let wave = |rows: usize, columns: usize, phase: f32| {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            ((i * columns + j) as f32 * 0.7 + phase).sin() * 0.2
        })
    };
    let x = wave(tokens, d_model, 0.0); // [tokens, d_model]
    let target = wave(tokens, d_model, 2.0);
    let norm = Array1::ones(d_model);
    let mut gate_up = wave(2 * d_ff, d_model, 1.0); // [2 * d_ff, d_model], gate first
    let mut down = wave(d_model, d_ff, 3.0); // [d_model, d_ff]

    let (normed, _) = rms_norm::forward_with_rstd(&x, &norm, 1e-6)?;
    for step in 0..=40 {
        let weights = SwigluWeights::new(
            gate_up.view(),
            down.view(),
            llm_ffn::glu::GluPacking::GateUp,
        )?;
        let (branch, saved) = swiglu::forward_saved(&normed, &weights)?;
        let error = &x + &branch - &target; // the residual stream after the block
        if step % 10 == 0 {
            let loss = error.mapv(|e| e * e).sum() / 2.0;
            println!("step {step:2}: loss {loss:.6}");
        }
        let gradients = swiglu::block_backward(&error, &normed, &weights, &saved)?;
        gate_up.scaled_add(-0.05, &gradients.dgate_up);
        down.scaled_add(-0.05, &gradients.ddown);
    }
    Ok(())
}
