//! Laws of rotary embeddings, over the documented domain.

use llm_numerics::testing::{Tolerance, compare};
use llm_posenc::reference;
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array4, ShapeBuilder, array, s};
use proptest::prelude::*;

/// Cosines and sines are rounded to f32 (6e-8); elements are at most 4, so a pair errs by at most 5e-7.
const TABLE: Tolerance = Tolerance::new(1e-6, 0.0);

/// A config, the positions, and an array that is at least as wide as the part that turns.
#[derive(Clone, Debug)]
struct Case {
    config: RopeConfig,
    positions: Array1<usize>,
    x: Array4<f64>,
}

impl Case {
    fn table(&self) -> RopeTable {
        RopeTable::from_config(&self.config, &self.positions).unwrap()
    }

    fn apply(&self) -> Array4<f64> {
        rope::apply(&self.x, &self.table(), self.config.pairing).unwrap()
    }

    fn angles(&self) -> ndarray::Array2<f64> {
        let inv_freq = reference::rope::inv_freq(&self.config);
        reference::rope::angles(&self.positions, &inv_freq)
    }
}

fn configs() -> impl Strategy<Value = RopeConfig> {
    let pairing = prop_oneof![Just(RopePairing::Interleaved), Just(RopePairing::HalfSplit)];
    (1_usize..20, 1.001_f64..1e7, pairing)
        .prop_map(|(planes, base, pairing)| RopeConfig::new(2 * planes, pairing).with_base(base))
}

fn array4(shape: (usize, usize, usize, usize)) -> impl Strategy<Value = Array4<f64>> {
    let n = shape.0 * shape.1 * shape.2 * shape.3;
    prop::collection::vec(-4.0_f64..4.0, n)
        .prop_map(move |data| Array4::from_shape_vec(shape, data).unwrap())
}

fn cases() -> impl Strategy<Value = Case> {
    (configs(), 0_usize..3, 0_usize..4, 0_usize..6, 0_usize..5).prop_flat_map(
        |(config, batch, heads, seq, tail)| {
            let positions = prop::collection::vec(0_usize..1_000_000, seq);
            let x = array4((batch, heads, seq, config.rotary_dim + tail));
            (positions, x).prop_map(move |(positions, x)| Case {
                config,
                positions: positions.into(),
                x,
            })
        },
    )
}

fn close(got: &Array4<f64>, want: &Array4<f64>) -> Result<(), TestCaseError> {
    compare(got, want, TABLE)
        .map(drop)
        .map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))
}

