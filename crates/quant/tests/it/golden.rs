//! Known answers, from independent implementations or from arithmetic shown in a comment; never from our own output.

use llm_quant::af4::{self, ZeroCell};
use llm_quant::code_book::{self, CodeBook, CodeBookConfig, LearnConfig};
use llm_quant::eight_bit::{self, EightBitConfig, EightBitSearch};
use llm_quant::four_bit::{self, FourBitCode, FourBitConfig, NonFinite};
use llm_quant::int8_matmul::{self, EXACT_FACTOR, Int8MatmulConfig};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme};
use llm_quant::report::{self, HistogramConfig};
use llm_quant::vector_wise::{self, InputConfig};
use llm_quant::{calculator, density, double, fp4, nf4, normal};
use ndarray::{Array1, Array2, ArrayD, Axis, array, s};

#[test]
// ANCHOR: nf4
fn nf4_has_the_bits_of_bitsandbytes() {
    // bitsandbytes 0.50.2: get_4bit_type("nf4").numpy().view(np.uint32)
    let bits = [
        0xbf80_0000,
        0xbf32_39b1,
        0xbf06_6b30,
        0xbeca_32a0,
        0xbe91_a24d,
        0xbe3d_353f,
        0xbdba_7871,
        0x0000_0000,
        0x3da2_faff,
        0x3e24_cae3,
        0x3e7c_04dd,
        0x3ead_033a,
        0x3ee1_a4b8,
        0x3f10_07ab,
        0x3f39_13b3,
        0x3f80_0000_u32,
    ];
    assert_eq!(nf4::code().map(f32::to_bits), bits);
}
// ANCHOR_END: nf4

#[test]
fn fp4_has_the_bits_of_bitsandbytes() {
    // bitsandbytes 0.50.2: get_4bit_type("fp4").numpy().view(np.uint32); the sign of the zero at 8 is that of its dequantize_4bit.
    let positive = [
        0x0000_0000,
        0x3baa_aaab,
        0x3f2a_aaab,
        0x3f80_0000,
        0x3eaa_aaab,
        0x3f00_0000,
        0x3e2a_aaab,
        0x3e80_0000_u32,
    ];
    for (code, value) in fp4::code().map(f32::to_bits).into_iter().enumerate() {
        assert_eq!(value, positive[code & 7] | (code as u32 & 8) << 28);
    }
}

#[test]
fn quantiles_are_those_of_scipy() {
    // scipy 1.17.1: norm.ppf, in float64.
    for (p, want) in QUANTILES {
        let got = normal::quantile(p).unwrap();
        assert!(
            (got - want).abs() <= 1e-14 * want.abs(),
            "{p}: {got} {want}"
        );
    }
}

#[test]
fn halfway_goes_to_the_lower_value() {
    // FP4 has 1/2 and 1/3 beside each other; bitsandbytes' bound between them is 0.4166666865348816. The element 1 makes the scale 1.
    let middle = 0.416_666_7_f32;
    let x = array![1.0, middle, -middle, middle.next_up()];
    let config = FourBitConfig::new(FourBitCode::Fp4, 64);
    let weights = four_bit::quantize(&x, &config).unwrap();
    // 0011 = 1, 0100 = 1/3, 1101 = -1/2, 0101 = 1/2
    assert_eq!(weights.packed(), [0x34, 0xd5]);
}

#[test]
fn zeros_above_and_below_have_codes_of_their_own_in_fp4() {
    // 0.0625 / 12 / 2 = 0.0026 is the end of both zeros. bitsandbytes 0.50.2, CPU: quantize_4bit gives 0x38, 0x00.
    let x = array![1.0_f32, 0.002, -0.002, 0.0];
    let config = FourBitConfig::new(FourBitCode::Fp4, 64);
    let weights = four_bit::quantize(&x, &config).unwrap();
    assert_eq!(weights.packed(), [0x38, 0x00]);
    let back = four_bit::dequantize::<f32>(&weights).unwrap();
    assert!(back[1] == 0.0 && back[1].is_sign_negative());
}

