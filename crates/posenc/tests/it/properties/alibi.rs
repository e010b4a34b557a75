//! Laws of ALiBi, over the documented domain.

use llm_numerics::softmax;
use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding};
use llm_posenc::reference;
use llm_posenc::testing::alibi_origins as origins;
use ndarray::{Array1, Array2, Array3, Array4, ShapeBuilder, s};
use proptest::prelude::*;

const ORIGINS: [AlibiOrigin; 5] = [
    AlibiOrigin::KeyIndex,
    AlibiOrigin::LastKeyZero,
    AlibiOrigin::AbsoluteDistance,
    AlibiOrigin::SignedDistance,
    AlibiOrigin::PastDistance,
];

/// Sums of at most 70 products of at most 3 · 9 in f64, in another order than the reference.
const SUM: Tolerance = Tolerance::new(1e-12, 0.0);

fn slopes() -> impl Strategy<Value = Array1<f64>> {
    prop::collection::vec(0.0_f64..2.0, 1..6).prop_map(Array1::from)
}

/// Slopes and a gradient with the same heads, for any numbers of queries and keys.
fn gradients() -> impl Strategy<Value = (Array1<f64>, Array3<f64>)> {
    (slopes(), 0_usize..7, 0_usize..9).prop_flat_map(|(slopes, seq, kv_seq)| {
        let shape = (slopes.len(), seq, kv_seq);
        prop::collection::vec(-3.0_f64..3.0, shape.0 * seq * kv_seq).prop_map(move |data| {
            let dbias = Array3::from_shape_vec(shape, data).unwrap();
            (slopes.clone(), dbias)
        })
    })
}

fn masks() -> impl Strategy<Value = Array2<bool>> {
    (0_usize..4, 0_usize..12).prop_flat_map(|(batch, kv_seq)| {
        prop::collection::vec(any::<bool>(), batch * kv_seq)
            .prop_map(move |data| Array2::from_shape_vec((batch, kv_seq), data).unwrap())
    })
}

