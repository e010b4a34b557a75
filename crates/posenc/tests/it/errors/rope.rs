//! One test for each error variant.

use llm_posenc::PosencError;
use llm_posenc::rope::{self, MAX_ROTARY_DIM, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array2, Array4, array};

const PAIRING: RopePairing = RopePairing::HalfSplit;

#[test]
fn rotary_dim_must_be_even_positive_and_sane() {
    for got in [0, 1, 7, MAX_ROTARY_DIM + 2, usize::MAX, usize::MAX - 1] {
        let error = rope::inv_freq(&RopeConfig::new(got, PAIRING)).unwrap_err();
        assert_eq!(error, PosencError::RotaryDim { got });
    }
    let message = PosencError::RotaryDim { got: 7 }.to_string();
    assert_eq!(message, "rotary_dim must be even and in 2..=65536, got 7");
}

#[test]
fn base_must_make_wavelengths_grow() {
    for got in [1.0, 0.0, -10.0, f64::INFINITY] {
        let config = RopeConfig::new(4, PAIRING).with_base(got);
        assert_eq!(rope::inv_freq(&config), Err(PosencError::Base { got }));
    }
    let config = RopeConfig::new(4, PAIRING).with_base(f64::NAN);
    let error = rope::inv_freq(&config).unwrap_err();
    assert!(matches!(error, PosencError::Base { got } if got.is_nan()));
}

#[test]
fn inv_freq_must_be_finite() {
    let error = RopeTable::new(&array![1.0, f64::INFINITY], &array![0], 1.0).unwrap_err();
    let got = f64::INFINITY;
    assert_eq!(error, PosencError::InvFreq { index: 1, got });
}

#[test]
fn angles_must_be_finite() {
    let error = RopeTable::from_angles(&array![[0.0], [f64::NEG_INFINITY]], 1.0).unwrap_err();
    let (index, got) = ([1, 0], f64::NEG_INFINITY);
    assert_eq!(error, PosencError::Angle { index, got });
}

#[test]
fn attention_factor_must_be_finite() {
    let got = f64::INFINITY;
    let error = RopeTable::new(&array![1.0], &array![0], got).unwrap_err();
    assert_eq!(error, PosencError::AttentionFactor { got });
    let error = RopeTable::from_angles(&array![[1.0]], got).unwrap_err();
    assert_eq!(error, PosencError::AttentionFactor { got });
}

#[test]
fn positions_must_be_exact_and_their_angles_finite() {
    let got = (1 << 53) + 1;
    let error = RopeTable::new(&array![1.0], &array![1 << 53, got], 1.0).unwrap_err();
    assert_eq!(error, PosencError::Position { index: 1, got });
    let error = RopeTable::new(&array![f64::MAX], &array![2], 1.0).unwrap_err();
    assert_eq!(error, PosencError::Position { index: 0, got: 2 });
}

#[test]
fn table_must_fit_the_sequence() {
    let config = RopeConfig::new(4, PAIRING);
    let table = RopeTable::from_config(&config, &array![0, 1]).unwrap();
    let mut x = Array4::<f32>::ones((1, 1, 3, 4));
    let want = PosencError::TableRows {
        seq: 3,
        batch: 1,
        got: 2,
    };
    assert_eq!(rope::apply(&x, &table, PAIRING).unwrap_err(), want);
    assert_eq!(rope::backward(&x, &table, PAIRING).unwrap_err(), want);
    assert_eq!(rope::apply_inplace(&mut x, &table, PAIRING), Err(want));
    assert_eq!(rope::backward_inplace(&mut x, &table, PAIRING), Err(want));
    assert_eq!(x, Array4::<f32>::ones((1, 1, 3, 4)), "x must be unchanged");
}

#[test]
fn rotary_dim_must_fit_the_head() {
    let config = RopeConfig::new(8, PAIRING);
    let x = Array4::<f64>::ones((1, 1, 1, 7));
    let error = rope::apply_at(&x, &array![0], &config).unwrap_err();
    let want = PosencError::RotaryDimAboveHeadDim {
        rotary_dim: 8,
        head_dim: 7,
    };
    assert_eq!(error, want);
}

#[test]
fn results_must_fit_the_address_space() {
    // Arrays that repeat one element can be longer than memory.
    let (rows, columns) = (1 << 61, 1);
    let one = Array2::<f64>::zeros((1, 1));
    let x = one.broadcast((1, 1, rows, columns)).unwrap();
    let table = RopeTable::from_angles(&Array2::zeros((1, 0)), 1.0).unwrap();
    let x = x.permuted_axes([2, 0, 1, 3]);
    let error = rope::apply(&x, &table, PAIRING).unwrap_err();
    assert_eq!(error, PosencError::TooLarge { rows, columns });
}
