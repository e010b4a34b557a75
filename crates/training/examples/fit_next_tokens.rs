//! Fits a table of next-token logits to a line of tokens: the whole training loop without a model.
//!
//! Run with `cargo run -p llm-training --example fit_next_tokens`.

use llm_training::adamw::{self, AdamWConfig};
use llm_training::clip::{self, NonFinite, NormType};
use llm_training::cross_entropy::{self, CrossEntropyConfig};
use llm_training::schedule::Schedule;
use ndarray::{Array1, Array2, Axis};

fn main() -> Result<(), llm_training::TrainingError> {
    let text = "the cat sat on the mat and the rat sat on the cat";
    let letters: Vec<char> = ('a'..='z').chain([' ']).collect();
    let ids: Vec<usize> = text
        .chars()
        .filter_map(|c| letters.iter().position(|letter| *letter == c))
        .collect();
    let vocab = letters.len();
    let labels: Array1<i64> = ids[1..].iter().map(|&id| id as i64).collect();

    let mut table = Array2::<f32>::zeros((vocab, vocab)); // logits of the next token
    let (mut m, mut v) = (table.clone(), table.clone());
    let n_steps = 100;
    let schedule = Schedule::Cosine {
        n_warmup_steps: 10,
        n_training_steps: n_steps,
        n_cycles: 0.5,
    };
    for step in 0..n_steps {
        // Forward: one row of the table per token. Backward: rows are added up.
        let logits = table.select(Axis(0), &ids[..ids.len() - 1]); // [tokens, vocab]
        let (loss, dlogits) =
            cross_entropy::loss_and_grad(&logits, &labels, None, &CrossEntropyConfig::torch())?;
        let mut grad = Array2::zeros((vocab, vocab)).into_dyn();
        for (row, &id) in dlogits.rows().into_iter().zip(&ids) {
            let mut to = grad.index_axis_mut(Axis(0), id);
            to += &row;
        }
        let norm = clip::clip_norm(&mut [grad.view_mut()], 0.1, NormType::L2, NonFinite::Error)?;
        let lr = schedule.learning_rate(0.3, step);
        if step % 20 == 0 || step + 1 == n_steps {
            println!(
                "step {step:3}: loss {loss:.4}, gradient norm {norm:.4}, learning rate {lr:.4}"
            );
        }
        let mut param = table.view_mut().into_dyn();
        let (mut m, mut v) = (m.view_mut().into_dyn(), v.view_mut().into_dyn());
        adamw::step(
            &mut param,
            &grad,
            &mut m,
            &mut v,
            step + 1,
            lr,
            &AdamWConfig::new(),
        )?;
    }
    Ok(())
}
