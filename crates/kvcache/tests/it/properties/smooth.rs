//! Laws of smoothed keys: scores stay what they were, whatever the factors, and factors are those of the textbook.

use llm_kvcache::reference::smooth as reference;
use llm_kvcache::smooth::{KeySmoothing, KeyStatistics, SmoothConfig};
use ndarray::{Array2, Array3, ArrayView1, ArrayView2, Axis, concatenate, s};
use proptest::prelude::*;

const KV_HEADS: usize = 2;

/// Keys and queries of as many features, and how many query heads share a key head.
fn arrays() -> impl Strategy<Value = ([Array3<f32>; 2], Array3<f32>)> {
    let number = || {
        prop_oneof![
            4 => -4.0..4.0_f32,
            1 => Just(0.0_f32),
            1 => -60000.0..60000.0_f32,
            1 => -1e-6..1e-6_f32,
            // Two of these are as far from each other as a store takes.
            1 => prop_oneof![Just(1.5e38_f32), Just(-1.5e38_f32), Just(1e-38_f32)],
        ]
    };
    let array = move |[heads, seq, features]: [usize; 3]| {
        prop::collection::vec(number(), heads * seq * features)
            .prop_map(move |x| Array3::from_shape_vec([heads, seq, features], x).unwrap())
    };
    (0..5_usize, 0..4_usize, 0..5_usize, 0..3_usize).prop_flat_map(
        move |(seen, later, features, queries_per_kv)| {
            let queries =
                prop::collection::vec(-4.0..4.0_f32, queries_per_kv * KV_HEADS * 2 * features);
            let queries = queries.prop_map(move |x| {
                Array3::from_shape_vec([queries_per_kv * KV_HEADS, 2, features], x).unwrap()
            });
            (
                [
                    array([KV_HEADS, seen, features]),
                    array([KV_HEADS, later, features]),
                ],
                queries,
            )
        },
    )
}

fn config() -> impl Strategy<Value = SmoothConfig> {
    let alpha = prop_oneof![Just(0.0_f32), Just(0.5), Just(1.0), 0.0..1.0_f32];
    (alpha, any::<bool>()).prop_map(|(alpha, means)| {
        let config = SmoothConfig::new(alpha);
        if means { config.with_means() } else { config }
    })
}

fn wide(x: ArrayView2<'_, f32>) -> Vec<Vec<f64>> {
    let row = |row: ArrayView1<'_, f32>| row.iter().map(|&x| x.into()).collect();
    x.outer_iter().map(row).collect()
}

/// The numbers of a head, zeros where there are none.
fn of_head(x: Option<Array2<f32>>, head: usize, features: usize) -> Vec<f64> {
    let row = |x: Array2<f32>| x.row(head).iter().map(|&x| x.into()).collect();
    x.map_or(vec![0.0; features], row)
}

