//! One test for each variant of the error type; each compares the variant with its numbers.

use llm_quant::af4::{self, ZeroCell};
use llm_quant::calculator::{self, ScaleStorage};
use llm_quant::code_book::{self, CodeBook, CodeBookConfig, Coded, LearnConfig};
use llm_quant::dynamic_map::{self, DynamicMapConfig, MapSign};
use llm_quant::eight_bit::{self, EightBit, EightBitConfig, EightBitSearch};
use llm_quant::four_bit::{self, BLOCKS, FourBit, FourBitCode, FourBitConfig, NonFinite, Scales};
use llm_quant::int8_matmul::{self, EXACT_FACTOR, Int8MatmulConfig};
use llm_quant::integer::{self, IntegerBits, IntegerConfig, IntegerScheme, Integers};
use llm_quant::matmul::low_rank::{self, LowRank};
use llm_quant::report::{self, HistogramConfig};
use llm_quant::vector_wise::{self, InputConfig, VectorWise};
use llm_quant::{QuantError, density, double, matmul, nf4, normal};
use ndarray::{Array1, Array2, Array3, array};

const NF4: FourBitConfig = FourBitConfig::new(FourBitCode::Nf4, 64);

#[test]
fn a_block_that_is_not_offered_is_named() {
    let block = |got| QuantError::Block {
        offered: &BLOCKS,
        got,
    };
    let x = Array1::<f32>::zeros(4);
    for got in [0, 1, 16, 48, 8192, usize::MAX] {
        let config = FourBitConfig::new(FourBitCode::Nf4, got);
        assert_eq!(four_bit::quantize(&x, &config), Err(block(got)));
        let config = EightBitConfig::new(EightBitSearch::Nearest, got);
        assert_eq!(eight_bit::quantize(&x, &config), Err(block(got)));
        let scales = Scales::Plain(vec![]);
        let parts = FourBit::from_parts(FourBitCode::Nf4, got, &[0], vec![], scales);
        assert_eq!(parts, Err(block(got)));
        assert_eq!(
            EightBit::from_parts(got, &[0], vec![], vec![]),
            Err(block(got))
        );
        assert_eq!(calculator::bits_saved(got), Err(block(got)));
        let bits = calculator::bits_per_weight(4, got, ScaleStorage::Plain);
        assert_eq!(bits, Err(block(got)));
        let bytes = calculator::four_bit_bytes(4, got, ScaleStorage::Nested);
        assert_eq!(bytes, Err(block(got)));
    }
}

#[test]
fn the_first_number_that_is_not_finite_is_named_whatever_the_threads() {
    let mut x = Array2::<f32>::zeros([400, 500]);
    x[[399, 499]] = f32::NAN;
    x[[300, 3]] = f32::NEG_INFINITY;
    x[[300, 4]] = f32::INFINITY;
    let error = QuantError::NonFinite {
        index: 150_003,
        value: f32::NEG_INFINITY,
    };
    assert_eq!(four_bit::quantize(&x, &NF4), Err(error.clone()));
    let config = EightBitConfig::new(EightBitSearch::Nearest, 64);
    assert_eq!(eight_bit::quantize(&x, &config), Err(error));
    // In the order of the indices, not of the memory.
    let found = four_bit::quantize(&x.t(), &NF4);
    let index = 3 * 400 + 300;
    let value = f32::NEG_INFINITY;
    assert_eq!(found, Err(QuantError::NonFinite { index, value }));
}

#[test]
fn nan_is_refused_too() {
    let found = four_bit::quantize(&array![0.0, f32::NAN], &NF4);
    assert!(matches!(found, Err(QuantError::NonFinite { index: 1, value }) if value.is_nan()));
}

#[test]
fn scales_whose_mean_is_not_finite_are_refused() {
    let found = double::quantize(&[f32::MAX, f32::MAX], EightBitSearch::Nearest);
    let (index, value) = (0, f32::NEG_INFINITY); // MAX - inf
    assert_eq!(found, Err(QuantError::NonFinite { index, value }));
}

#[test]
fn packed_bytes_must_fill_the_shape() {
    for (shape, n_bytes, expected) in [
        (vec![3, 5], 7, 8),
        (vec![3, 5], 9, 8),
        (vec![0, 5], 1, 0),
        (vec![], 0, 1),
    ] {
        let scales = Scales::Plain(vec![1.0]);
        let found = FourBit::from_parts(FourBitCode::Fp4, 64, &shape, vec![0; n_bytes], scales);
        let got = n_bytes;
        assert_eq!(
            found,
            Err(QuantError::PackedLen {
                shape,
                expected,
                got
            })
        );
    }
}

