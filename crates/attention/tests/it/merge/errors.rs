//! One test for each error variant of the merge.

use llm_attention::ndarray::{Array3, Array4, ArrayRef3, ArrayRef4, Axis};
use llm_attention::{AttentionError, merge, reference};

/// The error of both tiers, which must be the same.
fn error(outs: &[&ArrayRef4<f64>], lses: &[&ArrayRef3<f64>]) -> AttentionError {
    let error = merge::forward(outs, lses).unwrap_err();
    assert_eq!(reference::merge::forward(outs, lses), Err(error.clone()));
    let dout = Array4::zeros((1, 1, 1, 1));
    assert_eq!(
        merge::backward(&dout, None, outs, lses, &dout),
        Err(error.clone())
    );
    assert_eq!(
        reference::merge::backward(&dout, None, outs, lses),
        Err(error.clone())
    );
    error
}

#[test]
fn there_must_be_pieces() {
    assert_eq!(error(&[], &[]), AttentionError::NoPieces);
    let want = "outs must have at least 1 piece, got 0";
    assert_eq!(AttentionError::NoPieces.to_string(), want);
}

#[test]
fn each_piece_needs_both_arrays() {
    let (out, lse) = (Array4::zeros((1, 2, 3, 4)), Array3::zeros((1, 2, 3)));
    let want = AttentionError::Pieces { outs: 1, lses: 2 };
    assert_eq!(error(&[&out], &[&lse, &lse]), want);
    let want = AttentionError::Pieces { outs: 1, lses: 0 };
    assert_eq!(error(&[&out], &[]), want);
    let text = "outs and lses must have one array for each piece, got 1 and 0";
    assert_eq!(want.to_string(), text);
}

#[test]
fn pieces_must_have_one_shape() {
    let (out, lse) = (Array4::zeros((1, 2, 3, 4)), Array3::zeros((1, 2, 3)));
    for got in [[2, 2, 3, 4], [1, 1, 3, 4], [1, 2, 4, 4], [1, 2, 3, 5]] {
        let bad = Array4::zeros(got);
        let want = AttentionError::PieceShape {
            piece: 2,
            expected: [1, 2, 3, 4],
            got,
        };
        assert_eq!(error(&[&out, &out, &bad], &[&lse, &lse, &lse]), want);
    }
    for got in [[2, 2, 3], [1, 1, 3], [1, 2, 4]] {
        let bad = Array3::zeros(got);
        for piece in 0..2 {
            let lses: [&ArrayRef3<f64>; 2] = if piece == 0 {
                [&bad, &lse]
            } else {
                [&lse, &bad]
            };
            let want = AttentionError::PieceLseShape {
                piece,
                expected: [1, 2, 3],
                got,
            };
            assert_eq!(error(&[&out, &out], &lses), want);
        }
    }
    let text = AttentionError::PieceShape {
        piece: 2,
        expected: [1, 2, 3, 4],
        got: [1, 2, 3, 5],
    };
    assert_eq!(
        text.to_string(),
        "outs[2] must have shape [1, 2, 3, 4] as outs[0], got [1, 2, 3, 5]"
    );
}

#[test]
fn what_comes_back_must_have_the_shape_of_the_result() {
    let (x, lse) = (Array4::<f64>::zeros((1, 2, 3, 4)), Array3::zeros((1, 2, 3)));
    let (outs, lses): ([&ArrayRef4<f64>; 2], [&ArrayRef3<f64>; 2]) = ([&x, &x], [&lse, &lse]);
    let bad = Array4::zeros((1, 2, 3, 5));
    let shape = |name| AttentionError::Shape {
        name,
        expected: [1, 2, 3, 4],
        got: [1, 2, 3, 5],
    };
    let got = merge::backward(&bad, None, &outs, &lses, &x);
    assert_eq!(got, Err(shape("dout")));
    let got = merge::backward(&x, None, &outs, &lses, &bad);
    assert_eq!(got, Err(shape("out")));
    let got = reference::merge::backward(&bad, None, &outs, &lses);
    assert_eq!(got, Err(shape("dout")));
    let bad = Array3::zeros((1, 2, 4));
    let want = AttentionError::DlseShape {
        expected: [1, 2, 3],
        got: [1, 2, 4],
    };
    let got = merge::backward(&x, Some(&bad), &outs, &lses, &x);
    assert_eq!(got, Err(want.clone()));
    let got = reference::merge::backward(&x, Some(&bad), &outs, &lses);
    assert_eq!(got, Err(want));
}

#[cfg(target_pointer_width = "64")]
#[test]
fn results_must_fit_into_memory() {
    // Arrays that repeat one element can be longer than memory.
    let seq = 1 << 60;
    let (x, lse) = (Array4::<f64>::zeros((1, 1, 1, 1)), Array3::zeros((1, 1, 1)));
    let x = x.broadcast([1, 1, seq, 1]).unwrap();
    let lse = lse.broadcast([1, 1, seq]).unwrap();
    let got = merge::forward(&[&x], &[&lse]);
    let shape = [1, 1, seq, 1];
    assert_eq!(got, Err(AttentionError::TooLarge { shape }));
    let got = merge::backward(&x, None, &[&x], &[&lse], &x);
    assert_eq!(got, Err(AttentionError::TooLarge { shape }));
    // Values that do not fit, of rows that do.
    let (x, lse) = (Array4::<f64>::zeros((1, 1, 2, 1)), Array3::zeros((1, 1, 2)));
    let x = x.broadcast([1, 1, 2, seq]).unwrap();
    let got = merge::forward(&[&x], &[&lse]);
    let shape = [1, 1, 2, seq];
    assert_eq!(got, Err(AttentionError::TooLarge { shape }));
    // Many rows of nothing are nothing.
    let x = Array4::<f64>::zeros((1, 1, 0, 3));
    let x = x.broadcast([1 << 40, 1, 0, 3]).unwrap();
    let lse = Array3::zeros((1 << 40, 1, 0));
    let (out, _) = merge::forward(&[&x], &[&lse]).unwrap();
    assert!(out.index_axis(Axis(0), 0).is_empty());
}