/// A score of two vectors, and the sum of its terms' magnitudes.
fn score(q: ArrayView1<'_, f32>, k: ArrayView1<'_, f32>, means: &[f64]) -> (f64, f64) {
    let terms =
        (q.iter().zip(k).zip(means)).map(|((&q, &k), mean)| f64::from(q) * (f64::from(k) - mean));
    terms.fold((0.0, 0.0), |(sum, size), term| {
        (sum + term, size + term.abs())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // ANCHOR: scores
    /// With factors of some keys, the scores of those keys and of later ones change by `-q · μ`, and by rounding.
    #[test]
    fn scores_of_a_query_change_by_the_same_number((keys, q) in arrays(), config in config()) {
        let smoothing = KeySmoothing::of_keys(&keys[0], &config).unwrap();
        let asked = smoothing.smooth_queries(&q).unwrap();
        let queries_per_kv = q.dim().0 / KV_HEADS;
        let none = vec![0.0; q.dim().2];
        for (chunk, k) in keys.iter().enumerate() {
            let Ok(stored) = smoothing.smooth_keys(k) else {
                prop_assert_eq!(chunk, 1, "what was seen has a place");
                prop_assert!(k.iter().any(|k| k.abs() > 1e28), "only what is far larger has none");
                continue;
            };
            for (head, (q, asked)) in q.outer_iter().zip(asked.outer_iter()).enumerate() {
                let row = head / queries_per_kv;
                let means = of_head(smoothing.means(), row, none.len());
                let (k, stored) = (k.index_axis(Axis(0), row), stored.index_axis(Axis(0), row));
                for (q, asked) in q.outer_iter().zip(asked.outer_iter()) {
                    for (k, stored) in k.outer_iter().zip(stored.outer_iter()) {
                        let (want, size) = score(q, k, &means);
                        let (got, _) = score(asked, stored, &none);
                        // Two numbers of a term are rounded by 2^-24 of themselves, tiny ones by 2^-150.
                        prop_assert!((got - want).abs() <= 1.2e-7 * size + 1e-34, "{} is not {}", got, want);
                    }
                }
            }
        }
    }
    // ANCHOR_END: scores

    /// Means and factors are the textbook's, rounded to 8 binary digits, and factors are held in their range.
    #[test]
    fn means_and_factors_are_the_textbook((keys, _) in arrays(), config in config()) {
        let [k, _] = keys;
        let smoothing = KeySmoothing::of_keys(&k, &config).unwrap();
        for (head, k) in k.outer_iter().enumerate() {
            let k = wide(k);
            let n = smoothing.factors().dim().1;
            let means = of_head(smoothing.means(), head, n);
            if config.means && !k.is_empty() {
                for (c, (&got, want)) in means.iter().zip(reference::means(&k)).enumerate() {
                    let size: f64 = k.iter().map(|key| key[c].abs()).sum();
                    // Half of 2^-7; sums in another order; the least numbers of all.
                    let bound = want.abs() / 256.0 + 1e-14 * size + 1e-40;
                    prop_assert!((got - want).abs() <= 1.001 * bound, "mean {} is not {}", got, want);
                }
            }
            let want = if k.is_empty() { vec![1.0; n] } else { reference::factors(&k, &means, config.alpha.into()) };
            for (got, want) in of_head(Some(smoothing.factors()), head, n).into_iter().zip(want) {
                let want = want.clamp(2.0_f64.powi(-32), 2.0_f64.powi(32));
                prop_assert!((got - want).abs() <= want / 255.9, "factor {} is not {}", got, want);
            }
        }
    }

    /// Smoothed keys and queries are the textbook's products with a diagonal matrix, and smoothed keys come back.
    #[test]
    fn keys_and_queries_are_the_textbook((keys, q) in arrays(), config in config()) {
        let [k, _] = keys;
        let smoothing = KeySmoothing::of_keys(&k, &config).unwrap();
        let n = k.dim().2;
        let (stored, asked) = (smoothing.smooth_keys(&k).unwrap(), smoothing.smooth_queries(&q).unwrap());
        let restored = smoothing.restore_keys(&stored).unwrap();
        let near = |got: &[Vec<f64>], want: &[Vec<f64>]| {
            let pairs = got.iter().flatten().zip(want.iter().flatten());
            got.len() == want.len() && pairs.clone().all(|(a, b)| (a - b).abs() <= 1e-7 * b.abs() + 1e-44)
        };
        for head in 0..KV_HEADS {
            let of = |x: &Array3<f32>| wide(x.index_axis(Axis(0), head));
            let means = of_head(smoothing.means(), head, n);
            let factors = of_head(Some(smoothing.factors()), head, n);
            prop_assert!(near(&of(&stored), &reference::keys(&of(&k), &means, &factors)));
            for (got, want) in of(&restored).iter().flatten().zip(of(&k).iter().flatten()) {
                let mean = means.iter().fold(0.0, |most: f64, mean| most.max(mean.abs()));
                // By half the last digit of what was stored, and of what came back.
                let bound = 1.2e-7 * (want.abs() + mean) + 1e-34;
                prop_assert!((got - want).abs() <= bound, "{} is not {}", got, want);
            }
        }
        let queries_per_kv = q.dim().0 / KV_HEADS;
        for (head, (q, asked)) in q.outer_iter().zip(asked.outer_iter()).enumerate() {
            let factors = of_head(Some(smoothing.factors()), head / queries_per_kv, n);
            prop_assert!(near(&wide(asked), &reference::queries(&wide(q), &factors)));
        }
    }

    /// What comes in chunks counts as if it came at once, and factors of chunks are merged by the larger one.
    #[test]
    fn chunks_count_as_one((keys, _) in arrays(), config in config()) {
        let [first, second] = &keys;
        let n = first.dim().2;
        let collect = |keys: &[&Array3<f32>]| {
            let mut statistics = KeyStatistics::new(KV_HEADS, n).unwrap();
            for keys in keys {
                statistics.observe(keys).unwrap();
            }
            statistics
        };
        let both = concatenate(Axis(1), &[first.view(), second.view()]).unwrap();
        let at_once = collect(&[&both]);
        prop_assert_eq!(&collect(&[first, second]), &at_once);
        prop_assert_eq!(at_once.tokens(), both.dim().1 as u64);

        let mut merged = collect(&[second]);
        merged.merge(&collect(&[first])).unwrap();
        let alone = SmoothConfig::new(config.alpha);
        let of = |statistics: &KeyStatistics| KeySmoothing::of_statistics(statistics, &alone).unwrap();
        prop_assert_eq!(&of(&merged), &of(&at_once));
        let means = |statistics: &KeyStatistics| {
            let config = alone.with_means();
            KeySmoothing::of_statistics(statistics, &config).unwrap().means().unwrap()
        };
        let want = means(&at_once);
        for ((head, feature), &got) in means(&merged).indexed_iter() {
            let size: f64 = both.slice(s![head, .., feature]).iter().map(|&x| f64::from(x).abs()).sum();
            let want = f64::from(want[[head, feature]]);
            // Sums in another order, which may be rounded to the next number.
            prop_assert!((f64::from(got) - want).abs() <= want.abs() / 127.0 + 1e-14 * size + 1e-40);
        }
        let [a, b, all] = [of(&collect(&[first])), of(&collect(&[second])), of(&at_once)].map(|x| x.factors());
        for (at, &factor) in all.indexed_iter() {
            let is_zero = |keys: &Array3<f32>| keys.slice(s![at.0, .., at.1]).iter().all(|&x| x == 0.0);
            let want = match (is_zero(first), is_zero(second)) {
                (true, true) => 1.0,
                (true, false) => b[at],
                (false, true) => a[at],
                (false, false) => a[at].max(b[at]),
            };
            prop_assert_eq!(factor, want);
        }
    }

    /// Strides do not matter, in place is as out of place, and parts make the whole.
    #[test]
    fn all_ways_agree((keys, q) in arrays(), config in config()) {
        let [k, _] = keys;
        let turned = k.view().permuted_axes([2, 0, 1]).as_standard_layout().into_owned();
        let turned = turned.view().permuted_axes([1, 2, 0]);
        let smoothing = KeySmoothing::of_keys(&turned, &config).unwrap();
        prop_assert_eq!(&smoothing, &KeySmoothing::of_keys(&k, &config).unwrap());
        let stored = smoothing.smooth_keys(&turned).unwrap();
        prop_assert_eq!(&stored, &smoothing.smooth_keys(&k).unwrap());
        let means = smoothing.means();
        let again = KeySmoothing::from_parts(means.as_deref(), &smoothing.factors()).unwrap();
        prop_assert_eq!(&again, &smoothing);
        let arrays = 1 + usize::from(config.means);
        prop_assert_eq!(again.bytes(), arrays * 2 * KV_HEADS * k.dim().2);

        let (mut k, mut q_new) = (k, q.clone());
        smoothing.smooth_keys_inplace(&mut k).unwrap();
        smoothing.smooth_queries_inplace(&mut q_new).unwrap();
        prop_assert_eq!(k, stored);
        prop_assert_eq!(q_new, smoothing.smooth_queries(&q).unwrap());
    }
}
