//! Known answers, worked out by hand.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array4, array, s};

/// One rounding of cosine and sine to f32, two products and a sum: 3 units in the last place of 1.
const F32: Tolerance = Tolerance::new(3e-7, 0.0);

// A quarter turn at position 1: cos 0, sin 1. The planes are (0, 1), (2, 3) or (0, 2), (1, 3);
// a quarter turn sends (x1, x2) to (-x2, x1).
#[test]
fn a_quarter_turn_shows_the_pairing() {
    let x = array![[[[1.0_f64, 2.0, 3.0, 4.0, 5.0]]]];
    let quarter = std::f64::consts::FRAC_PI_2;
    let table = RopeTable::new(&array![quarter, quarter], &array![1], 1.0).unwrap();
    let y = rope::apply(&x, &table, RopePairing::Interleaved).unwrap();
    assert_close(
        &y.slice(s![0, 0, 0, ..]),
        &array![-2.0, 1.0, -4.0, 3.0, 5.0],
        F32,
    );
    let y = rope::apply(&x, &table, RopePairing::HalfSplit).unwrap();
    assert_close(
        &y.slice(s![0, 0, 0, ..]),
        &array![-3.0, -4.0, 1.0, 2.0, 5.0],
        F32,
    );
}

// base 16, rotary_dim 8: 16^(-2 i / 8) = 2^-i.
#[test]
fn frequencies_of_base_16_are_powers_of_two() {
    let config = RopeConfig::new(8, RopePairing::HalfSplit).with_base(16.0);
    let got = rope::inv_freq(&config).unwrap();
    assert_close(
        &got,
        &array![1.0, 0.5, 0.25, 0.125],
        Tolerance::new(0.0, 1e-15),
    );
}

// bfloat16 cannot tell 256 from 257: positions in it would collide. Here they do not:
// cos 256 = -0.0397908 and cos 257 = -0.8637, by any calculator.
#[test]
fn neighboring_positions_above_256_differ() {
    let table = RopeTable::new(&array![1.0], &array![256, 257], 1.0).unwrap();
    assert_close(
        &table.cos(),
        &array![[256_f64.cos()], [257_f64.cos()]],
        Tolerance::new(0.0, 6e-8),
    );
    assert!((table.cos()[[0, 0]] - table.cos()[[1, 0]]).abs() > 0.8);
}

// pi rounded to f64 is pi - 1.2246e-16; a million times it is 1e6 pi - 1.2e-10 (and half an
// ulp of 3.1e6, 2.3e-10): an even number of half turns, cosine 1 and sine about 0.
#[test]
fn a_million_half_turns_are_none() {
    let table = RopeTable::new(&array![std::f64::consts::PI], &array![1_000_000], 1.0).unwrap();
    assert_eq!(table.cos()[[0, 0]], 1.0);
    assert!(table.sin()[[0, 0]].abs() < 5e-10);
}

#[test]
fn empty_axes_give_empty_results() {
    let config = RopeConfig::new(4, RopePairing::Interleaved);
    for shape in [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4)] {
        let x = Array4::<f32>::zeros(shape);
        let positions: Array1<usize> = (0..shape.2).collect();
        let y = rope::apply_at(&x, &positions, &config).unwrap();
        assert_eq!(y.dim(), shape);
    }
    let table = RopeTable::from_angles(&ndarray::Array2::zeros((3, 0)), 1.0).unwrap();
    let x = Array4::<f32>::zeros((2, 2, 3, 0));
    let y = rope::apply(&x, &table, RopePairing::HalfSplit).unwrap();
    assert_eq!(y.dim(), x.dim());
}

#[test]
fn nan_stays_in_its_plane() {
    let x = array![[[[f64::NAN, 1.0, 1.0, 1.0]]]];
    let config = RopeConfig::new(4, RopePairing::HalfSplit);
    let y = rope::apply_at(&x, &array![3], &config).unwrap();
    let nan: Vec<bool> = y.iter().map(|y| y.is_nan()).collect();
    assert_eq!(nan, [true, false, true, false]);
}
