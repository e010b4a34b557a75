//! Laws of learned positions, over the documented domain.

use llm_numerics::testing::{Tolerance, compare};
use llm_posenc::learned::{self, PositionConvention};
use llm_posenc::reference;
use llm_posenc::testing::position_conventions as conventions;
use ndarray::{Array2, Array3, ArrayView2, ShapeBuilder, s};
use proptest::prelude::*;

/// Sums of at most 24 numbers of at most 4, in f64.
const SUMS: Tolerance = Tolerance::new(1e-13, 0.0);

/// A table, the positions of a batch, and an array of the shape of the batch.
#[derive(Clone, Debug)]
struct Case {
    table: Array2<f64>,
    positions: Array2<usize>,
    x: Array3<f64>,
}

fn values(n: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-4.0_f64..4.0, n)
}

fn cases() -> impl Strategy<Value = Case> {
    (1_usize..7, 0_usize..9, 0_usize..4, 0_usize..7).prop_flat_map(
        |(n_positions, d_model, batch, seq)| {
            let table = values(n_positions * d_model)
                .prop_map(move |x| Array2::from_shape_vec((n_positions, d_model), x).unwrap());
            let positions = prop::collection::vec(0..n_positions, batch * seq)
                .prop_map(move |x| Array2::from_shape_vec((batch, seq), x).unwrap());
            let x = values(batch * seq * d_model)
                .prop_map(move |x| Array3::from_shape_vec((batch, seq, d_model), x).unwrap());
            (table, positions, x).prop_map(|(table, positions, x)| Case {
                table,
                positions,
                x,
            })
        },
    )
}

/// Tokens and padding in any order, and a number of columns in the cache.
fn masks() -> impl Strategy<Value = (Array2<bool>, usize)> {
    (0_usize..4, 0_usize..9).prop_flat_map(|(batch, kv_seq)| {
        let mask = prop::collection::vec(any::<bool>(), batch * kv_seq)
            .prop_map(move |x| Array2::from_shape_vec((batch, kv_seq), x).unwrap());
        (mask, 0..=kv_seq)
    })
}

fn positions(
    mask: ArrayView2<'_, bool>,
    past: usize,
    convention: PositionConvention,
) -> Array2<usize> {
    learned::positions(&mask, past, convention).unwrap()
}