#[test]
fn there_must_be_a_scale_for_each_block() {
    for (n_scales, n_elements) in [(0, 1), (1, 65), (3, 128)] {
        let error = Err(QuantError::ScalesLen {
            block: 64,
            expected: usize::div_ceil(n_elements, 64),
            got: n_scales,
        });
        let packed = vec![0; n_elements.div_ceil(2)];
        let scales = Scales::Plain(vec![1.0; n_scales]);
        let four = FourBit::from_parts(FourBitCode::Nf4, 64, &[n_elements], packed, scales);
        assert_eq!(four, error.clone().map(|()| unreachable!()));
        let codes = vec![0; n_elements];
        let eight = EightBit::from_parts(64, &[n_elements], codes, vec![1.0; n_scales]);
        assert_eq!(eight, error.map(|()| unreachable!()));
    }
    let found = double::NestedScales::from_parts(vec![0; 257], vec![1.0], 0.0);
    let (block, expected, got) = (256, 2, 1);
    assert_eq!(
        found,
        Err(QuantError::ScalesLen {
            block,
            expected,
            got
        })
    );
}

#[test]
fn there_must_be_a_code_for_each_element() {
    let found = EightBit::from_parts(64, &[2, 3], vec![0; 5], vec![1.0]);
    let (shape, expected, got) = (vec![2, 3], 6, 5);
    assert_eq!(
        found,
        Err(QuantError::CodesLen {
            shape,
            expected,
            got
        })
    );
}

#[test]
fn shapes_whose_product_does_not_fit_are_refused() {
    for shape in [
        vec![usize::MAX, 2],
        vec![1 << 40, 1 << 40],
        vec![usize::MAX],
        vec![0, usize::MAX, usize::MAX],
    ] {
        let scales = Scales::Plain(vec![]);
        let found = FourBit::from_parts(FourBitCode::Nf4, 64, &shape, vec![], scales);
        assert_eq!(
            found,
            Err(QuantError::Size {
                shape: shape.clone()
            })
        );
        let found = EightBit::from_parts(64, &shape, vec![], vec![]);
        assert_eq!(found, Err(QuantError::Size { shape }));
    }
}

#[test]
fn an_array_that_repeats_one_element_too_often_is_refused() {
    let one = Array1::<f32>::ones(1);
    let elements = 1 << 60;
    let x = one.broadcast(elements).unwrap();
    let error = QuantError::TooLarge { elements };
    assert_eq!(four_bit::quantize(&x, &NF4), Err(error.clone()));
    let config = EightBitConfig::new(EightBitSearch::Nearest, 64);
    assert_eq!(eight_bit::quantize(&x, &config), Err(error));
}

#[test]
fn probabilities_must_lie_between_their_bounds() {
    for got in [0.0, 1.0, -0.5, 2.0, f64::INFINITY] {
        let low = 0.0;
        assert_eq!(
            normal::quantile(got),
            Err(QuantError::Probability { low, got })
        );
    }
    for got in [0.0, 0.5, 0.500_001, 1.0, 1.0 - 1e-12] {
        let low = 0.500_01;
        assert_eq!(
            nf4::code_from_offset(got),
            Err(QuantError::Probability { low, got })
        );
    }
    assert!(normal::quantile(f64::NAN).is_err() && nf4::code_from_offset(f64::NAN).is_err());
}

#[test]
fn maps_of_other_bits_are_refused() {
    for (sign, max_exponent_bits, total_bits) in [
        (MapSign::Signed, 0, 8),
        (MapSign::Signed, 8, 8),
        (MapSign::Signed, 1, 1),
        (MapSign::Signed, 7, 9),
        (MapSign::Unsigned, 6, 8),
        (MapSign::Signed, u32::MAX, u32::MAX),
    ] {
        let config = DynamicMapConfig::new(sign)
            .with_max_exponent_bits(max_exponent_bits)
            .with_total_bits(total_bits);
        assert_eq!(
            dynamic_map::code(&config),
            Err(QuantError::MapBits {
                sign,
                max_exponent_bits,
                total_bits
            })
        );
    }
}

