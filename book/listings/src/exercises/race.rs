//! Exercise of the page on randomness: clocks that race.

// ANCHOR: exercise
/// The token whose clock rings first. The clock of token `i` rings at `-ln u[i] / p[i]`, and never where `p[i]` is 0.
///
/// The numbers `u` are above 0 and below 1; at least one `p[i]` is above 0.
#[must_use]
pub fn race(p: &[f64], u: &[f64]) -> usize {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let rings = |i: usize| -u[i].ln() / p[i]; // a positive number divided by 0 is infinite
    let first = (0..p.len()).min_by(|&i, &j| rings(i).total_cmp(&rings(j)));
    first.unwrap_or(0)
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_sampling::{RowRandom, exponential_race, gumbel_max};
    use ndarray::Array1;

    use super::race;

    // ANCHOR: tests
    #[test]
    fn a_faster_clock_wins_at_equal_numbers() {
        assert_eq!(race(&[0.2, 0.5, 0.3], &[0.4; 3]), 1);
        assert_eq!(race(&[0.0, 1e-9], &[0.999, 0.001]), 1);
        // -ln 0.9 / 0.2 = 0.53 and -ln 0.4 / 0.8 = 1.15
        assert_eq!(race(&[0.2, 0.8], &[0.9, 0.4]), 0);
    }

    #[test]
    fn the_crate_agrees() {
        let p = [0.4, 0.3, 0.2, 0.1];
        let row: Array1<f64> = p.iter().map(|p: &f64| p.ln()).collect();
        for step in 0..200 {
            let random = RowRandom::new(1, 0, step);
            let u: Vec<f64> = (0..4).map(|id| gumbel_max::uniform(random, id)).collect();
            let draw = exponential_race::draw(&row, random).unwrap();
            assert_eq!(race(&p, &u), draw.token as usize);
        }
    }
    // ANCHOR_END: tests
}
