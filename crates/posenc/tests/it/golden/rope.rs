//! Known answers, worked out by hand.

mod scaling;

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::rope::axes::{self, MropeVariant, VisionAxes};
use llm_posenc::rope::chatglm::{self, ChatGlmTable};
use llm_posenc::rope::permute::{self, RopePermutation};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array2, Array4, array, s};

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
    // Read (1, 2) and (3, 4); write (-2, 1) and (-4, 3) to (0, 2) and (1, 3).
    let pairing = RopePairing::ReadInterleavedWriteHalfSplit;
    let y = rope::apply(&x, &table, pairing).unwrap();
    let turned = array![-2.0, -4.0, 1.0, 3.0, 5.0];
    assert_close(&y.slice(s![0, 0, 0, ..]), &turned, F32);
    // A quarter turn more is half a turn: rotated keys are half-split.
    let k = rope::reposition(&y, &array![1], &array![quarter, quarter], pairing).unwrap();
    let turned = array![-1.0, -3.0, -2.0, -4.0, 5.0];
    assert_close(&k.slice(s![0, 0, 0, ..]), &turned, F32);
}

// Head size 8, so quarters of 2 and frequencies 1 and 1e4^(-2/4) = 0.01; planes (0, 2), (1, 3) by the
// position 2, planes (4, 6), (5, 7) by the block position 1. The input (1, 1, 0, 0 | 1, 1, 0, 0) turns to
// (cos 2, cos 0.02, sin 2, sin 0.02 | cos 1, cos 0.01, sin 1, sin 0.01).
#[test]
fn chatglm_turns_each_half_by_its_own_position() {
    let table = ChatGlmTable::new(8, &array![[2]], &array![[1]]).unwrap();
    let x = array![[[[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]]];
    let y = chatglm::apply_v1(&x, &table).unwrap();
    let want = array![
        -0.416_146_836_547,
        0.999_800_006_667,
        0.909_297_426_826,
        0.019_998_666_693,
        0.540_302_305_868,
        0.999_950_000_417,
        0.841_470_984_808,
        0.009_999_833_334
    ];
    assert_close(&y.slice(s![0, 0, 0, ..]), &want, F32);
}

// The sections of the two models: [16, 24, 24] in chunks; [24, 20, 20] in turn, so that the 60 planes of
// twenty rounds are followed by four of time.
#[test]
fn sections_of_qwen_models() {
    let chunked = axes::mrope_planes(64, &[16, 24, 24], MropeVariant::Chunked).unwrap();
    let want = [vec![0; 16], vec![1; 24], vec![2; 24]].concat();
    assert_eq!(chunked, want);
    let interleaved = axes::mrope_planes(64, &[24, 20, 20], MropeVariant::Interleaved).unwrap();
    let want = [[0, 1, 2].repeat(20), vec![0; 4]].concat();
    assert_eq!(interleaved, want);
}

// base 16, head size 8: w_i = 2^-i. Pixtral: rows 1, 1/4, columns 1/2, 1/8. Qwen2-VL: both 1, 1/4.
#[test]
fn frequencies_of_rows_and_columns() {
    let config = RopeConfig::new(8, RopePairing::HalfSplit).with_base(16.0);
    let exact = Tolerance::new(0.0, 1e-15);
    let got = axes::vision_inv_freq(&config, VisionAxes::EvenRowOddColumn).unwrap();
    assert_close(&got, &array![1.0, 0.25, 0.5, 0.125], exact);
    let got = axes::vision_inv_freq(&config, VisionAxes::SameFrequencies).unwrap();
    assert_close(&got, &array![1.0, 0.25, 1.0, 0.25], exact);
}

// The curve of the introduction to RoPE, numpy 2, float64:
//   theta = lambda i: 10000 ** (-2 * i / 128)
//   np.mean([np.abs(np.sum(np.exp(1j * m * theta(np.arange(0, j))))) for j in range(0, 64)])
//   for m in [0, 1, 2, 5, 10, 50, 100, 200, 255]
#[test]
fn decay_is_the_curve_of_the_article() {
    let inv_freq = rope::inv_freq(&RopeConfig::new(128, RopePairing::Interleaved)).unwrap();
    let got = rope::decay(&inv_freq, &array![0, 1, 2, 5, 10, 50, 100, 200, 255]).unwrap();
    let want = array![
        31.5,
        30.561805775979618,
        28.041263926036084,
        20.090718635569132,
        17.262807254031866,
        12.059137444602843,
        9.737355504436339,
        6.929011380450719,
        6.412619851181171
    ];
    assert_close(&got, &want, Tolerance::new(0.0, 1e-12));
    assert_eq!(rope::decay(&array![], &array![3]).unwrap(), array![0.0]);
    // One plane has the empty sum only: the curve is 0 where the score of (1, 0) and (1, 0) is 1.
    assert_eq!(rope::decay(&array![1.0], &array![0]).unwrap(), array![0.0]);
}

// Planes by hand, six features of which four turn: pairs (0, 1), (2, 3), halves (0, 2), (1, 3). Halves take their first
// features 0 and 2 from the pairs, then 1 and 3; pairs take 0 and 2 as their first plane from the halves, then 1 and 3.
#[test]
fn permutations_by_hand() {
    use RopePairing::{HalfSplit, Interleaved, ReadInterleavedWriteHalfSplit};
    let orders = |from, to| {
        let permutation = RopePermutation::new(6, 4, from, to).unwrap();
        let orders = [permutation.unrotated(), permutation.rotated()];
        orders.map(<[usize]>::to_vec)
    };
    let (same, other) = (vec![0, 1, 2, 3, 4, 5], vec![0, 2, 1, 3, 4, 5]);
    assert_eq!(
        orders(Interleaved, HalfSplit),
        [other.clone(), other.clone()]
    );
    assert_eq!(
        orders(Interleaved, ReadInterleavedWriteHalfSplit),
        [same.clone(), other.clone()]
    );
    assert_eq!(
        orders(HalfSplit, ReadInterleavedWriteHalfSplit),
        [other, same]
    );

    // With three planes the two orders are not each other: (0, 3), (1, 4), (2, 5) against (0, 1), (2, 3), (4, 5).
    let permutation = RopePermutation::new(6, 6, Interleaved, HalfSplit).unwrap();
    assert_eq!(permutation.unrotated(), [0, 2, 4, 1, 3, 5]);
    let permutation = RopePermutation::new(6, 6, HalfSplit, Interleaved).unwrap();
    assert_eq!(permutation.unrotated(), [0, 3, 1, 4, 2, 5]);

    // Two heads of five features, four of which turn; each head is permuted by itself.
    let permutation = RopePermutation::new(5, 4, Interleaved, HalfSplit).unwrap();
    let weight = Array2::from_shape_fn((10, 2), |(i, j)| (10 * i + j) as f32);
    let got = permute::weight(&weight, &permutation).unwrap();
    let rows = [0, 2, 1, 3, 4, 5, 7, 6, 8, 9];
    assert_eq!(
        got,
        Array2::from_shape_fn((10, 2), |(i, j)| (10 * rows[i] + j) as f32)
    );
    let bias = permute::bias(&Array1::from_iter(0..10), &permutation).unwrap();
    assert_eq!(bias.to_vec(), rows);
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
    let table = RopeTable::from_angles(&Array2::zeros((3, 0)), 1.0).unwrap();
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
