//! Sixteen values of one's own.

use llm_quant::af4::{self, ZeroCell};
use llm_quant::code_book::{self, CodeBook, CodeBookConfig, Coded, LearnConfig};
use llm_quant::four_bit::{self, BLOCKS, FourBitCode, FourBitConfig, Scales};
use llm_quant::{nf4, normal, reference, report};
use ndarray::{Array1, arr1};
use proptest::prelude::*;

use super::strategies::{block, numbers};

/// Values that rise from -1 over 0 to 1 by random steps.
fn book() -> impl Strategy<Value = CodeBook> {
    (1..15_usize, prop::collection::vec(1..1000_u32, 15)).prop_map(|(zero, steps)| {
        let side = |steps: &[u32]| -> Vec<f32> {
            let sum: u32 = steps.iter().sum();
            let mut at = 0;
            let parts = steps.iter().map(|step| {
                at += step;
                at as f32 / sum as f32
            });
            parts.collect()
        };
        let below = side(&steps[..zero]).into_iter().rev().map(|x| -x);
        let values: Vec<f32> = below.chain([0.0]).chain(side(&steps[zero..])).collect();
        CodeBook::new(values.try_into().unwrap()).unwrap()
    })
}

fn back(coded: &Coded) -> Vec<f32> {
    code_book::dequantize(coded).unwrap().into_iter().collect()
}

proptest! {
    #[test]
    fn codes_and_numbers_are_those_of_the_reference(x in numbers(), book in book(), block in block()) {
        let coded = code_book::quantize(&arr1(&x), &CodeBookConfig::new(book, block)).unwrap();
        let (codes, scales) = reference::blocks::quantize(&x, book.values(), block);
        prop_assert_eq!(coded.scales(), &scales[..]);
        prop_assert_eq!(&reference::blocks::unpack(coded.packed(), x.len()), &codes);
        let want = reference::blocks::dequantize(&codes, &scales, book.values(), block);
        let want: Vec<f32> = want.iter().map(|&x| x as f32).collect();
        prop_assert_eq!(back(&coded), want);
    }

    #[test]
    fn with_the_values_of_nf4_bytes_are_those_of_nf4(x in numbers(), block in block()) {
        let coded = code_book::quantize(&arr1(&x), &CodeBookConfig::new(CodeBook::new(nf4::code()).unwrap(), block)).unwrap();
        let four = four_bit::quantize(&arr1(&x), &FourBitConfig::new(FourBitCode::Nf4, block)).unwrap();
        prop_assert_eq!(coded.packed(), four.packed());
        prop_assert_eq!(&Scales::Plain(coded.scales().to_vec()), four.scales());
    }

    #[test]
    fn zeros_stay_zeros_and_quantizing_again_changes_nothing(x in numbers(), book in book(), block in block()) {
        let once = back(&code_book::quantize(&arr1(&x), &CodeBookConfig::new(book, block)).unwrap());
        for (x, got) in x.iter().zip(&once) {
            prop_assert!(*x != 0.0 || *got == 0.0);
        }
        // Values closer than rounding are no neighbors that can be told apart.
        prop_assume!(book.values().windows(2).all(|pair| pair[1] - pair[0] > 1e-5));
        let twice = back(&code_book::quantize(&arr1(&once), &CodeBookConfig::new(book, block)).unwrap());
        prop_assert_eq!(once, twice);
    }

    /// The law of Lloyd: neither step makes the square error larger. Values are rounded to `f32`, which moves a sum by 1e-6 of the squares at most.
    #[test]
    fn learning_makes_the_error_no_larger(x in prop::collection::vec(-3.0..3.0_f32, 0..300), start in book(), block in block()) {
        let x = arr1(&x);
        let error = |book: &CodeBook| {
            let back = code_book::dequantize::<f32>(&code_book::quantize(&x, &CodeBookConfig::new(*book, block)).unwrap()).unwrap();
            report::compare(&x.clone().into_dyn(), &back).unwrap().mean_square
        };
        let squares = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len().max(1) as f64;
        let mut before = error(&start);
        for n in [1, 2, 5] {
            let after = error(&code_book::learn(&x, &LearnConfig::new(start, block).with_iterations(n)).unwrap());
            prop_assert!(after <= before + 1e-6 * squares, "{n}: {before} became {after}");
            before = after;
        }
    }
}

