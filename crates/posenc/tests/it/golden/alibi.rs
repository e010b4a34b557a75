//! Known answers (alibi).

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding};
use ndarray::{Array2, array, s};

// The article's `get_slopes(8)`: powers of 2^(-8/8) = 1/2, exact in any float.
#[test]
fn eight_heads_halve_the_slope_each() {
    let slopes = alibi::slopes(8, alibi::MAX_BIAS).unwrap();
    let want = array![
        0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625
    ];
    assert_eq!(slopes, want);
}

// The article prints this matrix (as floats): row i holds -(i - j) up to the diagonal, 0 after it.
#[test]
fn ten_tokens_have_the_distances_of_the_article() {
    let want = array![
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [-1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [-2, -1, 0, 0, 0, 0, 0, 0, 0, 0],
        [-3, -2, -1, 0, 0, 0, 0, 0, 0, 0],
        [-4, -3, -2, -1, 0, 0, 0, 0, 0, 0],
        [-5, -4, -3, -2, -1, 0, 0, 0, 0, 0],
        [-6, -5, -4, -3, -2, -1, 0, 0, 0, 0],
        [-7, -6, -5, -4, -3, -2, -1, 0, 0, 0],
        [-8, -7, -6, -5, -4, -3, -2, -1, 0, 0],
        [-9, -8, -7, -6, -5, -4, -3, -2, -1, 0],
    ];
    let got = alibi::distances(10, 10, AlibiOrigin::PastDistance).unwrap();
    assert_eq!(got, want);
    // The article multiplies it with the slopes, heads last: [10, 10, 8]. Here heads come first.
    let slopes = alibi::slopes(8, alibi::MAX_BIAS).unwrap();
    let bias = alibi::bias(&slopes, 10, 10, AlibiOrigin::PastDistance).unwrap();
    assert_eq!(bias.dim(), (8, 10, 10));
    assert_eq!(bias.slice(s![0, 9, ..4]), array![-4.5, -4.0, -3.5, -3.0]);
    assert_eq!(bias[[7, 9, 0]], -9.0 / 256.0);
}

// 12 heads: 8 of the series above, then the powers 1, 3, 5, 7 of 2^(-4/8) = 0.70710678.
// 0.70710678^3 = 0.35355339, ^5 = 0.17677670, ^7 = 0.08838835.
#[test]
fn twelve_heads_fill_the_gaps() {
    let slopes = alibi::slopes(12, alibi::MAX_BIAS).unwrap();
    let want = array![
        std::f64::consts::FRAC_1_SQRT_2,
        0.35355339,
        0.17677670,
        0.08838835
    ];
    // 8 digits are given, and f32 has 7.2.
    assert_close(&slopes.slice(s![8..]), &want, Tolerance::new(5e-9, 6e-8));
}

// 2 heads with max_bias 4: 2^(-4/2) = 1/4 and its square; the third head of 3 is 2^(-4/4) = 1/2.
#[test]
fn max_bias_is_the_exponent_of_the_smallest_slope() {
    assert_eq!(alibi::slopes(3, 4.0).unwrap(), array![0.25, 0.0625, 0.5]);
    assert_eq!(alibi::slopes(1, 3.0).unwrap(), array![0.125]);
    assert_eq!(
        alibi::slopes(5, 0.0).unwrap(),
        array![1.0, 1.0, 1.0, 1.0, 1.0]
    );
}

// Two queries beside the last two of four keys: they stand at 2 and 3.
#[test]
fn origins_on_four_keys() {
    let distances = |origin| alibi::distances(2, 4, origin).unwrap();
    let same = |row: [i64; 4]| array![row, row];
    assert_eq!(distances(AlibiOrigin::KeyIndex), same([0, 1, 2, 3]));
    assert_eq!(distances(AlibiOrigin::LastKeyZero), same([-3, -2, -1, 0]));
    let want = array![[-2, -1, 0, -1], [-3, -2, -1, 0]];
    assert_eq!(distances(AlibiOrigin::AbsoluteDistance), want);
    let want = array![[-2, -1, 0, 1], [-3, -2, -1, 0]];
    assert_eq!(distances(AlibiOrigin::SignedDistance), want);
    let want = array![[-2, -1, 0, 0], [-3, -2, -1, 0]];
    assert_eq!(distances(AlibiOrigin::PastDistance), want);
    // More queries than keys: the first two stand before every key.
    let got = alibi::distances(3, 1, AlibiOrigin::SignedDistance).unwrap();
    assert_eq!(got, array![[2], [1], [0]]);
}

// 257 needs 9 bits; bfloat16 has 8, and the tie goes to the even 256. 0.7 is 0b0.10110011.. and
// becomes 179/256; 3 * 179 = 537 = 0b1000011001, a quarter of the way from 536 to 540, the numbers of
// 8 bits. 257 counts as 256, so 0.7 * 257 is 179, though 179/256 * 257 = 179.7 would round to 180.
#[test]
fn falcon_rounds_slopes_positions_and_products() {
    let bias = alibi::bias_at(
        &array![1.0_f32],
        &array![[255, 256, 257, 258]],
        AlibiRounding::Bfloat16,
    );
    assert_eq!(bias.unwrap(), array![[[[255.0, 256.0, 256.0, 258.0]]]]);
    let bias = alibi::bias_at(
        &array![0.7_f32],
        &array![[1, 3, 257]],
        AlibiRounding::Bfloat16,
    );
    assert_eq!(
        bias.unwrap(),
        array![[[[179.0 / 256.0, 536.0 / 256.0, 179.0]]]]
    );
    let bias = alibi::bias_at(&array![1.0_f32], &array![[257]], AlibiRounding::Product);
    assert_eq!(bias.unwrap(), array![[[[257.0]]]]);
}

#[test]
fn empty_axes_give_empty_results() {
    let slopes = array![0.5_f32, 0.25];
    for (seq, kv_seq) in [(0, 3), (3, 0), (0, 0)] {
        let bias = alibi::bias(&slopes, seq, kv_seq, AlibiOrigin::SignedDistance).unwrap();
        assert_eq!(bias.dim(), (2, seq, kv_seq));
        let dslopes = alibi::backward(&bias, AlibiOrigin::SignedDistance).unwrap();
        assert_eq!(dslopes, array![0.0, 0.0]);
        let distances = alibi::distances(seq, kv_seq, AlibiOrigin::KeyIndex).unwrap();
        assert_eq!(distances.dim(), (seq, kv_seq));
        let positions = alibi::key_positions(&Array2::from_elem((seq, kv_seq), true)).unwrap();
        let bias = alibi::bias_at(&slopes, &positions, AlibiRounding::Product).unwrap();
        assert_eq!(bias.dim(), (seq, 2, 1, kv_seq));
        let dslopes = alibi::backward_at(&bias, &positions).unwrap();
        assert_eq!(dslopes, array![0.0, 0.0]);
    }
}