#[test]
fn outputs_must_have_the_shape_of_the_weights() {
    let weights = four_bit::quantize(&Array2::<f32>::zeros([2, 3]), &NF4).unwrap();
    let mut out = Array3::<f32>::zeros([1, 2, 3]);
    let (expected, got) = (vec![2, 3], vec![1, 2, 3]);
    let found = four_bit::dequantize_into(&weights, &mut out);
    assert_eq!(found, Err(QuantError::OutShape { expected, got }));
}

#[test]
fn weights_of_a_product_must_be_a_matrix() {
    for shape in [vec![6], vec![1, 2, 3], vec![]] {
        let x = Array2::<f32>::zeros([2, 3]);
        let weights = four_bit::quantize(&ndarray::ArrayD::<f32>::zeros(&shape[..]), &NF4).unwrap();
        let error = QuantError::WeightRank { shape };
        assert_eq!(matmul::forward(&x, &weights), Err(error.clone()));
        assert_eq!(matmul::backward(&x, &weights), Err(error));
    }
}

#[test]
fn the_axes_of_a_product_must_agree() {
    let weights = four_bit::quantize(&Array2::<f32>::zeros([4, 3]), &NF4).unwrap();
    let (forward, backward) = ([2, 4], [2, 3]);
    let error = |x| QuantError::InnerAxis { x, weights: [4, 3] };
    let found = matmul::forward(&Array2::zeros(forward), &weights);
    assert_eq!(found, Err(error(forward)));
    let found = matmul::backward(&Array2::zeros(backward), &weights);
    assert_eq!(found, Err(error(backward)));
}

#[test]
fn a_product_that_does_not_fit_is_refused() {
    let weights = four_bit::quantize(&Array2::<f32>::zeros([1 << 20, 0]), &NF4).unwrap();
    for (rows, error) in [
        (
            1 << 45,
            QuantError::Size {
                shape: vec![1 << 45, 1 << 20],
            },
        ),
        (1 << 38, QuantError::TooLarge { elements: 1 << 58 }),
    ] {
        let x = Array2::<f32>::zeros([rows, 0]);
        assert_eq!(matmul::forward(&x, &weights), Err(error));
    }
}

#[test]
fn a_product_of_rows_that_are_repeated_without_end_is_refused() {
    let weights = four_bit::quantize(&Array2::<f32>::ones([1, 1 << 10]), &NF4).unwrap();
    let row = Array1::<f32>::ones(1 << 10);
    let x = row.broadcast([1 << 40, 1 << 10]).unwrap();
    let error = QuantError::TooLarge { elements: 1 << 50 };
    assert_eq!(matmul::forward(&x, &weights), Err(error));
}

#[test]
fn there_must_be_a_scale_for_each_row() {
    let codes = ndarray::array![[127_i8, -127], [0, -128]];
    for (codes, index) in [(codes.clone(), 3), (codes.reversed_axes(), 3)] {
        let found = VectorWise::from_parts(codes, vec![1.0; 2]);
        assert_eq!(found, Err(QuantError::RowCode { index, got: -128 }));
    }
    let found = VectorWise::from_parts(Array2::zeros([3, 2]), vec![1.0; 2]);
    let (expected, got) = (3, 2);
    assert_eq!(found, Err(QuantError::RowScales { expected, got }));
}

#[test]
fn thresholds_and_factors_must_be_possible() {
    let x = Array2::<f32>::ones([1, 2]);
    let weights = vector_wise::quantize(&x, NonFinite::Refuse).unwrap();
    for got in [-1.0, f32::INFINITY, f32::MIN] {
        let error = QuantError::Threshold { got };
        assert_eq!(
            vector_wise::quantize_inputs(&x, &InputConfig::new(got)),
            Err(error.clone())
        );
        let config = Int8MatmulConfig::new(got, EXACT_FACTOR);
        assert_eq!(int8_matmul::forward(&x, &weights, &config), Err(error));
    }
    for got in [0.0, -1.0, f32::INFINITY] {
        let config = Int8MatmulConfig::new(6.0, got);
        let error = QuantError::Factor { got };
        assert_eq!(int8_matmul::forward(&x, &weights, &config), Err(error));
    }
    assert!(vector_wise::quantize_inputs(&x, &InputConfig::new(f32::NAN)).is_err());
    let config = Int8MatmulConfig::new(6.0, f32::NAN);
    assert!(int8_matmul::forward(&x, &weights, &config).is_err());
}