#[test]
fn halfway_goes_to_the_lower_value() {
    let book = CodeBook::new(nf4::code()).unwrap();
    let [low, high] = [nf4::code()[14], nf4::code()[15]];
    let middle = (low + high) / 2.0;
    // 1 makes the scale 1 in a block that is not full, where numbers are divided.
    let x = arr1(&[1.0, middle, middle.next_up(), -1.0]);
    let coded = code_book::quantize(&x, &CodeBookConfig::new(book, 64)).unwrap();
    assert_eq!(coded.packed(), [0xfe, 0xf0]);
}

#[test]
fn two_clusters_are_found() {
    // Beside -1, 0 and 1 there are numbers at 0.3 and -0.7 alone: means of their cells, by hand.
    let x = Array1::from_shape_fn(64, |i| [1.0, 0.3, -0.7, 0.0][i % 4]);
    let book = CodeBook::new(nf4::code()).unwrap();
    let learnt = code_book::learn(&x, &LearnConfig::new(book, 64).with_iterations(3)).unwrap();
    assert!(learnt.values().contains(&0.3) && learnt.values().contains(&-0.7));
    // Values to which nothing fell have stayed.
    assert_eq!(learnt.values()[14], nf4::code()[14]);
    assert_eq!(
        code_book::learn(&x, &LearnConfig::new(book, 64).with_iterations(0)).unwrap(),
        book
    );
}

/// Scales weigh: where two blocks of different scales share a cell, the value is nearer to the numbers of the larger one.
#[test]
fn larger_blocks_weigh_more() {
    let x = Array1::from_shape_fn(128, |i| match (i / 64, i % 64) {
        (0, 0) => 1.0,
        (0, _) => 0.30,
        (_, 0) => 3.0,
        _ => 0.34 * 3.0,
    });
    let book = CodeBook::new(nf4::code()).unwrap();
    let learnt = code_book::learn(&x, &LearnConfig::new(book, 64).with_iterations(1)).unwrap();
    // (1 · 0.30 + 9 · 0.34) / 10
    assert!(
        learnt
            .values()
            .iter()
            .any(|value| (value - 0.336).abs() < 1e-6),
        "{learnt:?}"
    );
}

/// Normal numbers in blocks of 64. (A learnt code may have a smaller mean error too: it knows these numbers, AF4 only where they come from.)
#[test]
fn af4_has_a_smaller_mean_error_than_nf4_and_a_learnt_code_the_least_square_error() {
    let n = 1 << 14;
    let x = Array1::from_shape_fn(n, |i| {
        let p = ((i * 8123 % n) as f64 + 0.5) / n as f64;
        normal::quantile(p).unwrap() as f32
    });
    // The mean error of the scaled numbers, for which AF4 is made, and the mean square error of the numbers themselves.
    let errors = |book: &CodeBook| -> (f64, f64) {
        let coded = code_book::quantize(&x, &CodeBookConfig::new(*book, 64)).unwrap();
        let back = code_book::dequantize::<f32>(&coded).unwrap();
        let pairs = x.iter().zip(&back).enumerate();
        let differences =
            pairs.map(|(i, (x, y))| f64::from((x - y).abs() / coded.scales()[i / 64]));
        let mean = differences.sum::<f64>() / n as f64;
        (
            mean,
            report::compare(&x.clone().into_dyn(), &back)
                .unwrap()
                .mean_square,
        )
    };
    let nf4 = CodeBook::new(nf4::code()).unwrap();
    let [published, best] = [ZeroCell::Empty, ZeroCell::Nearest]
        .map(|zero| CodeBook::new(af4::code(64, zero).unwrap()).unwrap());
    let learnt = code_book::learn(&x, &LearnConfig::new(nf4, 64).with_iterations(30)).unwrap();
    assert!(errors(&best).0 < errors(&nf4).0 && errors(&best).0 < errors(&published).0);
    assert!(errors(&learnt).1 < errors(&nf4).1 && errors(&learnt).1 < errors(&best).1);
}

#[test]
fn tasks_and_threads_do_not_show() {
    let x = Array1::from_shape_fn(200_001, |i| ((i * 7919) % 10_007) as f32 / 3000.0 - 1.6);
    let book = CodeBook::new(af4::code(128, ZeroCell::Nearest).unwrap()).unwrap();
    let coded = code_book::quantize(&x, &CodeBookConfig::new(book, 128)).unwrap();
    let (codes, scales) = reference::blocks::quantize(&x.to_vec(), book.values(), 128);
    assert_eq!(reference::blocks::unpack(coded.packed(), x.len()), codes);
    assert_eq!(coded.scales(), scales);
    for block in BLOCKS {
        assert!(CodeBook::new(af4::code(block, ZeroCell::Nearest).unwrap()).is_ok());
        assert!(CodeBook::new(af4::code(block, ZeroCell::Empty).unwrap()).is_ok());
    }
}