proptest! {
    // ANCHOR: law
    /// A lookup is a product with one-hot rows, and its gradient the product with their transpose.
    #[test]
    fn equals_the_reference(case in cases()) {
        let Case { table, positions, x } = &case;
        let got = learned::embed(table, positions).unwrap();
        prop_assert_eq!(got, reference::learned::embed(table, positions).unwrap());
        let got = learned::backward(x, positions, table.nrows()).unwrap();
        let want = reference::learned::backward(x, positions, table.nrows()).unwrap();
        let found = compare(&got, &want, SUMS);
        prop_assert!(found.is_ok(), "{}", found.unwrap_err());
    }
    // ANCHOR_END: law

    /// ⟨dout, embed(table)⟩ = ⟨backward(dout), table⟩: the gradient of a linear map is its transpose.
    #[test]
    fn backward_is_the_adjoint(case in cases()) {
        let Case { table, positions, x: dout } = &case;
        let out = learned::embed(table, positions).unwrap();
        let dtable = learned::backward(dout, positions, table.nrows()).unwrap();
        prop_assert!(((dout * &out).sum() - (&dtable * table).sum()).abs() < 1e-10);
    }

    /// Adding is `x + embed(table)`.
    #[test]
    fn adding_adds_what_embed_looks_up(case in cases()) {
        let Case { table, positions, x } = &case;
        let mut got = x.clone();
        learned::add_inplace(&mut got, table, positions).unwrap();
        prop_assert_eq!(got, x + learned::embed(table, positions).unwrap());
    }

    /// With ones upstream, the gradient counts how often a row was looked up.
    #[test]
    fn backward_of_ones_counts(case in cases()) {
        let Case { table, positions, x } = &case;
        let ones = Array3::<f32>::ones(x.dim());
        let dtable = learned::backward(&ones, positions, table.nrows()).unwrap();
        for ((row, _), &got) in dtable.indexed_iter() {
            let count = positions.iter().filter(|&&p| p == row).count();
            prop_assert_eq!(got, count as f32);
        }
    }

    /// Strides do not matter: the same bits.
    #[test]
    fn every_form_agrees(case in cases()) {
        let Case { table, positions, x } = &case;
        let out = learned::embed(table, positions).unwrap();
        let dtable = learned::backward(x, positions, table.nrows()).unwrap();
        let mut fortran_table = Array2::zeros(table.dim().f());
        fortran_table.assign(table);
        let mut fortran_positions = Array2::zeros(positions.dim().f());
        fortran_positions.assign(positions);
        let mut fortran_x = Array3::zeros(x.dim().f());
        fortran_x.assign(x);
        prop_assert_eq!(&learned::embed(&fortran_table, &fortran_positions).unwrap(), &out);
        let got = learned::backward(&fortran_x, &fortran_positions, table.nrows()).unwrap();
        prop_assert_eq!(&got, &dtable);
        learned::add_inplace(&mut fortran_x, &fortran_table, &fortran_positions).unwrap();
        prop_assert_eq!(&fortran_x, &(x + &out));
        // All backwards but the rows of the table.
        let (tokens, all) = (s![..;-1, ..;-1], s![..;-1, ..;-1, ..;-1]);
        let got = learned::embed(&table.slice(s![.., ..;-1]), &positions.slice(tokens)).unwrap();
        prop_assert_eq!(got.slice(all), out);
    }

    /// The positions equal the definitions, each counted from the start of the row.
    #[test]
    fn positions_equal_the_reference((mask, past) in masks(), convention in conventions()) {
        let got = positions(mask.view(), past, convention);
        prop_assert_eq!(got, reference::learned::positions(&mask, past, convention));
        let mut fortran = Array2::from_elem(mask.dim().f(), false);
        fortran.assign(&mask);
        let got = positions(fortran.view(), past, convention);
        prop_assert_eq!(got, positions(mask.view(), past, convention));
    }

    /// Decoding one token at a time gives the positions of the whole sequence.
    #[test]
    fn steps_continue_the_whole((mask, _) in masks(), convention in conventions()) {
        let whole = positions(mask.view(), 0, convention);
        for past in 0..mask.ncols() {
            if let PositionConvention::Roberta { .. } = convention {
                // Here each cached column counts, so it holds for rows whose cache has no padding.
                for (b, mask) in mask.outer_iter().enumerate() {
                    if mask.iter().take(past).all(|&m| m) {
                        let row = mask.slice(s![..=past]).insert_axis(ndarray::Axis(0));
                        prop_assert_eq!(positions(row, past, convention)[[0, 0]], whole[[b, past]]);
                    }
                }
                continue;
            }
            let step = positions(mask.slice(s![.., ..=past]), past, convention);
            prop_assert_eq!(step.column(0), whole.column(past));
        }
    }

    /// Without padding every convention counts 0, 1, 2, .. from its own start.
    #[test]
    fn without_padding_only_the_start_differs(
        (mask, past) in masks(),
        convention in conventions(),
    ) {
        let mask = mask.mapv(|_| true);
        let start = match convention {
            PositionConvention::Index { offset } | PositionConvention::Opt { offset } => offset,
            PositionConvention::Roberta { padding_idx } => padding_idx + 1,
            _ => 0,
        };
        let got = positions(mask.view(), past, convention);
        prop_assert!(got.indexed_iter().all(|((_, t), &p)| p == start + past + t));
    }

    /// Padding on the left changes no token's position, but where padding counts.
    #[test]
    fn left_padding_does_not_move_tokens(seq in 0_usize..6, pad in 0_usize..5, convention in conventions()) {
        prop_assume!(!matches!(convention, PositionConvention::Index { .. }));
        let padded = Array2::from_shape_fn((1, pad + seq), |(_, t)| t >= pad);
        let plain = Array2::from_elem((1, seq), true);
        let got = positions(padded.view(), 0, convention);
        let want = positions(plain.view(), 0, convention);
        prop_assert_eq!(got.slice(s![.., pad..]), want);
        let padding = match convention {
            PositionConvention::Opt { offset } => offset - 1,
            PositionConvention::Roberta { padding_idx } => padding_idx,
            _ => 0,
        };
        prop_assert!(got.slice(s![.., ..pad]).iter().all(|&p| p == padding));
    }
}

/// Large enough for several tasks, along both axes and over the features.
#[test]
fn tasks_do_not_change_the_result() {
    for (batch, seq, d_model) in [(2, 700, 301), (700, 2, 301), (1, 3, 200_000)] {
        let (n_positions, shape) = (50, (batch, seq, d_model));
        let x = Array3::from_shape_fn(shape, |(b, t, j)| {
            ((b * 31 + t * 17 + j * 7) % 101) as f32 / 7.0
        });
        let table = Array2::from_shape_fn((n_positions, d_model), |(p, j)| (p * 3 + j) as f32);
        let positions =
            Array2::from_shape_fn((batch, seq), |(b, t)| (b * 13 + t * 5) % n_positions);
        let out = learned::embed(&table, &positions).unwrap();
        let mut want = Array2::<f32>::zeros((n_positions, d_model));
        for ((b, t), &p) in positions.indexed_iter() {
            assert_eq!(out.slice(s![b, t, ..]), table.row(p));
            let mut row = want.row_mut(p);
            row += &x.slice(s![b, t, ..]); // in the order of the tokens
        }
        let dtable = learned::backward(&x, &positions, n_positions).unwrap();
        assert_eq!(dtable, want);
    }
}
