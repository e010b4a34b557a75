//! Products with packed weights and a low-rank update of them.

use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_quant::four_bit::{self, FourBit, FourBitCode, FourBitConfig};
use llm_quant::matmul::low_rank::{self, Gradients, LowRank};
use llm_quant::{matmul, reference};
use ndarray::{Array2, ArrayRef2, s};
use proptest::prelude::*;

use super::matmul::{noise, packed};
use super::strategies::config;

/// A layer and what goes through it; the factors are noise too, so that `B A` is of the size of the weights.
struct Layer {
    weights: FourBit,
    x: Array2<f32>,
    dout: Array2<f32>,
    a: Array2<f32>,
    b: Array2<f32>,
    scaling: f32,
}

impl Layer {
    fn new(
        [seq, d_out, d_in, rank]: [usize; 4],
        config: &FourBitConfig,
        is_nested: bool,
        seed: u64,
    ) -> Self {
        Self {
            weights: packed([d_out, d_in], seed, config, is_nested),
            x: noise([seq, d_in], seed ^ 1),
            dout: noise([seq, d_out], seed ^ 2),
            a: noise([rank, d_in], seed ^ 3),
            b: noise([d_out, rank], seed ^ 4),
            scaling: noise([1, 1], seed ^ 5)[[0, 0]] * 3.0,
        }
    }

    fn update(&self) -> LowRank<'_> {
        LowRank::new(&self.a, &self.b, self.scaling).unwrap()
    }

    fn forward(&self) -> Array2<f32> {
        low_rank::forward(&self.x, &self.weights, &self.update()).unwrap()
    }

    fn backward(&self) -> Gradients {
        low_rank::backward(&self.dout, &self.x, &self.weights, &self.update()).unwrap()
    }

    fn unpacked(&self) -> Array2<f64> {
        let w = four_bit::dequantize::<f32>(&self.weights).unwrap();
        let w = w.mapv(f64::from);
        w.into_shape_with_order([self.b.nrows(), self.a.ncols()])
            .unwrap()
    }
}

fn wide(x: &ArrayRef2<f32>) -> Array2<f64> {
    x.mapv(f64::from)
}

fn list(x: &Array2<f64>) -> Vec<f64> {
    x.iter().copied().collect()
}

/// The sums of magnitudes that bound what rounding does to a product with an update: each of `terms` additions, and each of some more steps, is off
/// by half a unit in the last place of no more than `size`.
fn close(
    got: &Array2<f32>,
    want: &[f64],
    size: &Array2<f64>,
    terms: usize,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.dim(), size.dim());
    let relative = 1.01 * (terms as f64 + 6.0) * f64::from(f32::EPSILON) / 2.0;
    for ((got, want), size) in got.iter().zip(want).zip(size) {
        let allowed = relative * size + 1e-40;
        prop_assert!(
            (f64::from(*got) - want).abs() <= allowed,
            "{got} {want} {allowed}"
        );
    }
    Ok(())
}