#[test]
fn an_offset_is_added_up_as_torch_does() {
    // torch 2.15.0, AVX2, one thread; x = (torch.arange(n) * 2654435761 % 4294967296).float() / 2**32
    for (n, bits) in OFFSETS {
        let x: Vec<f32> = (0..n)
            .map(|i| (i * 2_654_435_761_u64 % (1 << 32)) as f32 / 4_294_967_296.0)
            .collect();
        let nested = double::quantize(&x, EightBitSearch::Nearest).unwrap();
        assert_eq!(nested.offset().to_bits(), bits, "{n}");
    }
}

#[test]
fn a_poisoned_block_comes_back_as_nan_and_the_others_as_they_are() {
    let mut x = Array1::from_elem(96, 0.5_f32);
    x[40] = f32::INFINITY;
    let config = FourBitConfig::new(FourBitCode::Nf4, 32).with_non_finite(NonFinite::PoisonBlock);
    let back: Vec<f32> = {
        let weights = four_bit::quantize(&x, &config).unwrap();
        four_bit::dequantize(&weights)
            .unwrap()
            .into_iter()
            .collect()
    };
    assert!(back[32..64].iter().all(|x| x.is_nan()));
    assert!(back[..32].iter().chain(&back[64..]).all(|&x| x == 0.5));
}

#[test]
// ANCHOR: saved
fn double_quantization_saves_what_the_paper_says() {
    // arXiv:2305.14314v1 §3: 32/64 = 0.5 bits become 8/64 + 32/(64 * 256) = 0.127, so 0.373 are saved: 3 GB of 65e9 weights.
    let saved = calculator::bits_saved(64).unwrap();
    assert_eq!(saved, 0.5 - (0.125 + 1.0 / 512.0));
    let gigabytes = 65e9 * saved / 8.0 / 1e9;
    assert!((gigabytes - 3.03).abs() < 0.005, "{gigabytes}");
}
// ANCHOR_END: saved

#[test]
// ANCHOR: errors
fn errors_are_reported() {
    // 1, 4, 0 off by 0, -2, 1/2: squares sum to 4.25; 17 / 4.25 is a factor of 4.
    let exact = array![[1.0_f32, 4.0, 0.0]];
    let found = report::compare(&exact, &array![[1.0, 2.0, 0.5]]).unwrap();
    assert_eq!(
        (found.n, found.max, found.mean_square),
        (3, 2.0, 4.25 / 3.0)
    );
    assert!((found.signal_to_noise - 10.0 * 4_f64.log10()).abs() < 1e-12);
    let found = report::compare(&exact, &exact).unwrap();
    assert_eq!(
        (found.max, found.mean_square, found.signal_to_noise),
        (0.0, 0.0, f64::INFINITY)
    );
    let found = report::compare(&exact, &array![[f32::NAN, 2.0, 0.5]]).unwrap();
    assert!(found.max.is_nan() && found.mean_square.is_nan() && found.signal_to_noise.is_nan());
}
// ANCHOR_END: errors

/// Probability and quantile.
const QUANTILES: [(f64, f64); 16] = [
    (1e-300, -37.0470962993612),
    (1e-20, -9.262340089798409),
    (1e-12, -7.034483825301131),
    (1e-05, -4.264890793922825),
    (0.01, -2.3263478740408408),
    (0.0323, -1.848016195278258),
    (0.0749, -1.4402382675279635),
    (0.0751, -1.4388253927525403),
    (0.2, -0.8416212335729142),
    (0.4, -0.2533471031357997),
    (0.6, 0.2533471031357997),
    (0.9, 1.2815515655446004),
    (0.92501, 1.4396021182393162),
    (0.9677083, 1.8481309597573734),
    (0.999, 3.090232306167813),
    (0.999999, 4.753424308817087),
];

/// Number of scales and bits of their mean.
const OFFSETS: [(u64, u32); 9] = [
    (1, 0x00000000),
    (7, 0x3ed9df23),
    (8, 0x3ed38455),
    (33, 0x3efd3cca),
    (300, 0x3effb33d),
    (1000, 0x3efffce7),
    (5000, 0x3efff96f),
    (20000, 0x3efff989),
    (32000, 0x3efffeb5),
];