#[test]
fn integer_products_refuse_what_other_products_refuse() {
    let weights = vector_wise::quantize(&Array2::<f32>::ones([4, 3]), NonFinite::Refuse).unwrap();
    let config = Int8MatmulConfig::new(0.0, EXACT_FACTOR);
    let error = |x| QuantError::InnerAxis { x, weights: [4, 3] };
    let found = int8_matmul::forward(&Array2::zeros([2, 4]), &weights, &config);
    assert_eq!(found, Err(error([2, 4])));
    let found = int8_matmul::backward(&Array2::zeros([2, 3]), &weights);
    assert_eq!(found, Err(error([2, 3])));
    let mut x = Array2::<f32>::zeros([400, 500]);
    x[[399, 499]] = f32::NAN;
    x[[300, 3]] = f32::NEG_INFINITY;
    let (index, value) = (150_003, f32::NEG_INFINITY);
    let error = QuantError::NonFinite { index, value };
    assert_eq!(vector_wise::quantize(&x, NonFinite::Refuse), Err(error));
    let one = Array1::<f32>::ones(1);
    let x = one.broadcast([1 << 30, 1 << 30]).unwrap();
    let elements = 1 << 60;
    let error = QuantError::TooLarge { elements };
    assert_eq!(vector_wise::quantize(&x, NonFinite::Refuse), Err(error));
    let none = Array2::<f32>::zeros([0, 1 << 60]);
    assert_eq!(
        vector_wise::quantize(&none, NonFinite::Refuse)
            .unwrap()
            .shape(),
        [0, 1 << 60]
    );
    let weights = VectorWise::from_parts(Array2::zeros([1 << 20, 0]), vec![0.0; 1 << 20]).unwrap();
    let found = int8_matmul::forward(&Array2::zeros([1 << 45, 0]), &weights, &config);
    let shape = vec![1 << 45, 1 << 20];
    assert_eq!(found, Err(QuantError::Size { shape }));
}

#[test]
fn integers_must_fit_their_shape_and_scheme() {
    let config = |bits, scheme, block| IntegerConfig::new(bits, scheme, block);
    let (four, affine) = (IntegerBits::Four, IntegerScheme::Affine);
    let found = integer::quantize(&array![1.0_f32], &config(four, affine, 0));
    assert_eq!(found, Err(QuantError::EmptyBlock));
    let parts = |config, n_bytes, n_scales, zeros: &[u8]| {
        let (packed, scales) = (vec![0; n_bytes], vec![1.0; n_scales]);
        Integers::from_parts(config, &[3, 3], packed, scales, zeros.to_vec())
    };
    assert_eq!(
        parts(config(four, affine, 0), 5, 3, &[0; 3]),
        Err(QuantError::EmptyBlock)
    );
    for (bits, expected) in [(four, 5), (IntegerBits::Eight, 9)] {
        let (shape, got) = (vec![3, 3], 6);
        let error = QuantError::CodesLen {
            shape,
            expected,
            got,
        };
        assert_eq!(parts(config(bits, affine, 3), 6, 3, &[0; 3]), Err(error));
    }
    let (block, expected, got) = (4, 3, 2);
    let error = QuantError::ScalesLen {
        block,
        expected,
        got,
    };
    assert_eq!(parts(config(four, affine, 4), 5, 2, &[0; 3]), Err(error));
    for (scheme, zeros, expected) in [
        (affine, &[0, 1][..], 3),
        (IntegerScheme::Symmetric, &[8; 3], 0),
    ] {
        let got = zeros.len();
        let error = QuantError::ZeroPointsLen { expected, got };
        assert_eq!(parts(config(four, scheme, 3), 5, 3, zeros), Err(error));
    }
    let (index, largest, got) = (1, 15, 16);
    let error = QuantError::ZeroPoint {
        index,
        largest,
        got,
    };
    assert_eq!(
        parts(config(four, affine, 3), 5, 3, &[0, 16, 17]),
        Err(error)
    );
    let shape = vec![usize::MAX, 2];
    let found = Integers::from_parts(config(four, affine, 3), &shape, vec![], vec![], vec![]);
    assert_eq!(found, Err(QuantError::Size { shape }));
    let (index, value) = (2, f32::INFINITY);
    let found = integer::quantize(&array![0.0, 1.0, value], &config(four, affine, 2));
    assert_eq!(found, Err(QuantError::NonFinite { index, value }));
}

