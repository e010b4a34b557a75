//! Laws of T5's relative bias, over the documented domain.

use llm_numerics::testing::{Tolerance, assert_close};
use llm_posenc::reference;
use llm_posenc::t5::{self, T5Config, T5Direction};
use llm_posenc::testing::t5_configs as configs;
use ndarray::{Array2, Array3, ShapeBuilder, s};
use proptest::prelude::*;

/// Settings, a table, `past` and a gradient that fit each other.
fn cases() -> impl Strategy<Value = (T5Config, Array2<f64>, usize, Array3<f64>)> {
    let sizes = (configs(), 1_usize..4, 0_usize..9, 0_usize..12, 0_usize..60);
    sizes.prop_flat_map(|(config, heads, seq, kv_seq, past)| {
        let array = |n| prop::collection::vec(-3.0_f64..3.0, n);
        let table = (config.n_buckets(), heads);
        let dbias = (heads, seq, kv_seq);
        (array(table.0 * heads), array(heads * seq * kv_seq)).prop_map(move |(x, y)| {
            let table = Array2::from_shape_vec(table, x).unwrap();
            (
                config,
                table,
                past,
                Array3::from_shape_vec(dbias, y).unwrap(),
            )
        })
    })
}

/// Where `f32` may decide otherwise than real numbers: four roundings of 6e-8, of a logarithm of
/// up to `n - e` steps, and a step is `ln(max / e) / (n - e)` of the distance.
fn near_a_border(distance: i64, config: &T5Config) -> bool {
    let ratio = config.max_distance() as f64 / config.n_exact() as f64;
    let slack = 4.0 * 6e-8 * ratio.ln();
    reference::t5::borders(config)
        .iter()
        .any(|&border| (border - distance.abs() as f64).abs() <= slack * border)
}

