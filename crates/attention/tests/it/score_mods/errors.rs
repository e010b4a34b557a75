//! What the modifications refuse.

use llm_attention::{
    AlibiOrigin, AttentionConfig, AttentionError, Dropout, Mask, MaskPolarity, ScoreMods,
    reference, score_mods,
};
use ndarray::{Array1, Array3, Array4};

const FULL: AttentionConfig = AttentionConfig::new(Mask::Full);

/// Forward, backward and the reference refuse alike.
fn refused(mods: &ScoreMods<'_, f64>) -> AttentionError {
    let q = Array4::<f64>::ones((2, 4, 3, 8));
    let k = Array4::ones((2, 2, 5, 8));
    let lse = Array3::zeros((2, 4, 3));
    let error = score_mods::forward(&q, &k, &k, mods, &FULL).unwrap_err();
    let got = score_mods::backward(&q, &q, &k, &k, &q, &lse, mods, &FULL).unwrap_err();
    assert_eq!(got, error);
    let got = reference::score_mods::forward(&q, &k, &k, mods, &FULL).unwrap_err();
    assert_eq!(got, error);
    let got = reference::score_mods::backward(&q, &q, &k, &k, mods, &FULL).unwrap_err();
    assert_eq!(got, error);
    error
}

#[test]
fn slopes_must_be_as_many_as_heads() {
    for got in [0, 1, 2, 5] {
        let slopes = Array1::zeros(got);
        let error = refused(&ScoreMods::new().with_alibi(&slopes, AlibiOrigin::KeyIndex));
        assert_eq!(error, AttentionError::Slopes { n_heads: 4, got });
    }
    assert_eq!(
        AttentionError::Slopes { n_heads: 4, got: 2 }.to_string(),
        "slopes must have one number for each of 4 query heads, got 2"
    );
}

#[test]
fn biases_and_masks_must_fit_the_scores() {
    for got in [
        [3, 4, 3, 5],
        [2, 2, 3, 5],
        [1, 1, 2, 5],
        [1, 1, 3, 3],
        [2, 4, 3, 0],
        [0, 1, 1, 1],
    ] {
        let want = |name| AttentionError::Broadcast {
            name,
            expected: [2, 4, 3, 5],
            got,
        };
        let bias = Array4::zeros(got);
        assert_eq!(refused(&ScoreMods::new().with_bias(&bias)), want("bias"));
        let mask = Array4::from_elem(got, true);
        let mods = ScoreMods::new().with_mask(&mask, MaskPolarity::TrueAttends);
        assert_eq!(refused(&mods), want("mask"));
    }
    let error = AttentionError::Broadcast {
        name: "bias",
        expected: [2, 4, 3, 5],
        got: [2, 2, 3, 5],
    };
    assert_eq!(
        error.to_string(),
        "each axis of bias must be 1 or as in [2, 4, 3, 5], got shape [2, 2, 3, 5]"
    );
}

#[test]
fn a_rate_must_leave_something() {
    for rate in [1.0, 1.5, -0.1, f64::NAN, f64::INFINITY] {
        let dropout = Dropout {
            rate,
            key: 0,
            offset: 0,
        };
        match refused_rate(dropout) {
            AttentionError::DropoutRate { got } => assert_eq!(got.to_bits(), rate.to_bits()),
            error => panic!("{error}"),
        }
    }
    assert_eq!(
        AttentionError::DropoutRate { got: 1.0 }.to_string(),
        "the dropout rate must be at least 0 and below 1, got 1"
    );
}

/// As `refused`, but NaN equals nothing.
fn refused_rate(dropout: Dropout) -> AttentionError {
    let q = Array4::<f64>::ones((1, 1, 1, 1));
    let mods = ScoreMods::new().with_dropout(dropout);
    reference::score_mods::forward(&q, &q, &q, &mods, &FULL).unwrap_err();
    score_mods::forward(&q, &q, &q, &mods, &FULL).unwrap_err()
}

#[test]
fn saved_arrays_must_have_their_shapes() {
    let q = Array4::<f64>::ones((1, 2, 3, 4));
    let mods = ScoreMods::new();
    let got = score_mods::backward(&q, &q, &q, &q, &q, &Array3::zeros((1, 2, 4)), &mods, &FULL);
    let want = AttentionError::LseShape {
        expected: [1, 2, 3],
        got: [1, 2, 4],
    };
    assert_eq!(got, Err(want));
}
