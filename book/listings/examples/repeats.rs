//! What two rules say about the token that would continue a repeat, the longer the repeat gets.

use llm_sampling::dry::Dry;
use llm_sampling::no_repeat_ngram::NoRepeatNgram;
use llm_sampling::repetition_penalty::PenaltyWindow;
use llm_sampling::{Candidates, Context, Processor, SamplingError};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: repeats
    let ban = NoRepeatNgram::new(4)?;
    let dry = Dry::new(0.8, 1.75, 2, PenaltyWindow::All, &[])?;
    let first = [1, 2, 3, 4, 5, 0]; // and now the same again
    for n in 1..=5 {
        let (again, next) = (&first[..n], first[n]);
        let context = Context::new(&first, again);
        let logit = |processor: &dyn Processor<f64>| -> Result<f64, SamplingError> {
            let mut candidates = Candidates::new();
            candidates.fill(&[0.0; 6])?;
            processor.apply(&mut candidates, &context)?;
            Ok(candidates.logits()[next as usize])
        };
        let (ban, dry) = (logit(&ban)?, logit(&dry)?);
        println!("again {again:?}, then {next}: ban {ban:4}, DRY {dry:.2}");
    }
    // ANCHOR_END: repeats
    Ok(())
}