fn check(layer: &Layer) -> Result<(), TestCaseError> {
    let [x, dout, a, b] = [&layer.x, &layer.dout, &layer.a, &layer.b].map(|x| wide(x));
    let w = layer.unpacked();
    let ((seq, d_in), d_out, rank) = (x.dim(), dout.ncols(), a.nrows());
    let (y, gradients) = (layer.forward(), layer.backward());
    let input = low_rank::backward_input(&layer.dout, &layer.weights, &layer.update()).unwrap();
    prop_assert_eq!(&input, &gradients.x);
    if d_in == 0 || d_out == 0 {
        prop_assert_eq!(y, Array2::<f32>::zeros([seq, d_out]));
        prop_assert_eq!(gradients.x, Array2::<f32>::zeros([seq, d_in]));
        prop_assert_eq!(gradients.a, Array2::<f32>::zeros([rank, d_in]));
        prop_assert_eq!(gradients.b, Array2::<f32>::zeros([d_out, rank]));
        return Ok(());
    }
    let scaling = f64::from(layer.scaling);
    let (a_list, b_list) = (list(&a), list(&b));
    let update = reference::matmul::LowRank {
        a: &a_list,
        b: &b_list,
        scaling,
    };
    // The product with the update is that with merged weights.
    let merged = update.merged(&list(&w), d_in, d_out);
    let want = reference::matmul::forward(&list(&x), &merged, d_in, d_out);
    let [abs_x, abs_dout, abs_w, abs_a, abs_b] = [&x, &dout, &w, &a, &b].map(|x| x.mapv(f64::abs));
    let low = abs_x.dot(&abs_a.t());
    let low_out = abs_dout.dot(&abs_b);
    let scaling = scaling.abs();
    let size = abs_x.dot(&abs_w.t()) + low.dot(&abs_b.t()) * scaling;
    close(&y, &want, &size, d_in + rank)?;
    let [dx, da, db] = update.backward(&list(&dout), &list(&x), &list(&w), d_in, d_out);
    let size = abs_dout.dot(&abs_w) + low_out.dot(&abs_a) * scaling;
    close(&gradients.x, &dx, &size, d_out + rank)?;
    let size = low_out.t().dot(&abs_x) * scaling;
    close(&gradients.a, &da, &size, d_out + seq)?;
    let size = abs_dout.t().dot(&low) * scaling;
    close(&gradients.b, &db, &size, d_in + seq)
}

proptest! {
    /// Few rows of x and many, odd rows of weights, rows of whole chunks, zero-length axes.
    #[test]
    fn products_are_those_with_merged_weights(
        config in config(), seq in 0..9_usize, d_out in 0..40_usize, d_in in prop_oneof![0..90_usize, Just(64), Just(192)], rank in 0..20_usize,
        is_nested: bool, seed: u64,
    ) {
        check(&Layer::new([seq, d_out, d_in, rank], &config, is_nested, seed))?;
    }

    /// Not a bit changes without an update.
    #[test]
    fn rank_0_is_the_plain_product(config in config(), seq in 0..9_usize, d_out in 0..40_usize, d_in in 0..90_usize, seed: u64) {
        let layer = Layer::new([seq, d_out, d_in, 0], &config, false, seed);
        let bits = |x: &Array2<f32>| x.mapv(f32::to_bits);
        let y = matmul::forward(&layer.x, &layer.weights).unwrap();
        prop_assert_eq!(bits(&layer.forward()), bits(&y));
        let dx = matmul::backward(&layer.dout, &layer.weights).unwrap();
        prop_assert_eq!(bits(&layer.backward().x), bits(&dx));
    }

    /// With weights of zeros nothing else is rounded, so that twice the scaling is twice the result, bit for bit.
    #[test]
    fn results_are_linear_in_the_scaling(seq in 1..9_usize, d_out in 1..40_usize, d_in in 1..90_usize, rank in 1..20_usize, seed: u64) {
        let config = FourBitConfig::new(FourBitCode::Nf4, 64);
        let mut layer = Layer::new([seq, d_out, d_in, rank], &config, false, seed);
        layer.weights = four_bit::quantize(&Array2::<f32>::zeros([d_out, d_in]), &config).unwrap();
        let (y, gradients) = (layer.forward(), layer.backward());
        prop_assert!(y.iter().any(|y| *y != 0.0));
        layer.scaling *= -2.0;
        let (twice, twice_gradients) = (layer.forward(), layer.backward());
        prop_assert_eq!(twice, y * -2.0);
        prop_assert_eq!(twice_gradients.x, gradients.x * -2.0);
        prop_assert_eq!(twice_gradients.a, gradients.a * -2.0);
        prop_assert_eq!(twice_gradients.b, gradients.b * -2.0);
    }

    /// Strides of any argument, and an output that is there and holds something.
    #[test]
    fn strides_and_old_content_do_not_matter(
        config in config(), seq in 1..9_usize, d_out in 1..20_usize, d_in in 1..70_usize, rank in 1..9_usize, seed: u64,
    ) {
        let mut layer = Layer::new([seq, d_out, d_in, rank], &config, false, seed);
        let sparse = |rows: usize, columns: usize| noise([2 * columns, 3 * rows], seed ^ rows as u64);
        let [x, a, b] = [sparse(seq, d_in), sparse(rank, d_in), sparse(d_out, rank)];
        let [x, a, b] = [&x, &a, &b].map(|x| x.slice(s![..;-2, ..;3]).reversed_axes());
        [layer.x, layer.a, layer.b] = [x, a, b].map(|x| x.as_standard_layout().into_owned());
        let update = LowRank::new(&a, &b, layer.scaling).unwrap();
        let mut out = Array2::from_elem([d_out, 2 * seq], f32::NAN);
        let mut strided = out.slice_mut(s![.., ..;2]).reversed_axes();
        low_rank::forward_into(&x, &layer.weights, &update, &mut strided).unwrap();
        let want = layer.forward();
        if seq < 5 {
            prop_assert_eq!(&strided, &want);
        }
        // The order of a matrix product may depend on strides, so up to rounding.
        let allowed = (d_in + rank + 6) as f32 * f32::EPSILON * (d_in as f32) * (1.02 + rank as f32 * layer.scaling.abs());
        for (got, want) in strided.iter().zip(&want) {
            prop_assert!((got - want).abs() <= allowed, "{got} {want}");
        }
        let mut plain = Array2::from_elem([d_out, seq], f32::NAN).reversed_axes();
        matmul::forward_into(&x, &layer.weights, &mut plain).unwrap();
        for (got, want) in plain.iter().zip(&matmul::forward(&layer.x, &layer.weights).unwrap()) {
            prop_assert!((got - want).abs() <= allowed, "{got} {want}");
        }
    }
}

