//! The best of many candidates.

use core::cmp::Ordering;

/// A token that may continue a beam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Which of the running beams of its row.
    pub(super) beam: usize,
    pub(super) token: u32,
    pub(super) log_probability: f64,
    /// The sum of the beam with this token.
    pub(super) sum: f64,
}

impl Candidate {
    /// The higher sum first; of equals, the lower beam, then the lower id.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let sums = other.sum.partial_cmp(&self.sum).unwrap_or(Ordering::Equal);
        sums.then(self.beam.cmp(&other.beam))
            .then(self.token.cmp(&other.token))
    }
}

/// Keeps the best `k` of the candidates that pass by.
#[derive(Debug)]
pub(super) struct Best {
    k: usize,
    /// Never more than twice `k`.
    list: Vec<Candidate>,
    /// The sum of the worst of `k` candidates that are surely better than the rest.
    bound: f64,
}

impl Best {
    pub(super) const fn new(k: usize) -> Self {
        Self {
            k,
            list: Vec::new(),
            bound: f64::NEG_INFINITY,
        }
    }

    /// A candidate of sum `-inf` is none.
    pub(super) fn push(&mut self, candidate: Candidate) {
        if candidate.sum < self.bound || candidate.sum == f64::NEG_INFINITY {
            return;
        }
        self.list.push(candidate);
        if self.list.len() >= self.k.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.list.len() > self.k {
            self.list
                .select_nth_unstable_by(self.k - 1, Candidate::order);
            self.list.truncate(self.k);
            self.bound = self.list[self.k - 1].sum;
        }
    }

    /// The candidates, the best first.
    pub(super) fn into_sorted(mut self) -> Vec<Candidate> {
        self.cut();
        self.list.sort_unstable_by(Candidate::order);
        self.list
    }
}
