//! One test for each error variant of sinusoidal positions.

use llm_posenc::PosencError;
use llm_posenc::sinusoidal::{
    self, MAX_D_MODEL, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout,
};
use ndarray::{Array2, Array3, array};

const LAYOUT: SinusoidalLayout = SinusoidalLayout::HalfSplit;

const fn paper(dim: usize) -> SinusoidalConfig {
    SinusoidalConfig::new(dim, LAYOUT, SinusoidalExponent::TwoIOverDim)
}

const fn fairseq(dim: usize) -> SinusoidalConfig {
    SinusoidalConfig::new(dim, LAYOUT, SinusoidalExponent::IOverHalfDimMinusOne)
}

#[test]
fn d_model_must_have_frequencies_and_be_sane() {
    for got in [0, MAX_D_MODEL + 1, usize::MAX] {
        let want = PosencError::SinusoidalDModel { min: 1, got };
        assert_eq!(sinusoidal::inv_freq(&paper(got)), Err(want.clone()));
        assert_eq!(sinusoidal::table(1, &paper(got)), Err(want.clone()));
    }
    for got in [0, 1, 2, 3, MAX_D_MODEL + 1] {
        let want = PosencError::SinusoidalDModel { min: 4, got };
        assert_eq!(sinusoidal::inv_freq(&fairseq(got)), Err(want.clone()));
        assert_eq!(
            sinusoidal::encode(&array![0], &fairseq(got)),
            Err(want.clone())
        );
    }
    let message = PosencError::SinusoidalDModel { min: 4, got: 2 }.to_string();
    assert_eq!(message, "d_model must be in 4..=1048576, got 2");
}

#[test]
fn base_must_make_wavelengths_grow() {
    for got in [1.0, 0.0, -10.0, f64::INFINITY] {
        let config = paper(4).with_base(got);
        let want = PosencError::Base { got };
        assert_eq!(sinusoidal::inv_freq(&config), Err(want.clone()));
        assert_eq!(sinusoidal::decay(&array![1.0], &config), Err(want.clone()));
    }
    let error = sinusoidal::table(1, &paper(4).with_base(f64::NAN)).unwrap_err();
    assert!(matches!(error, PosencError::Base { got } if got.is_nan()));
}

#[test]
fn positions_must_be_exact() {
    let most = 1_usize << 53;
    let want = |index, got| PosencError::Position { index, got };
    let error = sinusoidal::encode(&array![0, most, most + 1], &paper(2)).unwrap_err();
    assert_eq!(error, want(2, most + 1));

    let mut x = Array3::<f64>::ones((1, 3, 2));
    assert_eq!(
        sinusoidal::add_inplace(&mut x, most - 1, &paper(2)),
        Err(want(2, most + 1))
    );
    assert_eq!(
        sinusoidal::add_inplace(&mut x, usize::MAX, &paper(2)),
        Err(want(0, usize::MAX))
    );
    let positions = array![[0, 1, usize::MAX]];
    assert_eq!(
        sinusoidal::add_at_inplace(&mut x, &positions, &paper(2)),
        Err(want(2, usize::MAX))
    );
    assert_eq!(x, Array3::<f64>::ones((1, 3, 2)), "x must be unchanged");
    assert_eq!(sinusoidal::add_inplace(&mut x, most - 2, &paper(2)), Ok(()));
    let error = sinusoidal::table(most + 2, &paper(2)).unwrap_err();
    assert_eq!(error, want(most + 1, most + 1));
}

#[test]
fn x_must_have_the_width_of_the_encoding() {
    let mut x = Array3::<f32>::ones((1, 2, 5));
    let want = PosencError::DModel {
        expected: 4,
        got: 5,
    };
    assert_eq!(
        sinusoidal::add_inplace(&mut x, 0, &paper(4)),
        Err(want.clone())
    );
    let positions = array![[0, 1]];
    assert_eq!(
        sinusoidal::add_at_inplace(&mut x, &positions, &paper(4)),
        Err(want.clone())
    );
    assert_eq!(x, Array3::<f32>::ones((1, 2, 5)), "x must be unchanged");
}

#[test]
fn each_token_must_have_a_position() {
    let mut x = Array3::<f32>::ones((1, 2, 4));
    let want = PosencError::PositionsShape {
        expected: [1, 2],
        got: [2, 1],
    };
    let positions = array![[0], [1]];
    assert_eq!(
        sinusoidal::add_at_inplace(&mut x, &positions, &paper(4)),
        Err(want.clone())
    );
    assert_eq!(x, Array3::<f32>::ones((1, 2, 4)), "x must be unchanged");
}

#[test]
fn decay_must_be_a_function_of_the_distance() {
    let error = sinusoidal::decay(&array![1.0], &paper(7)).unwrap_err();
    assert_eq!(error, PosencError::DecayDModel { got: 7 });
    assert!(sinusoidal::decay(&array![1.0], &fairseq(7)).is_ok()); // the last feature is 0
}

#[test]
fn distances_must_be_finite() {
    let got = f64::NEG_INFINITY;
    let error = sinusoidal::decay(&array![1.0, got], &paper(4)).unwrap_err();
    assert_eq!(error, PosencError::DecayDistance { index: 1, got });
}

#[test]
fn results_must_fit_in_memory() {
    // 2^52 bytes, more than any address space of today, and more than `usize` can count.
    for rows in [1 << 48, 1 << 53] {
        let columns = MAX_D_MODEL;
        let error = sinusoidal::table(rows, &paper(columns)).unwrap_err();
        assert_eq!(error, PosencError::TooLarge { rows, columns });
    }
    // Arrays that repeat one row can be longer than memory.
    let n = 1 << 40;
    let row = Array2::<f32>::zeros((1, 1));
    let table = row.broadcast((n, 1)).unwrap();
    let error = sinusoidal::inner_products(&table).unwrap_err();
    let (rows, columns) = (n, n);
    assert_eq!(error, PosencError::TooLarge { rows, columns });
}