/// The textbook's gradients are those of its product, by differences.
#[test]
fn gradients_are_those_of_the_product() {
    let layer = Layer::new(
        [3, 4, 5, 2],
        &FourBitConfig::new(FourBitCode::Nf4, 64),
        false,
        7,
    );
    let [x, dout, a, b] = [&layer.x, &layer.dout, &layer.a, &layer.b].map(|x| wide(x));
    let (w, scaling) = (list(&layer.unpacked()), f64::from(layer.scaling));
    let loss = |x: &Array2<f64>, a: &Array2<f64>, b: &Array2<f64>| -> f64 {
        let (a, b) = (&list(a), &list(b));
        let update = reference::matmul::LowRank { a, b, scaling };
        let y = reference::matmul::forward(&list(x), &update.merged(&w, 5, 4), 5, 4);
        y.iter().zip(&dout).map(|(y, dout)| y * dout).sum()
    };
    let (a_list, b_list) = (list(&a), list(&b));
    let update = reference::matmul::LowRank {
        a: &a_list,
        b: &b_list,
        scaling,
    };
    let [dx, da, db] = update.backward(&list(&dout), &list(&x), &w, 5, 4);
    let of = |like: &Array2<f64>, list| Array2::from_shape_vec(like.dim(), list).unwrap();
    let check = GradientCheck::new();
    assert_gradient(|x| loss(x, &a, &b), &x, &of(&x, dx), &check);
    assert_gradient(|a| loss(&x, a, &b), &a, &of(&a, da), &check);
    assert_gradient(|b| loss(&x, &a, b), &b, &of(&b, db), &check);
}

/// Several tasks and several tiles in each direction, few rows and many.
#[test]
fn large_products_are_those_with_merged_weights() {
    let config = FourBitConfig::new(FourBitCode::Nf4, 64);
    for sizes in [
        [1, 700, 1501, 33],
        [33, 301, 1203, 16],
        [2, 20_001, 5, 3],
        [3, 901, 1536, 70],
        [70, 530, 1100, 8],
    ] {
        check(&Layer::new(sizes, &config, true, 5)).unwrap();
    }
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let config = FourBitConfig::new(FourBitCode::Nf4, 64);
    for seq in [1, 4, 300] {
        let layer = Layer::new([seq, 1200, 1536, 16], &config, true, 11);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| (layer.forward(), layer.backward()))
        };
        let one = run(1);
        for threads in 2..4 {
            assert_eq!(run(threads), one);
        }
    }
}