#[test]
fn the_table_has_no_smallest_scale() {
    // bitsandbytes 0.50.2, CPU: quantize_blockwise([s, -s, s / 2, 0, 0.3 s, -0.3 s]). Below 2.94e-39 the reciprocal is infinite.
    for (s, codes) in [
        (9e-39_f32, [255, 0, 219, 131, 205, 49]),
        (3e-39, [255, 0, 219, 131, 205, 49]),
        (2.9e-39, [255, 0, 255, 0, 255, 0]),
        (1e-44, [255, 0, 255, 0, 255, 0]),
    ] {
        let x = array![s, -s, s / 2.0, 0.0, s * 0.3, -s * 0.3];
        let config = EightBitConfig::new(EightBitSearch::BitsandbytesCpu, 256);
        let quantized = eight_bit::quantize(&x, &config).unwrap();
        assert_eq!(quantized.codes(), codes, "{s}");
        assert_eq!(quantized.scales(), [s]);
    }
}

#[test]
fn af4_has_the_values_of_the_paper() {
    // bitsandbytes 0.50.2, get_4bit_type("af4", blocksize=64), as published in arXiv:2306.06965.
    let published = [
        -1.0,
        -0.69441008,
        -0.51243739,
        -0.3736951,
        -0.25607552,
        -0.14982478,
        -0.04934812,
        0.0,
        0.04273164,
        0.12934483,
        0.21961274,
        0.31675666,
        0.42563882,
        0.55496234,
        0.72424863,
        1.0,
    ];
    near(64, ZeroCell::Empty, &published);
    // scipy 1.17.1: the same equations with norm.cdf, Gauss-Legendre over the largest magnitude and brentq; values above 0.
    let above = [
        0.03129430604,
        0.09480323400,
        0.16126887013,
        0.23343416147,
        0.31577979198,
        0.41743354283,
        0.56468758335,
        1.0,
    ];
    near(4096, ZeroCell::Empty, &above);
    let above = [
        0.08033040565,
        0.16258617941,
        0.24900108146,
        0.34256386267,
        0.44787491222,
        0.57320730116,
        0.73696970842,
        1.0,
    ];
    near(64, ZeroCell::Nearest, &above);
    let above = [
        0.06437915404,
        0.13043020539,
        0.20013835750,
        0.27628424510,
        0.36346728572,
        0.47096611732,
        0.62443546274,
        1.0,
    ];
    near(1024, ZeroCell::Nearest, &above);
}

/// The last values of AF4.
fn near(block: usize, zero: ZeroCell, want: &[f64]) {
    let code = af4::code(block, zero).unwrap();
    for (got, want) in code[16 - want.len()..].iter().zip(want) {
        assert!(
            (f64::from(*got) - want).abs() < 1e-6,
            "{block} {zero:?}: {got} {want}"
        );
    }
}