proptest! {
    /// The rule of transformers is the rule in real numbers, but at distances that lie on a border.
    #[test]
    fn buckets_equal_the_reference(config in configs(), relative in -3000_i64..3000) {
        let (got, want) = (t5::bucket(relative, &config), reference::t5::bucket(relative, &config));
        if near_a_border(relative, &config) {
            prop_assert!(got.abs_diff(want) <= 1, "{got} and {want}");
        } else {
            prop_assert_eq!(got, want);
        }
    }

    /// A bucket is a row of the table, and further away is never a lower bucket.
    #[test]
    fn buckets_grow_with_the_distance(config in configs()) {
        let mut before = (0, 0);
        for distance in 0..3000 {
            let earlier = t5::bucket(-distance, &config);
            let later = t5::bucket(distance, &config);
            prop_assert!(earlier >= before.0 && later >= before.1);
            prop_assert!(earlier < config.n_directed() && later < config.n_buckets());
            before = (earlier, later);
        }
    }

    /// Distances below `n_exact` are alone in their buckets, those from `max_distance` on share the last.
    #[test]
    fn near_is_exact_and_far_is_shared(config in configs(), beyond in 0_i64..1_000_000) {
        for distance in 0..config.n_exact() {
            prop_assert_eq!(t5::bucket(-(distance as i64), &config), distance);
        }
        let far = config.max_distance() as i64 + beyond;
        prop_assert_eq!(t5::bucket(-far, &config), config.n_directed() - 1);
    }

    /// With two directions later keys are as earlier ones in the upper half; with one they are all in bucket 0.
    #[test]
    fn directions_are_symmetric_or_ignored(config in configs(), distance in 1_i64..3000) {
        let (earlier, later) = (t5::bucket(-distance, &config), t5::bucket(distance, &config));
        match config.direction() {
            T5Direction::Bidirectional => {
                prop_assert_eq!(later, earlier + config.n_buckets() / 2);
            }
            _ => prop_assert_eq!(later, 0),
        }
    }

    /// Every bucket is used where the borders are at least a token apart, but for the first of the
    /// upper half: distance 0 is in the lower half.
    #[test]
    fn every_bucket_is_reached(config in configs()) {
        let exact = config.n_exact() as f64;
        let steps = (config.n_directed() - config.n_exact()) as f64;
        let first_step = exact * (config.max_distance() as f64 / exact).powf(1.0 / steps) - exact;
        prop_assume!(first_step > 1.001);
        let mut used = vec![false; config.n_buckets()];
        for relative in -3000..3000 {
            used[t5::bucket(relative, &config)] = true;
        }
        let unused: Vec<usize> = (0..used.len()).filter(|&bucket| !used[bucket]).collect();
        let want = match config.direction() {
            T5Direction::Bidirectional => vec![config.n_buckets() / 2],
            _ => vec![],
        };
        prop_assert_eq!(unused, want);
    }

    /// The gather is the product with a one-hot matrix, and backward its transpose.
    #[test]
    fn equals_the_reference((config, table, past, dbias) in cases()) {
        let (_, seq, kv_seq) = dbias.dim();
        for distance in 0..(seq + kv_seq + past) as i64 {
            prop_assume!(!near_a_border(distance, &config) || (
                t5::bucket(-distance, &config) == reference::t5::bucket(-distance, &config)
            ));
        }
        let got = t5::bias(&table, seq, kv_seq, past, &config).unwrap();
        let want = reference::t5::bias(&table, seq, kv_seq, past, &config);
        prop_assert_eq!(got, want);
        let got = t5::backward(&dbias, past, &config).unwrap();
        let want = reference::t5::backward(&dbias, past, &config);
        // Sums of at most 108 numbers of at most 3 in f64.
        assert_close(&got, &want, Tolerance::new(1e-12, 0.0));
    }

    /// Each entry is the row of its bucket.
    #[test]
    fn entries_are_read_from_the_table((config, table, past, dbias) in cases()) {
        let (_, seq, kv_seq) = dbias.dim();
        let bias = t5::bias(&table, seq, kv_seq, past, &config).unwrap();
        for ((head, query, key), &x) in bias.indexed_iter() {
            let relative = key as i64 - (query + past) as i64;
            prop_assert_eq!(x, table[[t5::bucket(relative, &config), head]]);
        }
    }

    /// Only `key - query` matters: cached tokens are as tokens of the same call.
    #[test]
    fn past_queries_are_leading_rows((config, table, past, dbias) in cases()) {
        let (_, seq, kv_seq) = dbias.dim();
        let chunk = t5::bias(&table, seq, kv_seq, past, &config).unwrap();
        let whole = t5::bias(&table, past + seq, kv_seq, 0, &config).unwrap();
        prop_assert_eq!(whole.slice(s![.., past.., ..]), chunk.view());
        let moved = t5::bias(&table, seq, kv_seq + 3, past + 3, &config).unwrap();
        prop_assert_eq!(moved.slice(s![.., .., 3..]), chunk.view());
    }

    /// ⟨dbias, bias(table)⟩ = ⟨backward(dbias), table⟩.
    #[test]
    fn backward_is_the_adjoint((config, table, past, dbias) in cases()) {
        let (_, seq, kv_seq) = dbias.dim();
        let bias = t5::bias(&table, seq, kv_seq, past, &config).unwrap();
        let dtable = t5::backward(&dbias, past, &config).unwrap();
        let difference = (&dbias * &bias).sum() - (&dtable * &table).sum();
        prop_assert!(difference.abs() <= 1e-10, "{difference}");
    }

    /// Any strides give the same bits, and f32 is near.
    #[test]
    fn every_form_agrees((config, table, past, dbias) in cases()) {
        let (_, seq, kv_seq) = dbias.dim();
        let want = t5::bias(&table, seq, kv_seq, past, &config).unwrap();
        let mut fortran = Array2::zeros(table.dim().f());
        fortran.assign(&table);
        prop_assert_eq!(&t5::bias(&fortran, seq, kv_seq, past, &config).unwrap(), &want);
        let want = t5::backward(&dbias, past, &config).unwrap();
        let mut fortran = Array3::zeros(dbias.dim().f());
        fortran.assign(&dbias);
        prop_assert_eq!(&t5::backward(&fortran, past, &config).unwrap(), &want);
        // Sums of up to 108 numbers of at most 3 that were rounded to f32 (2e-7 each).
        let narrow = t5::backward(&dbias.mapv(|x| x as f32), past, &config).unwrap();
        assert_close(&narrow, &want, Tolerance::new(3e-5, 1e-6));
    }
}

/// Large enough for threads: each head alone is not.
#[test]
fn tasks_do_not_change_the_result() {
    let config = T5Config::new(32, 128, T5Direction::Bidirectional).unwrap();
    let table = Array2::from_shape_fn((32, 7), |(b, h)| ((7 * b + h) as f32).sin());
    let bias = t5::bias(&table, 130, 257, 127, &config).unwrap();
    let dtable = t5::backward(&bias, 127, &config).unwrap();
    for head in 0..7 {
        let one = table.slice(s![.., head..=head]);
        let alone = t5::bias(&one, 130, 257, 127, &config).unwrap();
        assert_eq!(bias.slice(s![head..=head, .., ..]), alone);
        let alone = t5::backward(&alone, 127, &config).unwrap();
        assert_eq!(dtable.slice(s![.., head..=head]), alone);
    }
}