#[test]
fn a_code_book_must_ascend_from_end_to_end_over_zero() {
    for (place, value) in [
        (0, -0.9),
        (15, 1.1),
        (7, 1e-3),
        (3, f32::NAN),
        (3, 0.5),
        (4, nf4::code()[3]),
    ] {
        let mut got = nf4::code();
        got[place] = value;
        let found = CodeBook::new(got);
        assert!(matches!(found, Err(QuantError::CodeBook { .. })), "{value}");
    }
    let got = [0.5; 16];
    assert_eq!(CodeBook::new(got), Err(QuantError::CodeBook { got }));
}

#[test]
fn numbers_of_a_code_book_are_checked_like_others() {
    let book = CodeBook::new(nf4::code()).unwrap();
    let x = array![1.0_f32, f32::NEG_INFINITY];
    let (index, value) = (1, f32::NEG_INFINITY);
    let error = QuantError::NonFinite { index, value };
    assert_eq!(
        code_book::quantize(&x, &CodeBookConfig::new(book, 64)),
        Err(error.clone())
    );
    assert_eq!(
        code_book::learn(&x, &LearnConfig::new(book, 64)),
        Err(error)
    );
    let (offered, got) = (&BLOCKS, 65);
    let error = QuantError::Block { offered, got };
    assert_eq!(
        code_book::quantize(&x, &CodeBookConfig::new(book, 65)),
        Err(error.clone())
    );
    assert_eq!(
        code_book::learn(&x, &LearnConfig::new(book, 65)),
        Err(error.clone())
    );
    assert_eq!(af4::code(65, ZeroCell::Empty), Err(error.clone()));
    assert_eq!(
        Coded::from_parts(book, 65, &[1], vec![0], vec![1.0]),
        Err(error)
    );
    let (shape, expected, got) = (vec![3], 2, 1);
    let error = QuantError::PackedLen {
        shape,
        expected,
        got,
    };
    assert_eq!(
        Coded::from_parts(book, 64, &[3], vec![0], vec![1.0]),
        Err(error)
    );
    let (block, expected, got) = (64, 1, 2);
    let error = QuantError::ScalesLen {
        block,
        expected,
        got,
    };
    assert_eq!(
        Coded::from_parts(book, 64, &[2], vec![0], vec![1.0; 2]),
        Err(error)
    );
    let shape = vec![usize::MAX, 2];
    let found = Coded::from_parts(book, 64, &shape, vec![], vec![]);
    assert_eq!(found, Err(QuantError::Size { shape }));
}

#[test]
fn histograms_and_densities_must_be_possible() {
    let histogram = |low, high, n_bins| {
        report::histogram([0.5], &HistogramConfig::new(low..=high).with_bins(n_bins))
    };
    assert_eq!(histogram(0.0, 1.0, 0), Err(QuantError::Bins));
    for (low, high) in [
        (1.0, 1.0),
        (2.0, 1.0),
        (0.0, f64::INFINITY),
        (-f64::MAX, f64::MAX),
    ] {
        let error = QuantError::Bounds { low, high };
        assert_eq!(histogram(low, high, 3), Err(error));
    }
    assert!(histogram(f64::NAN, 1.0, 3).is_err());
    let elements = 1 << 60;
    let error = QuantError::TooLarge { elements };
    assert_eq!(histogram(0.0, 1.0, elements), Err(error));
    let x = array![1.0_f32];
    assert_eq!(report::by_block(&x, &x, 0), Err(QuantError::EmptyBlock));
    let (exact, got) = (vec![1], vec![2]);
    let error = QuantError::ComparedShapes { exact, got };
    assert_eq!(report::by_block(&x, &array![1.0, 2.0], 1), Err(error));
    let (exact, got) = (vec![2, 3], vec![3, 2]);
    let error = QuantError::ComparedShapes { exact, got };
    let [exact, got] = [[2, 3], [3, 2]].map(Array2::zeros);
    assert_eq!(report::compare(&exact, &got), Err(error));
    // The last one is 0 in `f32`.
    for got in [0.0, -1.0, f64::INFINITY, -1e-300] {
        let error = QuantError::DensityScale { got };
        assert_eq!(density::at(0.0, got), Err(error.clone()));
        assert_eq!(density::cells(&[0.0], got), Err(error));
    }
    let (index, value) = (1, f32::INFINITY);
    let error = QuantError::NonFinite { index, value };
    assert_eq!(density::cells(&[0.0, value], 1.0), Err(error));
}

