//! One test for each error variant (alibi).

use llm_posenc::PosencError;
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding, MAX_HEADS};
use ndarray::{Array1, Array2, Array3, Array4, array};

const ORIGIN: AlibiOrigin = AlibiOrigin::SignedDistance;

#[test]
fn there_must_be_heads_and_not_absurdly_many() {
    for got in [0, MAX_HEADS + 1, usize::MAX] {
        let error = alibi::slopes(got, 8.0).unwrap_err();
        assert_eq!(error, PosencError::Heads { got });
    }
    let want = PosencError::Heads { got: 0 };
    let none = Array1::<f32>::zeros(0);
    assert_eq!(alibi::bias(&none, 2, 2, ORIGIN), Err(want.clone()));
    let positions = array![[0, 1]];
    assert_eq!(
        alibi::bias_at(&none, &positions, AlibiRounding::Product),
        Err(want.clone())
    );
    let dbias = Array3::<f32>::zeros((0, 2, 2));
    assert_eq!(alibi::backward(&dbias, ORIGIN), Err(want.clone()));
    let dbias = Array4::<f32>::zeros((1, 0, 1, 2));
    assert_eq!(alibi::backward_at(&dbias, &positions), Err(want.clone()));
    // A view that repeats one slope can have more heads than memory.
    let one = array![0.5_f32];
    let got = 1 << 61;
    let slopes = one.broadcast(got).unwrap();
    assert_eq!(
        alibi::bias(&slopes, 0, 0, ORIGIN),
        Err(PosencError::Heads { got })
    );
    assert_eq!(want.to_string(), "n_heads must be in 1..=65536, got 0");
}

#[test]
fn max_bias_must_be_finite_and_not_negative() {
    for got in [-1.0, -f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(alibi::slopes(4, got), Err(PosencError::MaxBias { got }));
    }
    let error = alibi::slopes(4, f64::NAN).unwrap_err();
    assert!(matches!(error, PosencError::MaxBias { got } if got.is_nan()));
    let message = PosencError::MaxBias { got: -1.0 }.to_string();
    assert_eq!(message, "max_bias must be finite and at least 0, got -1.0");
}

#[test]
fn slopes_must_be_finite_and_not_negative() {
    let positions = array![[0, 1]];
    for got in [-0.5, f32::INFINITY] {
        let slopes = array![0.5, 0.25, got];
        let got = f64::from(got);
        let want = PosencError::Slope { head: 2, got };
        assert_eq!(alibi::bias(&slopes, 2, 2, ORIGIN), Err(want.clone()));
        assert_eq!(
            alibi::bias_at(&slopes, &positions, AlibiRounding::Product),
            Err(want.clone())
        );
    }
    let error = alibi::bias(&array![f64::NAN], 1, 1, ORIGIN).unwrap_err();
    assert!(matches!(error, PosencError::Slope { head: 0, got } if got.is_nan()));
}

#[test]
fn key_positions_must_fit_the_gradient() {
    let dbias = Array4::<f32>::zeros((2, 3, 1, 5));
    for got in [[2, 4], [1, 5], [5, 2]] {
        let error = alibi::backward_at(&dbias, &Array2::zeros(got)).unwrap_err();
        let expected = [2, 5];
        assert_eq!(error, PosencError::KeyPositionsShape { expected, got });
    }
}

#[test]
fn a_bias_must_fit_into_memory() {
    // The first product overflows, the second does not fit the address space, the third is merely
    // an exabyte; the last has no elements, but no array of its shape can be made.
    let slopes = array![1.0_f32];
    for (seq, kv_seq) in [
        (usize::MAX, usize::MAX),
        (1 << 31, 1 << 31),
        (1 << 29, 1 << 29),
        (0, usize::MAX),
    ] {
        let shape = [1, seq, kv_seq];
        let want = PosencError::BiasTooLarge { shape };
        assert_eq!(alibi::bias(&slopes, seq, kv_seq, ORIGIN), Err(want.clone()));
        assert_eq!(alibi::distances(seq, kv_seq, ORIGIN), Err(want.clone()));
    }
    let one = array![[true]];
    let (batch, kv_seq) = (1 << 31, 1 << 29);
    let mask = one.broadcast((batch, kv_seq)).unwrap();
    let want = PosencError::BiasTooLarge {
        shape: [batch, 1, kv_seq],
    };
    assert_eq!(alibi::key_positions(&mask), Err(want.clone()));
    let one = array![[1_usize]];
    let positions = one.broadcast((batch, kv_seq)).unwrap();
    assert_eq!(
        alibi::bias_at(&slopes, &positions, AlibiRounding::Product),
        Err(want.clone())
    );
    // The sums of a gradient as long as memory.
    let one = array![[[1.0_f32]]];
    let dbias = one.broadcast((1, 1, 1 << 59)).unwrap();
    let want = PosencError::BiasTooLarge {
        shape: [1, 1, 1 << 59],
    };
    assert_eq!(alibi::backward(&dbias, ORIGIN), Err(want.clone()));
}

#[test]
fn indices_beyond_the_lengths_do_not_panic() {
    let origins = [
        AlibiOrigin::KeyIndex,
        AlibiOrigin::LastKeyZero,
        AlibiOrigin::AbsoluteDistance,
        AlibiOrigin::SignedDistance,
        AlibiOrigin::PastDistance,
    ];
    let extremes = [0, 1, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX];
    for origin in origins {
        for query in extremes {
            for key in extremes {
                for seq in extremes {
                    for kv_seq in extremes {
                        let bias = alibi::score_bias(0.5_f32, query, key, seq, kv_seq, origin);
                        assert!(bias.is_finite());
                    }
                }
            }
        }
    }
}
