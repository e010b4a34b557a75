//! Laws of sinusoidal positions, over the documented domain.

use llm_numerics::testing::{Tolerance, compare};
use llm_posenc::reference;
use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use llm_posenc::testing::sinusoidal_configs as configs;
use ndarray::{Array1, Array2, Array3, Axis, ShapeBuilder, array, s};
use proptest::prelude::*;

/// One rounding to f32 of a number of at most 1 (3e-8); angles of at most 1e6 radians, right to 1e-14 of it on each side.
const TABLE: Tolerance = Tolerance::new(6e-8, 0.0);

/// Those in which each sine has its cosine.
fn paired() -> impl Strategy<Value = SinusoidalConfig> {
    configs().prop_map(|mut config| {
        if config.exponent == SinusoidalExponent::TwoIOverDim {
            config.d_model += config.d_model % 2;
        }
        config
    })
}

/// Sines in the order of their frequencies, and the cosines.
fn split(row: &Array1<f32>, config: &SinusoidalConfig) -> (Vec<f32>, Vec<f32>) {
    let used = match config.exponent {
        SinusoidalExponent::TwoIOverDim => config.d_model,
        _ => 2 * (config.d_model / 2),
    };
    let row = row.slice(s![..used]);
    match config.layout {
        SinusoidalLayout::Interleaved => (
            row.slice(s![..;2]).to_vec(),
            row.iter().skip(1).step_by(2).copied().collect(),
        ),
        _ => {
            let (sin, cos) = row.split_at(Axis(0), used.div_ceil(2));
            (sin.to_vec(), cos.to_vec())
        }
    }
}

fn row(position: usize, config: &SinusoidalConfig) -> Array1<f32> {
    sinusoidal::encode(&array![position], config)
        .unwrap()
        .remove_axis(Axis(0))
}

fn product(p: usize, q: usize, config: &SinusoidalConfig) -> f64 {
    let (p, q) = (row(p, config), row(q, config));
    p.iter()
        .zip(&q)
        .map(|(p, q)| f64::from(*p) * f64::from(*q))
        .sum()
}

