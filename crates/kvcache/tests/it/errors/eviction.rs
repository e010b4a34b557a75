//! What the eviction policies refuse.

use llm_kvcache::KvCacheError;
use llm_kvcache::eviction::{SnapKvConfig, accumulate, heavy_hitters, snapkv};
use ndarray::Array3;

#[test]
fn scores_that_are_no_numbers_are_refused() {
    let error = KvCacheError::ScoreNan { token: 1 };
    assert_eq!(heavy_hitters(&[0.0, f64::NAN], 1, 1), Err(error));
    let mut weights = Array3::zeros([1, 1, 4]);
    weights[[0, 0, 1]] = f64::NAN;
    assert_eq!(snapkv(&weights, &SnapKvConfig::new(2, 1, 3)), Err(error));
    assert_eq!(
        heavy_hitters(&[f64::INFINITY, f64::NEG_INFINITY, 0.0], 1, 0),
        Ok(vec![0])
    );
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let setting = |name, rule, got| KvCacheError::Setting { name, rule, got };
    let weights = Array3::zeros([1, 2, 4]);
    let run = |config| snapkv(&weights, &config);
    assert_eq!(
        run(SnapKvConfig::new(3, 2, 2)),
        Err(setting("kernel", "odd", 2))
    );
    assert_eq!(
        run(SnapKvConfig::new(1, 2, 1)),
        Err(setting("observation", "at most budget", 2))
    );
    let error = KvCacheError::Scores {
        name: "weights",
        expected: [1, 3, 4],
        got: [1, 2, 4],
    };
    assert_eq!(run(SnapKvConfig::new(3, 3, 1)), Err(error));
    assert_eq!(
        run(SnapKvConfig::new(3, 2, usize::MAX)).map(|keep| keep.len()),
        Ok(3)
    );
}

#[test]
fn fewer_keys_than_scores_are_refused() {
    let mut scores = vec![1.0, 2.0, 3.0];
    let error = KvCacheError::Scores {
        name: "weights",
        expected: [1, 1, 3],
        got: [1, 1, 2],
    };
    assert_eq!(
        accumulate(&mut scores, &Array3::zeros([1, 1, 2])),
        Err(error)
    );
    assert_eq!(scores, [1.0, 2.0, 3.0]);
}
