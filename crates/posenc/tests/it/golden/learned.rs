//! Known answers, worked out by hand.

use llm_posenc::learned::{self, PositionConvention};
use ndarray::{Array2, Array3, array};

// The ids of a batch of two, padded with id 1: "a b c" and, on the left, "d e". Line by line from the definitions.
#[test]
fn each_convention_counts_in_its_own_way() {
    let mask = array![
        [true, true, true, false, false],
        [false, false, true, false, true]
    ];
    let at = |past, convention| learned::positions(&mask, past, convention).unwrap();

    let index = PositionConvention::Index { offset: 0 };
    assert_eq!(at(0, index), array![[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]);
    let bart = PositionConvention::Index { offset: 2 };
    assert_eq!(at(3, bart), array![[5, 6], [5, 6]]);

    // max(cumsum - 1, 0), and 0 at padding
    let count = PositionConvention::TokenCount;
    assert_eq!(at(0, count), array![[0, 1, 2, 0, 0], [0, 0, 0, 0, 1]]);
    assert_eq!(at(2, count), array![[2, 0, 0], [0, 0, 1]]);

    // cumsum: 1 2 3 3 3 and 0 0 1 1 2; times the mask: 1 2 3 0 0 and 0 0 1 0 2; plus 1
    let opt = PositionConvention::Opt { offset: 2 };
    assert_eq!(at(0, opt), array![[2, 3, 4, 1, 1], [1, 1, 2, 1, 3]]);
    assert_eq!(at(4, opt), array![[1], [3]]);

    // the same products plus padding_idx; with a cache of 2, only columns 2.. are summed and 2 is added
    let roberta = PositionConvention::Roberta { padding_idx: 1 };
    assert_eq!(at(0, roberta), array![[2, 3, 4, 1, 1], [1, 1, 2, 1, 3]]);
    assert_eq!(at(2, roberta), array![[4, 1, 1], [4, 1, 5]]);
    assert_eq!(at(5, roberta), Array2::<usize>::zeros((2, 0)));
}

#[test]
fn repeated_positions_add_up() {
    let dout = array![[[1.0, -1.0], [2.0, 0.5]], [[4.0, 0.0], [8.0, 0.25]]];
    let dtable = learned::backward(&dout, &array![[2, 0], [2, 2]], 4).unwrap();
    let want = array![[2.0, 0.5], [0.0, 0.0], [13.0, -0.75], [0.0, 0.0]];
    assert_eq!(dtable, want);
}

#[test]
fn empty_axes_give_empty_results() {
    for (batch, seq, d_model) in [(0, 3, 2), (2, 0, 2), (2, 3, 0)] {
        let table = Array2::<f32>::ones((4, d_model));
        let positions = Array2::zeros((batch, seq));
        let mut x = learned::embed(&table, &positions).unwrap();
        assert_eq!(x.dim(), (batch, seq, d_model));
        learned::add_inplace(&mut x, &table, &positions).unwrap();
        let dtable = learned::backward(&x, &positions, 4).unwrap();
        assert_eq!(dtable, Array2::<f32>::zeros((4, d_model)));
        let mask = Array2::from_elem((batch, seq), true);
        let got = learned::positions(&mask, 0, PositionConvention::TokenCount).unwrap();
        assert_eq!(got.dim(), (batch, seq));
    }
    // No rows are fine as long as nobody asks for one.
    let none = learned::embed(&Array2::<f32>::ones((0, 2)), &Array2::zeros((1, 0))).unwrap();
    assert_eq!(none, Array3::<f32>::zeros((1, 0, 2)));
}

#[test]
fn nan_is_copied_and_stays_in_its_row() {
    let table = array![[f64::NAN, 1.0], [2.0, 3.0]];
    let out = learned::embed(&table, &array![[1, 0]]).unwrap();
    assert!(out[[0, 1, 0]].is_nan());
    assert_eq!(out[[0, 0, 0]], 2.0);
    let dtable = learned::backward(&out, &array![[1, 0]], 3).unwrap();
    assert_eq!(
        dtable.mapv(|x| x.is_nan()),
        array![[true, false], [false, false], [false, false]]
    );
}
