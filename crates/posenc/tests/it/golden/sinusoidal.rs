//! Known answers: by hand, and the numbers behind the article's plots.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::reference;
use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use ndarray::{Array1, Array2, Array3, array};

use SinusoidalExponent::{IOverHalfDimMinusOne, TwoIOverDim};
use SinusoidalLayout::{HalfSplit, Interleaved};

/// One rounding to f32 of a number of at most 1.
const F32: Tolerance = Tolerance::new(3e-8, 0.0);

// base 16, dim 5, position 3. With 2i/d the exponents are 0, 2/5, 4/5: wavelengths 1, 16^0.4 = 3.0314, 16^0.8 = 9.1896.
// The third has no cosine. With i/(d/2 - 1) there are floor(5/2) = 2 frequencies, 1 and 1/16, and a zero.
#[test]
fn odd_widths_end_with_a_sine_or_a_zero() {
    let config = |layout, exponent| SinusoidalConfig::new(5, layout, exponent).with_base(16.0);
    let row = |layout, exponent| sinusoidal::encode(&array![3], &config(layout, exponent)).unwrap();
    let (a, b, c, d) = (
        3_f64,
        3.0 / 2_f64.powf(1.6),
        3.0 / 2_f64.powf(3.2),
        3.0_f64 / 16.0,
    );
    let want = array![[a.sin(), a.cos(), b.sin(), b.cos(), c.sin()]];
    assert_close(&row(Interleaved, TwoIOverDim), &want, F32);
    let want = array![[a.sin(), b.sin(), c.sin(), a.cos(), b.cos()]];
    assert_close(&row(HalfSplit, TwoIOverDim), &want, F32);
    let want = array![[a.sin(), a.cos(), d.sin(), d.cos(), 0.0]];
    assert_close(&row(Interleaved, IOverHalfDimMinusOne), &want, F32);
    let want = array![[a.sin(), d.sin(), a.cos(), d.cos(), 0.0]];
    assert_close(&row(HalfSplit, IOverHalfDimMinusOne), &want, F32);
}

// 10000^(-2i/4): 1 and 0.01; 10000^(-i/1): 1 and 0.0001. And the smallest widths.
#[test]
fn the_two_exponents_end_in_different_places() {
    let inv_freq = |dim, exponent| {
        sinusoidal::inv_freq(&SinusoidalConfig::new(dim, HalfSplit, exponent)).unwrap()
    };
    let close = Tolerance::new(0.0, 1e-15);
    assert_close(&inv_freq(4, TwoIOverDim), &array![1.0, 0.01], close);
    assert_close(
        &inv_freq(4, IOverHalfDimMinusOne),
        &array![1.0, 0.0001],
        close,
    );
    assert_eq!(inv_freq(1, TwoIOverDim), array![1.0]);
    let one = SinusoidalConfig::new(1, Interleaved, TwoIOverDim);
    assert_eq!(
        sinusoidal::table(2, &one).unwrap(),
        array![[0.0], [1_f64.sin() as f32]]
    );
}

// sin 1 = 0.8414709848, cos 1 = 0.5403023059, sin 0.01 = 0.0099998333, cos 0.01 = 0.9999500004, by any calculator.
#[test]
fn position_one_of_four_features() {
    let config = SinusoidalConfig::new(4, Interleaved, TwoIOverDim);
    let want = array![
        [0.0, 1.0, 0.0, 1.0],
        [
            0.841_470_984_8,
            0.540_302_305_9,
            0.009_999_833_3,
            0.999_950_000_4
        ]
    ];
    assert_close(&sinusoidal::table(2, &config).unwrap(), &want, F32);
}

/// `d_model`, and the inner product of the rows `40 - k` and `40 + k` for `k` = 0, 1, 2, 5, 10, 20, 39.
///
/// Python's `decimal` with 40 digits: the sum of `cos(2 k 10000^(-2 i / dim))` over `i` below `dim / 2`. The article's
/// program in float32, with torch 2.15.0, prints the same four decimals.
const ARTICLE: [(usize, [f64; 7]); 4] = [
    (
        32,
        [
            16.0,
            13.730_137_217_271_947,
            11.661_501_779_908_573,
            10.058_926_659_833_741,
            10.470_853_649_369_785,
            7.789_700_867_468_196,
            7.998_984_670_145_098,
        ],
    ),
    (
        64,
        [
            32.0,
            28.303_862_004_129_687,
            23.934_361_559_514_322,
            21.051_628_824_607_77,
            18.879_144_173_067_107,
            15.397_460_155_739_02,
            16.012_316_317_882_803,
        ],
    ),
    (
        128,
        [
            64.0,
            57.381_860_552_823_76,
            48.586_030_464_672_45,
            42.820_022_898_497_09,
            38.934_046_901_116_005,
            32.578_823_066_610_73,
            30.491_805_308_865_31,
        ],
    ),
    (
        256,
        [
            128.0,
            115.504_589_777_488_38,
            97.944_325_455_592_14,
            86.459_697_014_755_63,
            78.553_469_423_615_55,
            67.930_508_687_101_82,
            57.666_965_553_927_504,
        ],
    ),
];

