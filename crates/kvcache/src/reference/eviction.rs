//! Eviction policies by counting: a token stays if fewer than so many are better.

/// H2O: of the tokens before the last `n_recent`, those that fewer than `n_heavy` others beat.
#[must_use]
pub fn heavy_hitters(scores: &[f64], n_heavy: usize, n_recent: usize) -> Vec<usize> {
    let is_recent = move |i: usize| i + n_recent >= scores.len();
    let beats =
        move |a: usize, b: usize| scores[a] > scores[b] || (scores[a] == scores[b] && a > b);
    let rank = |i: usize| (0..scores.len()).filter(move |&j| !is_recent(j) && beats(j, i));
    (0..scores.len())
        .filter(|&i| is_recent(i) || rank(i).count() < n_heavy)
        .collect()
}

/// `SnapKV` of weights `[heads][observation][kv_seq]`: votes, their maximum nearby, and then as above.
#[must_use]
pub fn snapkv(weights: &[Vec<Vec<f64>>], budget: usize, kernel: usize) -> Vec<usize> {
    let observation = weights.first().map_or(0, Vec::len);
    let rows: Vec<&Vec<f64>> = weights.iter().flatten().collect();
    let kv_seq = rows.first().map_or(0, |row| row.len());
    let older = kv_seq.saturating_sub(observation);
    let vote = |i: usize| rows.iter().map(|row| row[i]).sum::<f64>();
    let pool = |i: usize| {
        let near = (0..older).filter(|&j| j.abs_diff(i) <= kernel / 2);
        near.map(vote).fold(f64::NEG_INFINITY, f64::max)
    };
    let mut scores: Vec<f64> = (0..older).map(pool).collect();
    scores.resize(kv_seq, 0.0);
    heavy_hitters(&scores, budget.saturating_sub(observation), observation)
}
