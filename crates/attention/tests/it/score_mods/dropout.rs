//! How many weights dropout drops, and which one at the threshold.

use llm_attention::{AttentionConfig, Dropout, Mask, ScoreMods, score_mods};
use llm_numerics::philox::Philox4x32;
use ndarray::Array4;

/// The share of dropped weights is the rate, to some standard deviations.
#[test]
fn dropout_drops_its_share() {
    let (n, keys) = (128, 256);
    let q = Array4::<f64>::zeros((1, 1, n, 1));
    let k = Array4::zeros((1, 1, keys, 1));
    let v = Array4::from_shape_fn((1, 1, keys, keys), |(_, _, i, j)| {
        f64::from(u8::from(i == j))
    });
    let config = AttentionConfig::new(Mask::Full);
    for rate in [0.1, 0.5, 0.83] {
        let dropout = Dropout {
            rate,
            key: 5,
            offset: 77,
        };
        let mods = ScoreMods::new().with_dropout(dropout);
        let (out, _) = score_mods::forward(&q, &k, &v, &mods, &config).unwrap();
        let n_weights = (n * keys) as f64;
        let dropped = out.iter().filter(|x| **x == 0.0).count() as f64 / n_weights;
        let deviation = (rate * (1.0 - rate) / n_weights).sqrt();
        assert!(
            (dropped - rate).abs() < 4.0 * deviation,
            "{rate}: {dropped}"
        );
        let kept = 1.0 / (keys as f64 * (1.0 - rate));
        assert!(
            out.iter()
                .all(|x| *x == 0.0 || (x / kept - 1.0).abs() < 1e-12)
        );
    }
}

/// A word that equals the threshold stays, and the threshold is rounded to the nearest integer.
#[test]
fn a_word_at_the_threshold_stays() {
    let one = Array4::<f64>::ones((1, 1, 1, 1));
    let (key, offset) = (5, 77);
    let word = f64::from(Philox4x32::new(key).u32_at(offset, 0));
    for (threshold, stays) in [
        (word - 0.75, true),
        (word - 0.25, true),
        (word, true),
        (word + 0.25, true),
        (word + 0.75, false),
        (word + 1.0, false),
    ] {
        let rate = threshold / 2_f64.powi(32); // exact
        let mods = ScoreMods::new().with_dropout(Dropout { rate, key, offset });
        let config = AttentionConfig::new(Mask::Full);
        let (out, _) = score_mods::forward(&one, &one, &one, &mods, &config).unwrap();
        let want = if stays { 1.0 / (1.0 - rate) } else { 0.0 };
        assert_eq!(out[[0, 0, 0, 0]], want, "{threshold}");
    }
}