proptest! {
    /// The fast path equals the matrix of the paper, forward and backward, with any factor.
    #[test]
    fn equals_the_reference(case in cases(), factor in -2.0_f64..2.0) {
        let inv_freq = rope::inv_freq(&case.config).unwrap();
        let table = RopeTable::new(&inv_freq, &case.positions, factor).unwrap();
        let (pairing, angles) = (case.config.pairing, case.angles());
        let got = rope::apply(&case.x, &table, pairing).unwrap();
        close(&got, &reference::rope::apply(&case.x, &angles, pairing, factor).unwrap())?;
        let got = rope::backward(&case.x, &table, pairing).unwrap();
        close(&got, &reference::rope::backward(&case.x, &angles, pairing, factor).unwrap())?;
    }

    /// A rotation changes no length.
    #[test]
    fn norms_are_kept(case in cases()) {
        let y = case.apply();
        for (x, y) in case.x.rows().into_iter().zip(y.rows()) {
            let (before, after) = (x.dot(&x), y.dot(&y));
            prop_assert!((before - after).abs() <= 1e-6 * before);
        }
    }

    // ANCHOR: law
    /// ⟨R_m q, R_n k⟩ = ⟨R_{m+t} q, R_{n+t} k⟩: only the distance matters.
    #[test]
    fn scores_depend_on_relative_position(
        (config, qk) in configs().prop_flat_map(|c| (Just(c), array4((1, 1, 2, c.rotary_dim)))),
        (m, n, shift) in (0_usize..5000, 0_usize..5000, 0_usize..1_000_000),
    ) {
        let score = |m, n| {
            let y = rope::apply_at(&qk, &array![m, n], &config).unwrap();
            (&y.slice(s![0, 0, 0, ..]) * &y.slice(s![0, 0, 1, ..])).sum()
        };
        let difference: f64 = score(m, n) - score(m + shift, n + shift);
        // Two roundings to f32 in each factor of at most 38 products of at most 16 · 2.
        prop_assert!(difference.abs() < 1e-4, "{difference}");
    }
    // ANCHOR_END: law

    /// Position 0 changes no bit.
    #[test]
    fn position_zero_is_the_identity(mut case in cases()) {
        case.positions.fill(0);
        prop_assert_eq!(case.apply(), case.x);
    }

    /// Without a factor, backward undoes apply.
    #[test]
    fn backward_is_the_inverse(case in cases()) {
        let y = rope::backward(&case.apply(), &case.table(), case.config.pairing).unwrap();
        close(&y, &case.x)?;
    }

    /// ⟨dout, R x⟩ = ⟨Rᵀ dout, x⟩: the gradient of a linear map is its transpose.
    #[test]
    fn backward_is_the_adjoint(case in cases(), factor in -2.0_f64..2.0) {
        let inv_freq = rope::inv_freq(&case.config).unwrap();
        let table = RopeTable::new(&inv_freq, &case.positions, factor).unwrap();
        let dout = case.x.mapv(|x| (7.0 * x).sin());
        let y = rope::apply(&case.x, &table, case.config.pairing).unwrap();
        let dx = rope::backward(&dout, &table, case.config.pairing).unwrap();
        // The table is the same, so only f64 rounding is left.
        prop_assert!(((&dout * &y).sum() - (&dx * &case.x).sum()).abs() < 1e-10);
    }

    /// R (a x + b y) = a R x + b R y.
    #[test]
    fn rotation_is_linear(case in cases(), a in -3.0_f64..3.0, b in -3.0_f64..3.0) {
        let y = case.x.mapv(|x| (5.0 * x).cos());
        let rotate = |x: &Array4<f64>| {
            rope::apply(x, &case.table(), case.config.pairing).unwrap()
        };
        let together = rotate(&(&case.x * a + &y * b));
        let apart = rotate(&case.x) * a + rotate(&y) * b;
        prop_assert!((together - apart).iter().all(|x| x.abs() < 1e-12));
    }

    /// Turning to m and then by n is turning to m + n.
    #[test]
    fn rotations_add_up(case in cases(), n in 0_usize..100_000) {
        let delta = Array1::from_elem(case.positions.len(), n);
        let twice = rope::apply_at(&case.apply(), &delta, &case.config).unwrap();
        let once = rope::apply_at(&case.x, &(&case.positions + n), &case.config).unwrap();
        close(&twice, &once)?;
    }

    /// Features from rotary_dim on keep every bit.
    #[test]
    fn the_tail_is_untouched(case in cases()) {
        let tail = s![.., .., .., case.config.rotary_dim..];
        let y = case.apply();
        prop_assert_eq!(y.slice(tail), case.x.slice(tail));
    }

    /// Interleaved on x is half-split on x with even features first, odd features last.
    #[test]
    fn pairings_are_the_same_up_to_a_permutation(case in cases()) {
        let half = case.config.rotary_dim / 2;
        let permute = |x: &Array4<f64>| {
            let mut y = x.clone();
            y.slice_mut(s![.., .., .., ..half]).assign(&x.slice(s![.., .., .., ..2 * half;2]));
            y.slice_mut(s![.., .., .., half..2 * half])
                .assign(&x.slice(s![.., .., .., 1..2 * half;2]));
            y
        };
        let table = case.table();
        let interleaved = rope::apply(&case.x, &table, RopePairing::Interleaved).unwrap();
        let half_split = rope::apply(&permute(&case.x), &table, RopePairing::HalfSplit).unwrap();
        prop_assert_eq!(permute(&interleaved), half_split);
    }

    /// Strides, in place or not, f32 or f64: the same bits or the same values.
    #[test]
    fn every_form_agrees(case in cases()) {
        let (table, pairing) = (case.table(), case.config.pairing);
        let want = case.apply();
        let mut fortran = Array4::zeros(case.x.dim().f());
        fortran.assign(&case.x);
        prop_assert_eq!(&rope::apply(&fortran, &table, pairing).unwrap(), &want);
        rope::apply_inplace(&mut fortran, &table, pairing).unwrap();
        prop_assert_eq!(&fortran, &want);
        rope::backward_inplace(&mut fortran, &table, pairing).unwrap();
        prop_assert_eq!(&fortran, &rope::backward(&want, &table, pairing).unwrap());

        // Token-major memory, as a projection leaves it, seen as [batch, heads, seq, head_dim].
        let tokens = case.x.view().permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned();
        let view = tokens.view().permuted_axes([0, 2, 1, 3]);
        prop_assert_eq!(&rope::apply(&view, &table, pairing).unwrap(), &want);
        // Backwards in every axis but the positions.
        let flipped = s![..;-1, ..;-1, .., ..];
        let got = rope::apply(&case.x.slice(flipped), &table, pairing).unwrap();
        prop_assert_eq!(got.slice(flipped), want.view());

        let narrow = rope::apply(&case.x.mapv(|x| x as f32), &table, pairing).unwrap();
        prop_assert!(compare(&narrow, &want, Tolerance::new(2e-6, 0.0)).is_ok());
    }
}

/// Large enough for several tasks, cut along each axis.
#[test]
fn tasks_do_not_change_the_result() {
    for shape in [(1, 2, 2100, 64), (1, 2100, 2, 64), (2100, 1, 2, 64)] {
        let x = Array4::from_shape_fn(shape, |(b, h, t, i)| ((b + 3 * h + 7 * t + i) % 17) as f32);
        let config = RopeConfig::new(48, RopePairing::HalfSplit);
        let positions: Array1<usize> = (5..5 + shape.2).collect();
        let whole = rope::apply_at(&x, &positions, &config).unwrap();
        // One head of one sequence at a time is below the size that is cut.
        for ((b, h), got) in ndarray::indices((shape.0, shape.1))
            .into_iter()
            .zip(whole.outer_iter().flat_map(|batch| batch.into_outer_iter()))
        {
            let alone = x.slice(s![b..=b, h..=h, .., ..]);
            let want = rope::apply_at(&alone, &positions, &config).unwrap();
            assert_eq!(got, want.slice(s![0, 0, .., ..]));
        }
    }
}
