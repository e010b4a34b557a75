//! Allowed tokens, over the beams of one sequence.

/// `-inf` for tokens that are not in the row's list; if no beam has one left, 0 for those that are.
#[must_use]
pub fn apply(beams: &[Vec<f64>], allowed: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let pairs = || beams.iter().zip(allowed);
    let masked: Vec<Vec<f64>> = pairs()
        .map(|(row, ids)| {
            let keep = |i: usize| ids.contains(&(i as u32));
            (0..row.len())
                .map(|i| if keep(i) { row[i] } else { f64::NEG_INFINITY })
                .collect()
        })
        .collect();
    if masked.iter().flatten().any(|x| *x > f64::NEG_INFINITY) {
        return masked;
    }
    pairs()
        .map(|(row, ids)| super::masks::force(row.len(), ids))
        .collect()
}
