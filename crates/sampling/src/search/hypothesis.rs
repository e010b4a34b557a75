//! What a search by beams returns.

use core::cmp::Ordering;

use crate::generate::StopReason;

/// A whole sequence that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The new tokens, without the prompt; a stop token is the last.
    pub tokens: Vec<u32>,
    /// What hypotheses are ordered by: [`sum`](Self::sum) after the length rule.
    pub score: f64,
    /// What the search added up: the log-probabilities, less the penalties of a diverse search, in nats.
    pub sum: f64,
    /// Log-probability of each token, as the processors left it.
    pub log_probabilities: Vec<f64>,
    /// The row of the logits that each token was chosen from: prompt times beams plus beam.
    pub beam_indices: Vec<usize>,
    /// Why there are no more tokens.
    pub stop: StopReason,
    /// Constraints that the tokens do not fulfill; 0 in a search without constraints.
    pub unmet: usize,
}

impl Hypothesis {
    /// Better ones first: fewer unmet constraints, then the higher score.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let scores = other.score.partial_cmp(&self.score);
        self.unmet
            .cmp(&other.unmet)
            .then(scores.unwrap_or(Ordering::Equal))
    }
}