#[test]
fn blocks_and_histograms_are_counted() {
    let exact = array![[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let got = array![[1.0, 2.5, 3.0], [4.0, 5.0, f32::NAN]];
    let reports = report::by_block(&exact, &got, 4).unwrap();
    assert_eq!(
        (reports[0].n, reports[0].max, reports[0].mean_square),
        (4, 0.5, 0.0625)
    );
    assert!(reports[1].n == 2 && reports[1].max.is_nan());
    let whole = report::by_block(&exact, &exact, usize::MAX).unwrap();
    assert_eq!(whole, [report::compare(&exact, &exact).unwrap()]);
    // Columns first: the blocks are those of the row-major order.
    let turned = report::by_block(&exact.t(), &got.t(), 2).unwrap();
    assert_eq!(
        turned.iter().map(|report| report.n).collect::<Vec<_>>(),
        [2, 2, 2]
    );
    assert_eq!(turned[1].max, 0.5);
    let numbers = [
        -0.1,
        0.0,
        0.24,
        0.25,
        0.5,
        0.99,
        1.0,
        1.1,
        f64::NAN,
        f64::INFINITY,
    ];
    let histogram =
        report::histogram(numbers, &HistogramConfig::new(0.0..=1.0).with_bins(4)).unwrap();
    assert_eq!(histogram.counts, [2, 1, 1, 2]);
    assert_eq!(
        (histogram.below, histogram.above, histogram.n_nan),
        (1, 2, 1)
    );
}

#[test]
fn cells_of_a_code_have_the_shares_of_scipy() {
    // scipy 1.17.1: norm.cdf of the bounds (0, 1/2, 3/2 times 1.5) of the values -1, 0, 1, 2, in float64.
    let cells = density::cells(&[2.0, 0.0, 1.0, -1.0], 1.5).unwrap();
    let want = [
        0.2266273523768682,
        0.5467452952462635,
        0.2144028797218236,
        0.012224472655044671,
    ];
    for (cell, want) in cells.iter().zip(want) {
        assert!((cell.share - want).abs() < 1e-14, "{cell:?} {want}");
    }
    assert_eq!(
        (cells[0].low, cells[0].high, cells[3].value),
        (f64::NEG_INFINITY, -0.5, 2.0)
    );
    // 1.5 * norm.pdf(1.5)
    assert!((cells[2].density - 0.19427639349883763).abs() < 1e-15);
}

/// One policy for all methods: the block (or row) of a number that is not finite comes back as NaN, all others as if it were not there.
#[test]
fn poisoned_blocks_come_back_as_nan_and_alone() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let good = Array2::from_shape_fn([3, 64], |(i, j)| (i * 64 + j) as f32 - 90.0);
        let mut x = good.clone();
        x[[1, 5]] = bad;
        let is_poisoned = |back: &ArrayD<f32>, good: &ArrayD<f32>| {
            let mut pairs = back.indexed_iter().zip(good);
            pairs.all(|((place, back), good)| match place[0] {
                1 => back.is_nan(),
                _ => back == good,
            })
        };
        for bits in [IntegerBits::Four, IntegerBits::Eight] {
            for scheme in [IntegerScheme::Symmetric, IntegerScheme::Affine] {
                let config =
                    IntegerConfig::new(bits, scheme, 64).with_non_finite(NonFinite::PoisonBlock);
                let back = |x: &Array2<f32>| {
                    integer::dequantize(&integer::quantize(x, &config).unwrap()).unwrap()
                };
                assert!(is_poisoned(&back(&x), &back(&good)), "{config:?}");
            }
        }
        let rows = |x: &Array2<f32>| {
            let rows = vector_wise::quantize(x, NonFinite::PoisonBlock).unwrap();
            vector_wise::dequantize(&rows).unwrap().into_dyn()
        };
        assert!(is_poisoned(&rows(&x), &rows(&good)));
        let book = CodeBook::new(nf4::code()).unwrap();
        let config = CodeBookConfig::new(book, 64).with_non_finite(NonFinite::PoisonBlock);
        let back = |x: &Array2<f32>| {
            code_book::dequantize(&code_book::quantize(x, &config).unwrap()).unwrap()
        };
        assert!(is_poisoned(&back(&x), &back(&good)));
        // A poisoned block teaches nothing.
        let config = LearnConfig::new(book, 64).with_non_finite(NonFinite::PoisonBlock);
        let rest = ndarray::concatenate![Axis(0), good.slice(s![..1, ..]), good.slice(s![2.., ..])];
        assert_eq!(
            code_book::learn(&x, &config),
            code_book::learn(&rest, &config)
        );
        // Nor does it make outliers, though infinity is above any threshold.
        let config = InputConfig::new(80.0).with_non_finite(NonFinite::PoisonBlock);
        let split = vector_wise::quantize_inputs(&x, &config).unwrap();
        let others = vector_wise::quantize_inputs(&rest, &config).unwrap();
        assert_eq!(split.outliers, others.outliers);
        let config = Int8MatmulConfig::new(80.0, EXACT_FACTOR);
        let weights = vector_wise::quantize(&good, NonFinite::Refuse).unwrap();
        assert!(int8_matmul::forward(&x, &weights, &config).is_err());
        let config = config.with_non_finite(NonFinite::PoisonBlock);
        let y = int8_matmul::forward(&x, &weights, &config).unwrap();
        let z = int8_matmul::forward(&rest, &weights, &config).unwrap();
        assert!(y.row(1).iter().all(|y| y.is_nan()));
        assert_eq!((y.row(0), y.row(2)), (z.row(0), z.row(1)));
    }
}
