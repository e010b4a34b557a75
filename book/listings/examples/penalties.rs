//! Penalties on the tokens 0 and 3 of a row, and the same after a shift of all logits.

use llm_blocks_listings::left::written;
use llm_sampling::presence_frequency::PresenceFrequency;
use llm_sampling::repetition_penalty::{PenaltyWindow, RepetitionPenalty};
use llm_sampling::{Candidates, Context, Processor, SamplingError};

fn main() -> Result<(), SamplingError> {
    // ANCHOR: penalties
    let repetition = RepetitionPenalty::new(1.3, PenaltyWindow::All)?;
    let presence_frequency = PresenceFrequency::new(0.2, 0.3, PenaltyWindow::All)?;
    let processors: [(&str, &dyn Processor<f64>); 2] = [
        ("repetition", &repetition),
        ("presence, frequency", &presence_frequency),
    ];
    let context = Context::new(&[0, 3], &[0]); // token 0 came twice, token 3 once
    for (name, processor) in processors {
        for shift in [0.0, -2.0] {
            let row = [2.0, 1.0, 0.0, -1.0].map(|x| x + shift);
            let mut candidates = Candidates::new();
            candidates.fill(&row)?;
            processor.apply(&mut candidates, &context)?;
            println!("{name}, shift {shift}: {}", written(&mut candidates)?);
        }
    }
    // ANCHOR_END: penalties
    Ok(())
}
