//! Rows of logits, and how they are compared.

use anyhow::{Result, bail};
use llm_numerics::philox::Philox4x32;
use ndarray::Array2;

use crate::case::Setup;

/// Token ids of Qwen 2.5.
pub(super) use crate::limits::ROW as VOCAB;
/// Tokens that occurred before the step.
pub(super) const TOKENS: usize = 512;
/// Standard deviation of the logits.
const DEVIATION: f64 = 3.0;

/// `[rows, vocab]`, normal, more than twice the cache. Each row is the one before moved by one token, with another in its place.
pub(super) fn logits(setup: &Setup) -> Result<Array2<f32>> {
    let rows = setup.sets(VOCAB * size_of::<f32>()).next_multiple_of(4);
    let values = normal(VOCAB + rows);
    let mut all = Vec::with_capacity(rows * VOCAB);
    for row in 0..rows {
        all.extend_from_slice(&values[row..row + VOCAB]);
    }
    Ok(Array2::from_shape_vec([rows, VOCAB], all)?)
}

/// Box and Muller's way from two uniform numbers to a normal one.
fn normal(len: usize) -> Vec<f32> {
    let random = Philox4x32::new(2026);
    let one = |i: u64| {
        let radius = (-2.0 * (1.0 - random.uniform_f64(20, i)).ln()).sqrt();
        let angle = core::f64::consts::TAU * random.uniform_f64(21, i);
        (DEVIATION * radius * angle.cos()) as f32
    };
    (0..len as u64).map(one).collect()
}

/// Tokens that occurred, some of them several times; every fourth is one of the likeliest of the row, so that penalties change the result.
pub(super) fn tokens(row: &[f32]) -> Vec<u32> {
    let mut likely: Vec<u32> = (0..row.len() as u32).collect();
    likely.sort_by(|&i, &j| row[j as usize].total_cmp(&row[i as usize]));
    (0..TOKENS)
        .map(|i| match i % 4 {
            0 => likely[i % 48],
            _ => (i % 400 * 379 % row.len()) as u32,
        })
        .collect()
}

/// Fails unless the same tokens are masked and the logits of the others differ by at most `tolerance`.
pub(super) fn same(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<()> {
    if got.len() != want.len() {
        bail!("{what}: the rows have different lengths; nothing was timed");
    }
    for (token, (got, want)) in got.iter().zip(want).enumerate() {
        if *got == f64::NEG_INFINITY && got == want || (got - want).abs() <= tolerance {
            continue;
        }
        bail!(
            "{what}: token {token} must have {want} within {tolerance:e}, got {got}; nothing was timed"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKED: f64 = f64::NEG_INFINITY;

    #[test]
    fn masked_tokens_must_be_the_same() {
        let want = [1.0, MASKED, 2.0];
        assert!(same("x", &[1.0, MASKED, 2.05], &want, 0.1).is_ok());
        for wrong in [
            [1.0, MASKED, MASKED],
            [1.0, -9.0, 2.0],
            [1.0, MASKED, 2.2],
            [f64::NAN, MASKED, 2.0],
        ] {
            assert!(same("x", &wrong, &want, 0.1).is_err(), "{wrong:?}");
        }
        assert!(same("x", &[1.0, MASKED], &want, 0.1).is_err());
    }

    #[test]
    fn logits_have_the_deviation_that_was_asked_for() {
        let values = normal(20_000);
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
        // Five standard errors: 3 / sqrt(n) and 9 sqrt(2 / n).
        assert!(mean.abs() < 0.11, "{mean}");
        assert!((square - 9.0).abs() < 0.45, "{square}");
    }
}
