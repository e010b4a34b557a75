//! Laws of rotary embeddings, over the documented domain.

mod axes;
mod permute;
mod scaling;
mod storage;

use llm_numerics::testing::{Tolerance, compare};
use llm_posenc::reference;
use llm_posenc::rope::permute::RopePermutation;
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use llm_posenc::testing::{rope_configs as configs, rope_pairings as pairings};
use ndarray::{Array1, Array2, Array4, Axis, ShapeBuilder, Slice, array, s};
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

    fn angles(&self) -> Array2<f64> {
        let inv_freq = reference::rope::inv_freq(&self.config);
        reference::rope::angles(&self.positions, &inv_freq)
    }
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
        // Two roundings to f32 in each factor of at most 70 products of at most 16 · 2.
        prop_assert!(difference.abs() < 1e-4, "{difference}");
    }
    // ANCHOR_END: law

    /// Position 0 changes no bit, and no place but where the pairing writes elsewhere than it reads.
    #[test]
    fn position_zero_is_the_identity(mut case in cases()) {
        case.positions.fill(0);
        let RopeConfig { rotary_dim, pairing, .. } = case.config;
        let head_dim = case.x.dim().3;
        // Features as they are read, then as they are written, in the half-split layout.
        let order = RopePermutation::new(head_dim, rotary_dim, pairing, RopePairing::HalfSplit).unwrap();
        let want = case.x.select(Axis(3), order.unrotated());
        prop_assert_eq!(case.apply().select(Axis(3), order.rotated()), want);
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

    /// R(n) R(m) = R(m + n) for rotated keys, n of either sign, one for all or one each; a factor stays once.
    #[test]
    fn repositioned_keys_are_as_if_rotated_there(
        (case, distances) in cases().prop_flat_map(|case| {
            let seq = case.positions.len();
            (Just(case), prop::collection::vec(-1_000_000_i64..1_000_000, seq))
        }),
        is_one in any::<bool>(),
        factor in 0.5_f64..2.0,
    ) {
        let inv_freq = rope::inv_freq(&case.config).unwrap();
        let pairing = case.config.pairing;
        let rotate = |positions: &Array1<usize>| {
            let table = RopeTable::new(&inv_freq, positions, factor).unwrap();
            rope::apply(&case.x, &table, pairing).unwrap()
        };
        let mut distances = Array1::from(distances);
        if is_one {
            distances = Array1::from_elem(1, distances.first().copied().unwrap_or(-7));
        }
        let from = &case.positions + 1_000_000; // so that none becomes negative
        let to: Array1<usize> = (0..from.len())
            .map(|t| from[t].strict_add_signed(distances[if is_one { 0 } else { t }] as isize))
            .collect();
        let mut moved = rope::reposition(&rotate(&from), &distances, &inv_freq, pairing).unwrap();
        // Two tables rounded to f32, elements up to 4 · 2.
        let tolerance = Tolerance::new(4e-6, 0.0);
        prop_assert!(compare(&moved, &rotate(&to), tolerance).is_ok());
        rope::reposition_inplace(&mut moved, &-&distances, &inv_freq, pairing).unwrap();
        prop_assert!(compare(&moved, &rotate(&from), tolerance).is_ok());
        let got = rope::reposition(&case.x, &distances, &inv_freq, pairing).unwrap();
        close(&got, &reference::rope::reposition(&case.x, &distances, &inv_freq, pairing).unwrap())?;
    }

    /// A table of all positions of a batch is each row's own table.
    #[test]
    fn batch_tables_are_tables_of_each_row(case in cases(), step in 1_usize..1000) {
        let (batch, _, seq, _) = case.x.dim();
        let inv_freq = rope::inv_freq(&case.config).unwrap();
        let pairing = case.config.pairing;
        let positions = Array2::from_shape_fn((batch, seq), |(b, t)| case.positions[t] + b * step);
        let table = RopeTable::for_batch(&inv_freq, &positions, 1.0).unwrap();
        prop_assert_eq!(table.rows(), batch * seq);
        let y = rope::apply(&case.x, &table, pairing).unwrap();
        let mut dx = y.clone();
        rope::backward_inplace(&mut dx, &table, pairing).unwrap();
        for b in 0..batch {
            let row = Slice::from(b..b + 1);
            let table = RopeTable::new(&inv_freq, &positions.row(b), 1.0).unwrap();
            let want = rope::apply(&case.x.slice_axis(Axis(0), row), &table, pairing).unwrap();
            prop_assert_eq!(y.slice_axis(Axis(0), row), want.view());
            let want = rope::backward(&want, &table, pairing).unwrap();
            prop_assert_eq!(dx.slice_axis(Axis(0), row), want.view());
        }
        let angles = reference::rope::angles(&positions.flatten(), &inv_freq);
        close(&y, &reference::rope::apply(&case.x, &angles, pairing, 1.0).unwrap())?;
    }

    /// A table taken apart and put together is the same, and rounding it twice is rounding it once.
    #[test]
    fn tables_are_their_cosines_and_sines(case in cases()) {
        use llm_numerics::half::{bf16, f16};
        let table = case.table();
        let again = RopeTable::from_cos_sin(&table.cos().reversed_axes().reversed_axes(), &table.sin());
        prop_assert_eq!(&again.unwrap(), &table);
        let rounded = table.rounded::<bf16>();
        prop_assert_eq!(rounded.rounded::<bf16>(), rounded.clone());
        for (x, y) in table.cos().iter().chain(table.sin()).zip(rounded.cos().iter().chain(rounded.sin())) {
            prop_assert!((x - y).abs() <= x.abs() / 256.0);
        }
        prop_assert_eq!(table.rounded::<f32>(), table.clone());
        let fine = table.rounded::<f16>();
        prop_assert!((&table.cos() - &fine.cos()).iter().all(|x| x.abs() <= 1.0 / 2048.0));
    }

    /// The fast curve is the double sum; at distance 0 it is (n - 1) / 2, and never above.
    #[test]
    fn decay_is_the_double_sum(config in configs(), distance in 0_usize..100_000) {
        let inv_freq = rope::inv_freq(&config).unwrap();
        let curve = rope::decay(&inv_freq, &array![distance, 0]).unwrap();
        let want = reference::rope::decay(&inv_freq, distance as f64);
        prop_assert!((curve[0] - want).abs() < 1e-10, "{} {want}", curve[0]);
        let most = (inv_freq.len() - 1) as f64 / 2.0;
        prop_assert_eq!(curve[1], most);
        prop_assert!(curve[0] <= most + 1e-10);
    }

    /// The score is at most the curve and the last sum, times the largest step of the products: Abel's summation.
    #[test]
    fn decay_and_the_last_sum_bound_the_score(
        (config, qk) in configs().prop_flat_map(|c| (Just(c), array4((1, 1, 2, c.rotary_dim)))),
        distance in 0_usize..10_000,
    ) {
        let pairing = RopePairing::Interleaved;
        let inv_freq = rope::inv_freq(&config).unwrap();
        let table = RopeTable::new(&inv_freq, &array![distance, 0], 1.0).unwrap();
        let y = rope::apply(&qk, &table, pairing).unwrap();
        let score: f64 = (&y.slice(s![0, 0, 0, ..]) * &y.slice(s![0, 0, 1, ..])).sum();

        let n = inv_freq.len();
        let (q, k) = (qk.slice(s![0, 0, 0, ..]), qk.slice(s![0, 0, 1, ..]));
        // q conj(k) as (real, imaginary), and 0 behind the last.
        let mut products: Vec<(f64, f64)> = (0..n)
            .map(|i| {
                let ((a, b), (c, d)) = ((q[2 * i], q[2 * i + 1]), (k[2 * i], k[2 * i + 1]));
                (a * c + b * d, b * c - a * d)
            })
            .collect();
        products.push((0.0, 0.0));
        let step = products
            .windows(2)
            .map(|h| (h[1].0 - h[0].0).hypot(h[1].1 - h[0].1))
            .fold(0.0, f64::max);
        let angles = inv_freq.mapv(|w| distance as f64 * w);
        let last = angles.mapv(f64::cos).sum().hypot(angles.mapv(f64::sin).sum());
        let curve = rope::decay(&inv_freq, &array![distance]).unwrap()[0];
        let bound = (n as f64 * curve + last) * step;
        // 36 planes at most, whose sines are rounded to f32, times 32.
        prop_assert!(score.abs() <= bound + 1e-4, "{score} {bound}");
    }

    /// Features from rotary_dim on keep every bit.
    #[test]
    fn the_tail_is_untouched(case in cases()) {
        let tail = s![.., .., .., case.config.rotary_dim..];
        let y = case.apply();
        prop_assert_eq!(y.slice(tail), case.x.slice(tail));
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

/// Large enough for several tasks, cut along each axis; positions for all or for each sequence.
#[test]
fn tasks_do_not_change_the_result() {
    let pairings = [
        RopePairing::Interleaved,
        RopePairing::HalfSplit,
        RopePairing::ReadInterleavedWriteHalfSplit,
    ];
    let shapes = [
        (2, 2, 2100, 64),
        (2, 2100, 2, 64),
        (2100, 1, 2, 64),
        (1, 1, 9000, 48),
    ];
    for (shape, pairing) in shapes
        .into_iter()
        .flat_map(|shape| pairings.map(|pairing| (shape, pairing)))
    {
        let x = Array4::from_shape_fn(shape, |(b, h, t, i)| ((b + 3 * h + 7 * t + i) % 17) as f32);
        let config = RopeConfig::new(48, pairing);
        let inv_freq = rope::inv_freq(&config).unwrap();
        let positions = Array2::from_shape_fn((shape.0, shape.2), |(b, t)| 5 + 3 * b + t);
        let table = RopeTable::for_batch(&inv_freq, &positions, 1.0).unwrap();
        let whole = rope::apply(&x, &table, pairing).unwrap();
        let mut inplace = x.clone();
        rope::apply_inplace(&mut inplace, &table, pairing).unwrap();
        assert_eq!(inplace, whole);
        let shared = rope::apply_at(&x, &positions.row(0), &config).unwrap();
        assert_eq!(
            shared.slice(s![0, .., .., ..]),
            whole.slice(s![0, .., .., ..])
        );
        // A thousand tokens of one head are below the size that is cut.
        for (b, h) in ndarray::indices((shape.0, shape.1)) {
            for start in (0..shape.2).step_by(1000) {
                let t = start..(start + 1000).min(shape.2);
                let alone = x.slice(s![b..=b, h..=h, t.clone(), ..]);
                for (got, row) in [(&whole, b), (&shared, 0)] {
                    let positions = positions.slice(s![row, t.clone()]);
                    let want = rope::apply_at(&alone, &positions, &config).unwrap();
                    assert_eq!(got.slice(s![b..=b, h..=h, t.clone(), ..]), want);
                }
            }
        }
    }
}