/// Weights of `[3, 5]` and an update of rank 2 that fits.
fn updated() -> (FourBit, [Array2<f32>; 2]) {
    let weights = four_bit::quantize(&Array2::<f32>::zeros([3, 5]), &NF4).unwrap();
    (weights, [Array2::zeros([2, 5]), Array2::zeros([3, 2])])
}

#[test]
fn an_update_has_one_rank_and_a_scaling() {
    let (_, [a, b]) = updated();
    let error = QuantError::Rank {
        a: [5, 2],
        b: [3, 2],
    };
    assert_eq!(LowRank::new(&a.t(), &b, 1.0).unwrap_err(), error);
    for got in [f32::INFINITY, f32::NEG_INFINITY] {
        let error = QuantError::Scaling { got };
        assert_eq!(LowRank::new(&a, &b, got).unwrap_err(), error);
    }
    let error = LowRank::new(&a, &b, f32::NAN).unwrap_err();
    assert!(matches!(error, QuantError::Scaling { got } if got.is_nan()));
}

#[test]
fn an_update_has_the_shape_of_the_weights() {
    let (weights, [a, b]) = updated();
    let (x, dout) = (Array2::zeros([1, 5]), Array2::zeros([1, 3]));
    let (short, low) = (Array2::zeros([2, 4]), Array2::zeros([4, 2]));
    for (a, b, got) in [(&short, &b, [3, 4]), (&a, &low, [4, 5])] {
        let update = LowRank::new(a, b, 1.0).unwrap();
        let expected = [3, 5];
        let error = QuantError::UpdateShape { expected, got };
        let found = low_rank::forward(&x, &weights, &update);
        assert_eq!(found, Err(error.clone()));
        let found = low_rank::forward_into(&x, &weights, &update, &mut Array2::zeros([1, 3]));
        assert_eq!(found, Err(error.clone()));
        let found = low_rank::backward(&dout, &x, &weights, &update);
        assert_eq!(found, Err(error.clone()));
        let found = low_rank::backward_input(&dout, &weights, &update);
        assert_eq!(found, Err(error));
    }
}

#[test]
fn inputs_of_an_updated_product_fit_the_weights() {
    let (weights, [a, b]) = updated();
    let update = LowRank::new(&a, &b, 1.0).unwrap();
    let zeros = Array2::<f32>::zeros;
    let inner = |x| QuantError::InnerAxis { x, weights: [3, 5] };
    let x = low_rank::forward(&zeros([1, 4]), &weights, &update);
    assert_eq!(x, Err(inner([1, 4])));
    let x = low_rank::backward(&zeros([1, 3]), &zeros([1, 4]), &weights, &update);
    assert_eq!(x, Err(inner([1, 4])));
    let dout = low_rank::backward(&zeros([1, 5]), &zeros([1, 5]), &weights, &update);
    assert_eq!(dout, Err(inner([1, 5])));
    let dout = low_rank::backward_input(&zeros([1, 5]), &weights, &update);
    assert_eq!(dout, Err(inner([1, 5])));
    let (expected, got) = (7, 6);
    let rows = low_rank::backward(&zeros([7, 3]), &zeros([6, 5]), &weights, &update);
    assert_eq!(rows, Err(QuantError::Rows { expected, got }));
    let (expected, got) = (vec![1, 3], vec![2, 3]);
    let error = QuantError::OutShape { expected, got };
    let mut out = zeros([2, 3]);
    let found = low_rank::forward_into(&zeros([1, 5]), &weights, &update, &mut out);
    assert_eq!(found, Err(error.clone()));
    let found = matmul::forward_into(&zeros([1, 5]), &weights, &mut out);
    assert_eq!(found, Err(error));
    let deep = four_bit::quantize(&Array3::<f32>::zeros([1, 3, 5]), &NF4).unwrap();
    let shape = vec![1, 3, 5];
    let found = low_rank::forward(&zeros([1, 5]), &deep, &update);
    assert_eq!(found, Err(QuantError::WeightRank { shape }));
}
