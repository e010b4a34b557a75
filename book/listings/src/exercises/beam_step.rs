//! Exercise of the page on beam search: one step without ends.

// ANCHOR: exercise
/// The best `width` continuations of all beams together, the best first: beam, token and new sum.
///
/// `sums` has the sum of each beam so far, `log_p` the log-probabilities of its next token. Of equals the lower beam comes first, then the
/// lower token.
#[must_use]
pub fn beam_step(sums: &[f64], log_p: &[Vec<f64>], width: usize) -> Vec<(usize, usize, f64)> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let mut all = Vec::new();
    for (beam, row) in log_p.iter().enumerate() {
        for (token, log_p) in row.iter().enumerate() {
            all.push((beam, token, sums[beam] + log_p));
        }
    }
    all.sort_by(|a, b| b.2.total_cmp(&a.2)); // equals stay in their order
    all.truncate(width);
    all
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_sampling::search::beam::{BeamConfig, BeamSearch};
    use ndarray::Array2;

    use super::beam_step;
    use crate::cat::{model, unchanged};

    // ANCHOR: tests
    #[test]
    fn one_beam_may_take_all_places() {
        let log_p = vec![vec![-0.5, -0.6], vec![-0.1, -3.0]];
        let beams: Vec<(usize, usize)> = beam_step(&[-1.0, -2.0], &log_p, 2)
            .into_iter()
            .map(|(beam, token, _)| (beam, token))
            .collect();
        assert_eq!(beams, [(0, 0), (0, 1)]);
    }

    #[test]
    fn the_crate_agrees() {
        let config = BeamConfig::textbook(3, 5).with_n_return(3);
        let mut search = BeamSearch::new(&[[0]], &config).unwrap();
        let (mut beams, mut sums) = (vec![vec![0_u32]], vec![0.0]);
        while !search.is_done() {
            let last: Vec<u32> = beams.iter().map(|beam| beam[beam.len() - 1]).collect();
            let log_p: Array2<f64> = model(&last);
            let rows: Vec<Vec<f64>> = log_p.outer_iter().map(|row| row.to_vec()).collect();
            let best = beam_step(&sums, &rows, 3);
            sums = best.iter().map(|(_, _, sum)| *sum).collect();
            let longer = best.iter().map(|(beam, token, _)| {
                let mut tokens = beams[*beam].clone();
                tokens.push(*token as u32);
                tokens
            });
            beams = longer.collect();
            search.step(&model(&search.tokens()), &unchanged).unwrap();
        }
        for ((found, beam), sum) in search.finish()[0].iter().zip(&beams).zip(&sums) {
            assert_eq!(found.tokens, beam[1..]);
            assert!((found.sum - sum).abs() < 1e-12);
        }
    }
    // ANCHOR_END: tests
}