// The article plots spe[40 - k] · spe[40 + k] over k and calls k the distance. The distance is 2 k: a reader who wants the
// value at distance 10 finds it at k = 5.
#[test]
fn the_decay_curves_of_the_article() {
    let k = [0_usize, 1, 2, 5, 10, 20, 39];
    for (dim, want) in ARTICLE {
        let want = Array1::from_iter(want);
        let config = SinusoidalConfig::new(dim, Interleaved, TwoIOverDim);
        let distances = Array1::from_iter(k.iter().map(|&k| 2.0 * k as f64));
        let curve = sinusoidal::decay(&distances, &config).unwrap();
        // At most 128 cosines in f64, of angles of at most 78.
        assert_close(&curve, &want, Tolerance::new(1e-11, 0.0));

        let table = sinusoidal::table(80, &config).unwrap();
        let products = sinusoidal::inner_products(&table).unwrap();
        for sign in [1_isize, -1] {
            let row = |k: usize| 40_usize.checked_add_signed(sign * k as isize).unwrap();
            let got = Array1::from_iter(k.iter().map(|&k| products[[80 - row(k), row(k)]]));
            // Up to 256 products whose factors are rounded to f32, and their sum in f32 of at most 128.
            assert_close(&got, &want, Tolerance::new(256.0 * 6e-8, 256.0 * 6e-8));
        }
    }
}

// The article's matrix: 80 positions of 128 features. sin² + cos² = 1 for 64 frequencies, and at distance 1 the sum
// 62.0937 (the same `decimal` program), wherever the two stand.
#[test]
fn the_matrix_of_the_article() {
    let config = SinusoidalConfig::new(128, Interleaved, TwoIOverDim);
    let table = sinusoidal::table(80, &config).unwrap();
    assert_eq!(table.dim(), (80, 128));
    let products = sinusoidal::inner_products(&table).unwrap();
    assert_eq!(products.dim(), (80, 80));
    let tolerance = Tolerance::new(0.0, 128.0 * 6e-8);
    assert_close(&products.diag(), &Array1::from_elem(80, 64.0), tolerance);
    let next = Array1::from_iter((0..79).map(|p| products[[p, p + 1]]));
    let want = Array1::from_elem(79, 62.093_683_805_767_625);
    assert_close(&next, &want, tolerance);
    // The brightest and the darkest of the plot: the diagonal, and somewhere far from it.
    let (mut darkest, mut value) = ((0, 0), f32::INFINITY);
    for (place, &x) in products.indexed_iter() {
        assert!(x < 64.01);
        if x < value {
            (darkest, value) = (place, x);
        }
    }
    assert!(darkest.0.abs_diff(darkest.1) > 40, "{darkest:?}");
}

#[test]
fn empty_axes_give_empty_results() {
    let config = SinusoidalConfig::new(6, HalfSplit, IOverHalfDimMinusOne);
    assert_eq!(sinusoidal::table(0, &config).unwrap().dim(), (0, 6));
    let none = Array1::from_vec(vec![]);
    assert_eq!(sinusoidal::encode(&none, &config).unwrap().dim(), (0, 6));
    assert_eq!(reference::sinusoidal::table(0, &config).dim(), (0, 6));
    let none = Array1::from_vec(vec![]);
    assert_eq!(sinusoidal::decay(&none, &config).unwrap().len(), 0);
    let products = sinusoidal::inner_products(&Array2::zeros((3, 0))).unwrap();
    assert_eq!(products, Array2::<f32>::zeros((3, 3)));
    for shape in [(0, 3, 6), (2, 0, 6)] {
        let mut x = Array3::<f32>::zeros(shape);
        sinusoidal::add_inplace(&mut x, 7, &config).unwrap();
        let positions = Array2::zeros((shape.0, shape.1));
        sinusoidal::add_at_inplace(&mut x, &positions, &config).unwrap();
    }
}

#[test]
fn nan_stays_where_it_is() {
    let config = SinusoidalConfig::new(4, Interleaved, TwoIOverDim);
    let mut x = array![[[f64::NAN, 1.0, f64::INFINITY, 1.0]]];
    sinusoidal::add_inplace(&mut x, 0, &config).unwrap();
    assert!(x[[0, 0, 0]].is_nan());
    assert_eq!(x.as_slice().unwrap()[1..], [2.0, f64::INFINITY, 2.0]);
}
