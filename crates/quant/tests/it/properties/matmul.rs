//! Products with packed weights.

use llm_quant::double;
use llm_quant::eight_bit::EightBitSearch;
use llm_quant::four_bit::{self, FourBit, FourBitConfig, Scales};
use llm_quant::matmul::{self, ActivationBits};
use llm_quant::reference;
use ndarray::{Array2, s};
use proptest::prelude::*;

use super::strategies::{code, config};

/// Numbers from -1 to 1 that look random.
pub(super) fn noise(shape: [usize; 2], seed: u64) -> Array2<f32> {
    Array2::from_shape_fn(shape, |(i, j)| {
        let mixed = (seed ^ (i * 4099 + j) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

pub(super) fn packed(
    shape: [usize; 2],
    seed: u64,
    config: &FourBitConfig,
    is_nested: bool,
) -> FourBit {
    let plain = four_bit::quantize(&noise(shape, seed), config).unwrap();
    if is_nested {
        double::compress(plain, EightBitSearch::Nearest).unwrap()
    } else {
        plain
    }
}

/// A sum of `terms` products of numbers up to 1 (scales reach 1.01): in `f32` each of the roundings is off by half a unit in
/// the last place of a partial sum. That is at most `terms`, and of numbers with signs at random not above four times the root of it,
/// which is twelve standard deviations: a sum that lost some of its terms is out.
fn bound(terms: usize) -> f64 {
    let terms = terms as f64 + 1.0;
    1.02 * terms * terms.min(4.0 * terms.sqrt()) * f64::from(f32::EPSILON) / 2.0
}

pub(super) fn wide(x: &Array2<f32>) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn check(
    seq: usize,
    d_out: usize,
    d_in: usize,
    seed: u64,
    weights: &FourBit,
) -> Result<(), TestCaseError> {
    let w: Vec<f64> = four_bit::dequantize::<f32>(weights)
        .unwrap()
        .iter()
        .map(|&w| w.into())
        .collect();
    let x = noise([seq, d_in], seed ^ 1);
    let y = matmul::forward(&x, weights).unwrap();
    prop_assert_eq!(y.dim(), (seq, d_out));
    if d_in > 0 {
        for (got, want) in y
            .iter()
            .zip(reference::matmul::forward(&wide(&x), &w, d_in, d_out))
        {
            prop_assert!(
                (f64::from(*got) - want).abs() <= bound(d_in),
                "{got} {want}"
            );
        }
    }
    let dout = noise([seq, d_out], seed ^ 2);
    let dx = matmul::backward(&dout, weights).unwrap();
    prop_assert_eq!(dx.dim(), (seq, d_in));
    if d_out > 0 {
        for (got, want) in dx
            .iter()
            .zip(reference::matmul::backward(&wide(&dout), &w, d_in, d_out))
        {
            prop_assert!(
                (f64::from(*got) - want).abs() <= bound(d_out),
                "{got} {want}"
            );
        }
    }
    // ANCHOR: transpose
    // <y, dout> = <x, dx>: the backward is the transpose.
    let inner = |a: &Array2<f32>, b: &Array2<f32>| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    let difference = (inner(&y, &dout) - inner(&x, &dx)).abs();
    let allowed = (seq * d_out) as f64 * bound(d_in) + (seq * d_in) as f64 * bound(d_out);
    prop_assert!(difference <= allowed);
    // ANCHOR_END: transpose
    Ok(())
}

proptest! {
    /// Odd rows, so that blocks and bytes run over their ends; few rows of x and many; zero-length axes.
    #[test]
    fn products_are_those_of_the_reference(
        config in config(), seq in 0..9_usize, d_out in 0..40_usize, d_in in 0..90_usize, seed in any::<u64>(), is_nested in any::<bool>(),
    ) {
        let weights = packed([d_out, d_in], seed, &config, is_nested);
        check(seq, d_out, d_in, seed, &weights)?;
    }

    #[test]
    fn strides_do_not_matter(config in config(), seq in 1..9_usize, d_out in 1..20_usize, d_in in 1..70_usize, seed in any::<u64>()) {
        let weights = packed([d_out, d_in], seed, &config, false);
        let x = noise([2 * d_in, 3 * seq], seed);
        let x = x.slice(s![..;-2, ..;3]).reversed_axes();
        let copied = x.as_standard_layout().into_owned();
        prop_assert_eq!(matmul::forward(&x, &weights).unwrap(), matmul::forward(&copied, &weights).unwrap());
        let dout = noise([2 * d_out, 3 * seq], seed);
        let dout = dout.slice(s![..;-2, ..;3]).reversed_axes();
        let copied = dout.as_standard_layout().into_owned();
        // The order of a matrix product may depend on strides, so up to rounding.
        let (strided, dense) = (matmul::backward(&dout, &weights).unwrap(), matmul::backward(&copied, &weights).unwrap());
        for (a, b) in strided.iter().zip(&dense) {
            prop_assert!(f64::from(a - b).abs() <= 2.0 * bound(d_out));
        }
    }
}

/// Rows of whole chunks of 64, each with one scale.
#[derive(Debug)]
struct Chunks {
    weights: FourBit,
    values: [f32; 16],
    seq: usize,
    d_out: usize,
    chunks: usize,
    seed: u64,
    size: i32,
}

fn chunks() -> impl Strategy<Value = Chunks> {
    let shape = (1..5_usize, 1..20_usize, 1..20_usize);
    let drawn = (
        code(),
        6..13_u32,
        shape,
        any::<u64>(),
        any::<bool>(),
        -15..15_i32,
    );
    drawn.prop_map(
        |(code, power, (seq, d_out, chunks), seed, is_nested, size)| {
            let config = FourBitConfig::new(code, 1 << power);
            Chunks {
                weights: packed([d_out, 64 * chunks], seed, &config, is_nested),
                values: code.values(),
                seq,
                d_out,
                chunks,
                seed,
                size,
            }
        },
    )
}

impl Chunks {
    fn x(&self) -> Array2<f32> {
        let mut x = noise([self.seq, 64 * self.chunks], self.seed ^ 1) * 10_f32.powi(self.size);
        x[[0, 5]] *= 1e3; // in its chunk all others are small
        x
    }

    /// Products with weights that are not rounded, and how far each may be off: what sums in `f32` lose, and what `of_chunk` says for each chunk
    /// of its elements of x, values and scale.
    fn check(
        &self,
        y: &Array2<f32>,
        of_chunk: impl Fn(&[f64], &[f64], f64) -> f64,
    ) -> Result<(), TestCaseError> {
        let d_in = 64 * self.chunks;
        let scales = match self.weights.scales() {
            Scales::Plain(scales) => scales.clone(),
            Scales::Nested(nested) => double::dequantize(nested).unwrap(),
            _ => unreachable!(),
        };
        let codes = reference::blocks::unpack(self.weights.packed(), self.d_out * d_in);
        let values: Vec<f64> = codes
            .iter()
            .map(|&code| self.values[usize::from(code)].into())
            .collect();
        let x = wide(&self.x());
        for ((t, j), got) in y.indexed_iter() {
            let (mut want, mut size, mut bound) = (0.0, 0.0, 0.0);
            for chunk in 0..self.chunks {
                let x = &x[t * d_in + 64 * chunk..][..64];
                let start = j * d_in + 64 * chunk;
                let scale = f64::from(scales[start / self.weights.block()]);
                let values = &values[start..start + 64];
                for (x, value) in x.iter().zip(values) {
                    want += x * value * scale;
                    size += (x * value * scale).abs();
                }
                bound += of_chunk(x, values, scale.abs());
            }
            bound += (self.chunks as f64 + 5.0) * size * 2_f64.powi(-24);
            prop_assert!(
                (f64::from(*got) - want).abs() <= bound,
                "{got} {want} {bound}"
            );
        }
        Ok(())
    }
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |max, x| max.max(x.abs()))
}

fn sum(x: &[f64]) -> f64 {
    x.iter().map(|x| x.abs()).sum()
}

proptest! {
    /// Within the bound that the documentation of the product has; and a row of x has the same bits with others beside it.
    #[test]
    fn rows_of_whole_chunks_are_within_their_bound(case in chunks()) {
        let x = case.x();
        let y = matmul::forward(&x, &case.weights).unwrap();
        case.check(&y, |x, _, scale| 26.0 * 2_f64.powi(-24) * largest(x) * scale)?;
        for t in 0..case.seq {
            let one = matmul::forward(&x.slice(s![t..=t, ..]), &case.weights).unwrap();
            prop_assert_eq!(one.row(0), y.row(t));
        }
    }

    /// The same of the choice of fewer bits, which is another one.
    #[test]
    fn rows_in_15_bits_are_within_their_bound(case in chunks()) {
        let x = case.x();
        let y = matmul::forward_rounded(&x, &case.weights, ActivationBits::Bits15).unwrap();
        case.check(&y, |x, values, scale| scale * (largest(x) * sum(values) / 32e3 + sum(x) * 2_f64.powi(-15)))?;
        for t in 0..case.seq {
            let one = matmul::forward_rounded(&x.slice(s![t..=t, ..]), &case.weights, ActivationBits::Bits15).unwrap();
            prop_assert_eq!(one.row(0), y.row(t));
        }
        let fine = matmul::forward_rounded(&x, &case.weights, ActivationBits::Bits27).unwrap();
        prop_assert_eq!(&fine, &matmul::forward(&x, &case.weights).unwrap());
    }
}

/// With more rows, and with rows that are not whole chunks, the choice is of no meaning.
#[test]
fn bits_are_chosen_for_few_rows_of_whole_chunks() {
    let config = FourBitConfig::new(four_bit::FourBitCode::Nf4, 64);
    for (seq, d_in, is_rounded) in [(4, 128, true), (5, 128, false), (4, 129, false)] {
        let weights = packed([7, d_in], 3, &config, false);
        let x = noise([seq, d_in], 4);
        let fine = matmul::forward(&x, &weights).unwrap();
        let rounded = matmul::forward_rounded(&x, &weights, ActivationBits::Bits15).unwrap();
        assert_eq!(rounded != fine, is_rounded, "{seq} {d_in}");
    }
}

/// One number that is not finite, or too large, must not spoil more than it does in any sum.
#[test]
fn numbers_that_are_no_whole_ones_count_too() {
    let config = FourBitConfig::new(four_bit::FourBitCode::Nf4, 64);
    let weights = four_bit::quantize(&noise([5, 128], 3), &config).unwrap();
    let w = four_bit::dequantize::<f32>(&weights).unwrap();
    let mut x = Array2::<f32>::zeros([2, 128]);
    for bits in [ActivationBits::Bits27, ActivationBits::Bits15] {
        for special in [f32::NAN, f32::INFINITY, 1e30, -1e-30] {
            x[[1, 70]] = special;
            let y = matmul::forward_rounded(&x, &weights, bits).unwrap();
            assert!(y.row(0).iter().all(|&y| y == 0.0));
            for (j, y) in y.row(1).iter().enumerate() {
                let want = special * w[[j, 70]];
                assert!(*y == want || (y.is_nan() && want.is_nan()), "{y} {want}");
            }
        }
    }
}

/// Several tasks and several tiles in each direction.
#[test]
fn large_products_are_those_of_the_reference() {
    let config = FourBitConfig::new(four_bit::FourBitCode::Nf4, 64);
    for (seq, d_out, d_in) in [
        (1, 700, 1501),
        (33, 301, 1203),
        (6, 3, 20_001),
        (6, 20_001, 3),
        (2, 20_001, 5),
        (3, 901, 1536),
        (70, 530, 1100),
    ] {
        let weights = packed([d_out, d_in], 5, &config, true);
        check(seq, d_out, d_in, 5, &weights).unwrap();
    }
}