proptest! {
    /// The fast path equals the formula of the paper, in every dialect, padding row included.
    #[test]
    fn equals_the_reference(
        config in configs(),
        positions in prop::collection::vec(0_usize..1_000_000, 0..6),
        padding in prop::option::of(0_usize..6),
        n_positions in 0_usize..12,
    ) {
        let mut positions = Array1::from_vec(positions);
        let mut config = config;
        if let Some(padding) = padding {
            config = config.with_padding_idx(padding);
            positions.iter_mut().step_by(3).for_each(|p| *p = padding);
        }
        let got = sinusoidal::encode(&positions, &config).unwrap();
        let want = reference::sinusoidal::encode(&positions, &config);
        let found = compare(&got, &want, TABLE);
        prop_assert!(found.is_ok(), "{}", found.unwrap_err());
        let got = sinusoidal::table(n_positions, &config).unwrap();
        let want = reference::sinusoidal::table(n_positions, &config);
        let found = compare(&got, &want, TABLE);
        prop_assert!(found.is_ok(), "{}", found.unwrap_err());
    }

    /// The frequencies fall from 1 in equal ratios; the last is what the exponent says.
    #[test]
    fn frequencies_are_a_geometric_series(config in configs()) {
        let inv_freq = sinusoidal::inv_freq(&config).unwrap().to_vec();
        prop_assert_eq!(inv_freq[0], 1.0);
        let steps = match config.exponent {
            SinusoidalExponent::TwoIOverDim => config.d_model as f64 / 2.0,
            _ => (inv_freq.len() - 1) as f64, // so that the last is 1 / base
        };
        let ratio = config.base.powf(-1.0 / steps);
        for pair in inv_freq.windows(2) {
            prop_assert!((pair[1] / pair[0] - ratio).abs() < 1e-13 * ratio);
        }
    }

    /// A table is the encoding of 0, 1, 2, ..; the positions may come in any order and repeatedly.
    #[test]
    fn a_table_has_a_row_for_each_position(
        config in configs(),
        padding in 0_usize..12,
        order in prop::collection::vec(0_usize..9, 0..20),
    ) {
        let config = config.with_padding_idx(padding);
        let table = sinusoidal::table(9, &config).unwrap();
        prop_assert_eq!(&table, &sinusoidal::encode(&Array1::from_iter(0..9), &config).unwrap());
        let rows = sinusoidal::encode(&Array1::from_vec(order.clone()), &config).unwrap();
        prop_assert_eq!(rows, table.select(Axis(0), &order));
    }

    /// Padding changes its own row, to zeros, and no other.
    #[test]
    fn only_the_padding_row_is_zero(config in configs(), padding in 0_usize..20) {
        let plain = sinusoidal::table(9, &config).unwrap();
        let padded = sinusoidal::table(9, &config.with_padding_idx(padding)).unwrap();
        for (p, (plain, padded)) in plain.outer_iter().zip(padded.outer_iter()).enumerate() {
            if p == padding {
                prop_assert!(padded.iter().all(|&x| x == 0.0));
            } else {
                prop_assert_eq!(plain, padded);
            }
        }
    }

    /// sin² + cos² = 1 in each plane; the feature that fills up an odd width is 0.
    #[test]
    fn each_plane_has_length_one(config in configs(), position in 0_usize..1_000_000) {
        let row = row(position, &config);
        let (sin, cos) = split(&row, &config);
        for (s, c) in sin.iter().zip(&cos) {
            prop_assert!((s * s + c * c - 1.0).abs() < 3e-7);
        }
        if config.exponent == SinusoidalExponent::IOverHalfDimMinusOne && config.d_model % 2 == 1 {
            prop_assert_eq!(row[config.d_model - 1], 0.0);
            prop_assert_eq!(sin.len() + cos.len() + 1, config.d_model);
        }
    }

    /// The layouts hold the same numbers in another order.
    #[test]
    fn layouts_are_the_same_up_to_a_permutation(config in configs(), position in 0_usize..1_000_000) {
        let mut other = config;
        other.layout = match config.layout {
            SinusoidalLayout::Interleaved => SinusoidalLayout::HalfSplit,
            _ => SinusoidalLayout::Interleaved,
        };
        let (row, other_row) = (row(position, &config), row(position, &other));
        prop_assert_eq!(split(&row, &config), split(&other_row, &other));
    }

    // ANCHOR: law
    /// ⟨PE(p), PE(q)⟩ = decay(p - q), wherever the two stand and in either order.
    #[test]
    fn inner_products_depend_on_the_distance_only(
        config in paired(),
        (p, distance, shift) in (0_usize..1000, 0_usize..1000, 0_usize..1_000_000),
    ) {
        let d = distance as f64;
        let want = sinusoidal::decay(&array![d, -d], &config).unwrap();
        prop_assert_eq!(want[0], want[1]);
        // Each of dim products of numbers of at most 1 has two factors that were rounded to f32.
        let bound = config.d_model as f64 * 1.5e-7;
        for start in [p, p + shift] {
            let got = product(start, start + distance, &config);
            prop_assert!((got - want[0]).abs() < bound, "{got} {}", want[0]);
        }
        let at_zero = sinusoidal::decay(&array![0.0], &config).unwrap();
        prop_assert_eq!(at_zero[0], (config.d_model / 2) as f64);
        prop_assert!(want[0] <= at_zero[0]);
    }
    // ANCHOR_END: law

    /// The matrix of inner products equals three loops, for tables of any strides.
    #[test]
    fn the_matrix_of_inner_products_equals_the_reference(config in configs(), n in 0_usize..20) {
        let table = sinusoidal::table(n, &config).unwrap();
        let want = reference::sinusoidal::inner_products(&table.mapv(f64::from));
        // A sum of at most 40 products of at most 1, in f32: each addition errs by 20 · 6e-8 at most.
        let tolerance = Tolerance::new(40.0 * 20.0 * 6e-8, 0.0);
        let got = sinusoidal::inner_products(&table).unwrap();
        prop_assert!(compare(&got, &want, tolerance).is_ok());
        let mut fortran = Array2::zeros(table.dim().f());
        fortran.assign(&table);
        let flipped = s![..;-1, ..];
        let got = sinusoidal::inner_products(&fortran.slice(flipped)).unwrap();
        prop_assert!(compare(&got.slice(s![..;-1, ..;-1]), &want, tolerance).is_ok());
    }

    /// Turning each plane by the angle of k takes the row of p to the row of p + k: positions are a linear shift.
    #[test]
    fn a_shift_of_positions_is_a_rotation(config in paired(), p in 0_usize..100_000, k in 0_usize..100_000) {
        let inv_freq = sinusoidal::inv_freq(&config).unwrap();
        let (sin, cos) = split(&row(p, &config), &config);
        let (want_sin, want_cos) = split(&row(p + k, &config), &config);
        for (i, w) in inv_freq.iter().enumerate() {
            let (s, c) = (k as f64 * w).sin_cos();
            let (sin, cos) = (f64::from(sin[i]), f64::from(cos[i]));
            // Two roundings to f32 in, one out, each of 3e-8, and a turn stretches by √2 at most.
            prop_assert!((sin * c + cos * s - f64::from(want_sin[i])).abs() < 1.5e-7);
            prop_assert!((cos * c - sin * s - f64::from(want_cos[i])).abs() < 1.5e-7);
        }
    }

    /// Adding is `x + table[positions]`, with the same bits in every form, order of axes and way to give positions.
    #[test]
    fn adding_adds_the_rows_of_the_positions(
        config in configs(),
        (batch, seq) in (0_usize..4, 0_usize..6),
        first in 0_usize..100_000,
        padding in 0_usize..6,
    ) {
        let config = config.with_padding_idx(first + padding);
        let shape = (batch, seq, config.d_model);
        let x = Array3::from_shape_fn(shape, |(b, t, j)| (b * 7 + t * 3 + j) as f64 - 5.5);
        let rows = sinusoidal::encode(&Array1::from_iter(first..first + seq), &config).unwrap();
        let want = &x + &rows.mapv(f64::from);
        let mut got = x.clone();
        sinusoidal::add_inplace(&mut got, first, &config).unwrap();
        prop_assert_eq!(&got, &want);

        let mut fortran = Array3::zeros(shape.f());
        fortran.assign(&x);
        sinusoidal::add_inplace(&mut fortran, first, &config).unwrap();
        prop_assert_eq!(&fortran, &want);

        let mut narrow = x.mapv(|x| x as f32);
        sinusoidal::add_inplace(&mut narrow, first, &config).unwrap();
        prop_assert_eq!(&narrow, &(x.mapv(|x| x as f32) + &rows));

        let positions = Array2::from_shape_fn((batch, seq), |(_, t)| first + t);
        let mut got = x.clone();
        sinusoidal::add_at_inplace(&mut got, &positions, &config).unwrap();
        prop_assert_eq!(&got, &want);
        // Each row backwards.
        let flipped = s![.., ..;-1];
        sinusoidal::add_at_inplace(&mut fortran, &positions.slice(flipped), &config).unwrap();
        let twice = &want + &rows.slice(s![..;-1, ..]).mapv(f64::from);
        prop_assert_eq!(&fortran, &twice);
    }
}

/// Large enough for several tasks, with a rest.
#[test]
fn tasks_do_not_change_the_result() {
    let config = SinusoidalConfig::new(
        60,
        SinusoidalLayout::HalfSplit,
        SinusoidalExponent::IOverHalfDimMinusOne,
    );
    let n = 1001;
    let table = sinusoidal::table(n, &config).unwrap();
    let mut x = Array3::<f32>::zeros((3, n, 60));
    sinusoidal::add_inplace(&mut x, 0, &config).unwrap();
    let mut at = Array3::<f32>::zeros((3, n, 60));
    let positions = Array2::from_shape_fn((3, n), |(b, t)| (t + 5 * b) % n);
    sinusoidal::add_at_inplace(&mut at, &positions, &config).unwrap();
    for p in 0..n {
        let alone = row(p, &config);
        assert_eq!(table.row(p), alone);
        for b in 0..3 {
            assert_eq!(x.slice(s![b, p, ..]), alone);
            assert_eq!(at.slice(s![b, (p + n - 5 * b) % n, ..]), alone);
        }
    }
}