proptest! {
    /// The closed form equals the recursion of the authors, for any number of heads.
    #[test]
    fn slopes_equal_the_reference(n_heads in 1_usize..300, max_bias in 0.0_f64..40.0) {
        let slopes = alibi::slopes(n_heads, max_bias).unwrap();
        let want = reference::alibi::slopes(n_heads, max_bias);
        // One rounding to f32 (6e-8); the reference takes powers up to 256 in f64.
        assert_close(&slopes, &want, Tolerance::new(0.0, 1e-7));
    }

    /// All slopes are different, at most 1, at least 2^-max_bias, and that one is there.
    #[test]
    fn slopes_fill_a_range(n_heads in 1_usize..300, max_bias in 0.01_f64..40.0) {
        let mut slopes = alibi::slopes(n_heads, max_bias).unwrap().to_vec();
        slopes.sort_by(f32::total_cmp);
        prop_assert!(slopes.is_sorted_by(|a, b| a < b), "{slopes:?}");
        prop_assert_eq!(slopes[0], (-max_bias).exp2() as f32);
        prop_assert!(slopes[n_heads - 1] < 1.0);
    }

    /// Twice the heads keep every slope of a power of two.
    #[test]
    fn twice_the_heads_keep_the_slopes(power in 0_u32..8, max_bias in 0.0_f64..40.0) {
        let few = alibi::slopes(1 << power, max_bias).unwrap();
        let many = alibi::slopes(2 << power, max_bias).unwrap();
        prop_assert_eq!(few, many.slice(s![1..;2]));
    }

    /// The fast forms equal the loops of the reference, forward and backward.
    #[test]
    fn equals_the_reference((slopes, dbias) in gradients(), origin in origins()) {
        let (_, seq, kv_seq) = dbias.dim();
        let distances = alibi::distances(seq, kv_seq, origin).unwrap();
        let want = reference::alibi::distances(seq, kv_seq, origin);
        prop_assert_eq!(distances.mapv(|d| d as f64), want);
        let bias = alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
        prop_assert_eq!(bias, reference::alibi::bias(&slopes, seq, kv_seq, origin));
        let dslopes = alibi::backward(&dbias, origin).unwrap();
        assert_close(&dslopes, &reference::alibi::backward(&dbias, origin), SUM);
    }

    /// The form for a loop over scores has the bits of the whole array, in f32 too.
    #[test]
    fn one_score_at_a_time_is_the_same(
        slopes in slopes(), seq in 0_usize..7, kv_seq in 0_usize..9, origin in origins(),
    ) {
        let slopes = slopes.mapv(|slope| slope as f32);
        let bias = alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
        for ((head, query, key), &got) in bias.indexed_iter() {
            let want = alibi::score_bias(slopes[head], query, key, seq, kv_seq, origin);
            prop_assert_eq!(got.to_bits(), want.to_bits());
        }
    }

    // ANCHOR: law
    /// One key further away costs one slope more: linear, and with it monotone.
    #[test]
    fn the_penalty_is_linear_in_the_distance(
        slope in 0.0_f32..2.0, seq in 1_usize..50, more in 0_usize..50, origin in origins(),
    ) {
        let kv_seq = seq + more;
        for query in 0..seq {
            let position = query + more;
            let bias = |key| alibi::score_bias(slope, query, key, seq, kv_seq, origin);
            for distance in 0..=position {
                // Relative to the query's own key, where three of the origins are 0.
                let got = bias(position) - bias(position - distance);
                // Products of at most 100 · 2, each rounded once, and their difference.
                prop_assert!((got - slope * distance as f32).abs() <= 4e-5);
            }
        }
    }
    // ANCHOR_END: law

    /// Nothing is added to the score of a query and its own key, wherever the query stands.
    #[test]
    fn the_diagonal_is_zero(slopes in slopes(), seq in 1_usize..9, more in 0_usize..9) {
        for origin in [
            AlibiOrigin::AbsoluteDistance,
            AlibiOrigin::SignedDistance,
            AlibiOrigin::PastDistance,
        ] {
            let bias = alibi::bias(&slopes, seq, seq + more, origin).unwrap();
            for query in 0..seq {
                prop_assert!(bias.slice(s![.., query, query + more]).iter().all(|&x| x == 0.0));
            }
        }
    }

    /// Query and key moved together have the same bias: only the distance matters.
    #[test]
    fn only_the_distance_matters(
        slopes in slopes(), seq in 1_usize..9, kv_seq in 1_usize..9, shift in 1_usize..9,
    ) {
        for origin in [
            AlibiOrigin::AbsoluteDistance,
            AlibiOrigin::SignedDistance,
            AlibiOrigin::PastDistance,
        ] {
            let short = alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
            // `shift` more keys and as many queries in front; the end is as before.
            let long = alibi::bias(&slopes, seq + shift, kv_seq + shift, origin).unwrap();
            prop_assert_eq!(long.slice(s![.., shift.., shift..]), short.view());
            prop_assert_eq!(
                long.slice(s![.., ..seq, ..kv_seq]),
                short.view(),
                "the start is as the end"
            );
        }
    }

    /// A later chunk of queries has the last rows of the whole.
    #[test]
    fn a_decode_step_is_the_last_row(
        slopes in slopes(), kv_seq in 1_usize..20, seq in 1_usize..20, origin in origins(),
    ) {
        let seq = seq.min(kv_seq);
        let whole = alibi::bias(&slopes, kv_seq, kv_seq, origin).unwrap();
        let chunk = alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
        prop_assert_eq!(whole.slice(s![.., kv_seq - seq.., ..]), chunk.view());
    }

    /// Behind a causal mask the softmax takes out what tells the origins apart.
    #[test]
    fn causal_weights_do_not_depend_on_the_origin(
        (slopes, scores) in (slopes(), 1_usize..7, 0_usize..6).prop_flat_map(|(slopes, seq, more)| {
            let shape = (slopes.len(), seq, seq + more);
            prop::collection::vec(-3.0_f64..3.0, shape.0 * shape.1 * shape.2).prop_map(move |data| {
                (slopes.clone(), Array3::from_shape_vec(shape, data).unwrap())
            })
        }),
    ) {
        let (_, seq, kv_seq) = scores.dim();
        let weights = |origin| {
            let mut x = &scores + &alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
            for ((_, query, key), x) in x.indexed_iter_mut() {
                if key > query + kv_seq - seq {
                    *x = f64::NEG_INFINITY;
                }
            }
            softmax::softmax_inplace(&mut x);
            x
        };
        let want = weights(AlibiOrigin::SignedDistance);
        for origin in ORIGINS {
            // Scores of at most 30 in f64.
            assert_close(&weights(origin), &want, Tolerance::new(1e-13, 0.0));
        }
    }

    /// ⟨dbias, bias(slopes)⟩ = ⟨backward(dbias), slopes⟩: the gradient of a linear map is its transpose.
    #[test]
    fn backward_is_the_adjoint((slopes, dbias) in gradients(), origin in origins()) {
        let (_, seq, kv_seq) = dbias.dim();
        let bias = alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
        let dslopes = alibi::backward(&dbias, origin).unwrap();
        let difference = (&dbias * &bias).sum() - (&dslopes * &slopes).sum();
        prop_assert!(difference.abs() <= 1e-10, "{difference}");
    }

    /// Any strides give the same bits, and f32 is f64 rounded.
    #[test]
    fn every_form_agrees((slopes, dbias) in gradients(), origin in origins()) {
        let want = alibi::backward(&dbias, origin).unwrap();
        let mut fortran = Array3::zeros(dbias.dim().f());
        fortran.assign(&dbias);
        prop_assert_eq!(&alibi::backward(&fortran, origin).unwrap(), &want);
        let flipped = dbias.slice(s![..;-1, ..;-1, ..;-1]).to_owned();
        let got = alibi::backward(&flipped.slice(s![..;-1, ..;-1, ..;-1]), origin).unwrap();
        prop_assert_eq!(&got, &want);
        // Sums of up to 70 terms of at most 3 · 9 that were rounded to f32 (2e-7 each).
        let narrow = alibi::backward(&dbias.mapv(|x| x as f32), origin).unwrap();
        assert_close(&narrow, &want, Tolerance::new(2e-4, 1e-6));

        let (_, seq, kv_seq) = dbias.dim();
        let want = alibi::bias(&slopes, seq, kv_seq, origin).unwrap();
        let twice = Array1::from_shape_fn(2 * slopes.len(), |h| slopes[h / 2]);
        prop_assert_eq!(&alibi::bias(&twice.slice(s![..;2]), seq, kv_seq, origin).unwrap(), &want);
        let narrow = alibi::bias(&slopes.mapv(|x| x as f32), seq, kv_seq, origin).unwrap();
        // The slope and the product are rounded.
        assert_close(&narrow, &want, Tolerance::new(0.0, 1.3e-7));
    }

    /// Positions count the tokens before a key; both roundings equal the reference.
    #[test]
    fn padded_batches_equal_the_reference(slopes in slopes(), mask in masks()) {
        let positions = alibi::key_positions(&mask).unwrap();
        let want = reference::alibi::key_positions(&mask);
        prop_assert_eq!(positions.mapv(|p| p as f64), want.clone());
        let mut fortran = Array2::from_elem(mask.dim().f(), false);
        fortran.assign(&mask);
        prop_assert_eq!(&alibi::key_positions(&fortran).unwrap(), &positions);
        for rounding in [AlibiRounding::Product, AlibiRounding::Bfloat16] {
            let got = alibi::bias_at(&slopes, &positions, rounding).unwrap();
            prop_assert_eq!(got, reference::alibi::bias_at(&slopes, &want, rounding));
        }
    }

    /// bfloat16 rounds as the reference does it with powers of two, for positions of any size and
    /// for slopes of every magnitude, down to the smallest.
    #[test]
    fn bfloat16_equals_the_reference(
        slope in prop_oneof![0.0_f32..2.0, (0_u32..0x4000_0000).prop_map(f32::from_bits)],
        position in 0_usize..2_000_000,
    ) {
        let slopes = Array1::from_elem(1, slope);
        let positions = Array2::from_elem((1, 1), position);
        let got = alibi::bias_at(&slopes, &positions, AlibiRounding::Bfloat16).unwrap();
        let want = reference::alibi::bias_at(
            &slopes.mapv(f64::from),
            &positions.mapv(|p| p as f64),
            AlibiRounding::Bfloat16,
        );
        prop_assert_eq!(got.mapv(f64::from), want);
    }

    /// Slopes a hair beside the middle of two bfloat16 go to the nearer one, in f64 too.
    #[test]
    fn bfloat16_has_no_second_rounding(bits in 0_u16..0x4000, ulps in -3_i64..=3) {
        let lower = f64::from(f32::from_bits(u32::from(bits) << 16));
        let upper = f64::from(f32::from_bits((u32::from(bits) + 1) << 16));
        let middle = (lower + upper) / 2.0; // exact
        let slope = f64::from_bits((middle.to_bits() as i64 + ulps) as u64);
        let slopes = Array1::from_elem(1, slope);
        let positions = Array2::from_elem((1, 1), 1);
        let got = alibi::bias_at(&slopes, &positions, AlibiRounding::Bfloat16).unwrap();
        let even = if bits % 2 == 0 { lower } else { upper };
        let want = [lower, even, upper][(ulps.signum() + 1) as usize];
        prop_assert_eq!(got[[0, 0, 0, 0]], want);
    }

    /// Without padding the positions are the key indices; padding in front shifts, and changes no weights.
    #[test]
    fn padding_on_the_left_shifts(slopes in slopes(), padding in 0_usize..6, kv_seq in 1_usize..9) {
        let mask = Array2::from_shape_fn((1, padding + kv_seq), |(_, j)| j >= padding);
        let positions = alibi::key_positions(&mask).unwrap();
        let got = alibi::bias_at(&slopes, &positions, AlibiRounding::Product).unwrap();
        let want = alibi::bias(&slopes, 1, kv_seq, AlibiOrigin::KeyIndex).unwrap();
        prop_assert_eq!(got.slice(s![0, .., .., padding..]), want.view());
        prop_assert!(got.slice(s![.., .., .., ..padding]).iter().all(|&x| x == 0.0));
    }

    /// ⟨dbias, bias_at(slopes)⟩ = ⟨backward_at(dbias), slopes⟩, with the bias shared by the queries.
    #[test]
    fn backward_at_is_the_adjoint(slopes in slopes(), mask in masks(), seq in 0_usize..4) {
        let positions = alibi::key_positions(&mask).unwrap();
        let bias = alibi::bias_at(&slopes, &positions, AlibiRounding::Product).unwrap();
        let (batch, kv_seq) = mask.dim();
        let shape = (batch, slopes.len(), seq, kv_seq);
        let dbias = Array4::from_shape_fn(shape, |(b, h, i, j)| ((b + 3 * h + 5 * i + 7 * j) as f64).sin());
        let dslopes = alibi::backward_at(&dbias, &positions).unwrap();
        let difference = (&dbias * &bias).sum() - (&dslopes * &slopes).sum();
        prop_assert!(difference.abs() <= 1e-10, "{difference}");
    }
}

/// Large enough for threads: each head alone is not.
#[test]
fn tasks_do_not_change_the_result() {
    let slopes = alibi::slopes(7, alibi::MAX_BIAS).unwrap();
    for origin in ORIGINS {
        let bias = alibi::bias(&slopes, 130, 257, origin).unwrap();
        let dbias = bias.mapv(f32::sin);
        let dslopes = alibi::backward(&dbias, origin).unwrap();
        for head in 0..7 {
            let one = slopes.slice(s![head..=head]);
            let alone = alibi::bias(&one, 130, 257, origin).unwrap();
            assert_eq!(bias.slice(s![head..=head, .., ..]), alone);
            let dbias = dbias.slice(s![head..=head, .., ..]);
            let alone = alibi::backward(&dbias, origin).unwrap();
            assert_eq!(dslopes[head].to_bits(), alone[0].to_bits());
        }
    }
}
