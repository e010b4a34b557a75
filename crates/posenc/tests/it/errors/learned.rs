//! One test for each error variant of learned positions.

use llm_posenc::learned::{self, PositionConvention};
use llm_posenc::{PosencError, reference};
use ndarray::{Array2, Array3, array};

#[test]
fn positions_must_be_inside_the_table() {
    let table = Array2::<f32>::ones((3, 2));
    let positions = array![[0, 2], [1, 3]];
    let want = PosencError::PositionOutsideTable {
        index: [1, 1],
        got: 3,
        n_positions: 3,
    };
    assert_eq!(learned::embed(&table, &positions), Err(want.clone()));
    let mut x = Array3::<f32>::ones((2, 2, 2));
    assert_eq!(
        learned::add_inplace(&mut x, &table, &positions),
        Err(want.clone())
    );
    assert_eq!(x, Array3::<f32>::ones((2, 2, 2)), "x must be unchanged");
    assert_eq!(learned::backward(&x, &positions, 3), Err(want.clone()));
    let error = reference::learned::one_hot(&positions, 3).unwrap_err();
    assert_eq!(error, want);
    assert_eq!(
        want.to_string(),
        "positions must be below n_positions = 3, got 3 at index [1, 1]"
    );

    // Also where there is nothing to copy.
    let error = learned::embed(&Array2::<f64>::ones((0, 0)), &array![[0]]).unwrap_err();
    let want = PosencError::PositionOutsideTable {
        index: [0, 0],
        got: 0,
        n_positions: 0,
    };
    assert_eq!(error, want);
}

#[test]
fn each_token_must_have_a_position() {
    let table = Array2::<f64>::ones((3, 2));
    let positions = array![[0, 1, 2]];
    let want = PosencError::PositionsShape {
        expected: [1, 2],
        got: [1, 3],
    };
    let mut x = Array3::<f64>::ones((1, 2, 2));
    assert_eq!(
        learned::add_inplace(&mut x, &table, &positions),
        Err(want.clone())
    );
    assert_eq!(x, Array3::<f64>::ones((1, 2, 2)), "x must be unchanged");
    assert_eq!(learned::backward(&x, &positions, 3), Err(want.clone()));
    let error = reference::learned::backward(&x, &positions, 3).unwrap_err();
    assert_eq!(error, want);
}

#[test]
fn x_must_have_the_width_of_the_table() {
    let table = Array2::<f64>::ones((3, 2));
    let mut x = Array3::<f64>::ones((1, 1, 4));
    let error = learned::add_inplace(&mut x, &table, &array![[0]]).unwrap_err();
    let want = PosencError::DModel {
        expected: 2,
        got: 4,
    };
    assert_eq!(error, want);
    assert_eq!(x, Array3::<f64>::ones((1, 1, 4)), "x must be unchanged");
}

#[test]
fn past_must_be_part_of_the_mask() {
    let mask = array![[true, false]];
    for convention in [
        PositionConvention::Index { offset: 0 },
        PositionConvention::TokenCount,
        PositionConvention::Opt { offset: 2 },
        PositionConvention::Roberta { padding_idx: 1 },
    ] {
        for got in [3, usize::MAX] {
            let want = PosencError::Past { kv_seq: 2, got };
            assert_eq!(
                learned::positions(&mask, got, convention),
                Err(want.clone())
            );
        }
    }
}

#[test]
fn positions_must_not_start_below_zero_or_overflow() {
    let mask = array![[false, true]];
    let got = isize::MAX as usize + 1;
    for (convention, min, got) in [
        (PositionConvention::Opt { offset: 0 }, 1, 0),
        (PositionConvention::Opt { offset: got }, 1, got),
        (PositionConvention::Index { offset: got }, 0, got),
        (PositionConvention::Roberta { padding_idx: got }, 0, got),
    ] {
        let want = PosencError::PositionOffset { min, got };
        assert_eq!(learned::positions(&mask, 0, convention), Err(want.clone()));
    }
    let padding_idx = isize::MAX as usize;
    let convention = PositionConvention::Roberta { padding_idx };
    let got = learned::positions(&mask, 0, convention).unwrap();
    assert_eq!(got, array![[padding_idx, padding_idx + 1]]);
}

#[test]
fn results_must_fit_in_memory() {
    // Arrays that repeat one element can be longer than memory.
    let (rows, columns) = (1 << 50, 1);
    let want = PosencError::TooLarge { rows, columns };
    let none = Array3::<f32>::zeros((0, 0, 1));
    let error = learned::backward(&none, &Array2::zeros((0, 0)), rows).unwrap_err();
    assert_eq!(error, want);

    let one = Array2::<usize>::zeros((1, 1));
    let positions = one.broadcast((rows, 1)).unwrap();
    let table = Array2::<f32>::zeros((1, 1));
    assert_eq!(learned::embed(&table, &positions).unwrap_err(), want);

    let one = Array2::from_elem((1, 1), true);
    let mask = one.broadcast((rows, 1)).unwrap();
    let convention = PositionConvention::TokenCount;
    let error = learned::positions(&mask, 0, convention).unwrap_err();
    assert_eq!(error, want);
}
