//! Laws of processors and draws.

use llm_sampling::reference;
use llm_sampling::top_k::Ties;
use llm_sampling::top_p::SumFrom;
use llm_sampling::{
    Dialect, SamplingConfig, categorical, greedy, sampler, temperature, top_k, top_p,
};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use proptest::prelude::*;

const MASKED: f64 = f64::NEG_INFINITY;

/// A logit: masked, one of a few (so that there are ties), usual, or large.
fn logit() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(MASKED),
        3 => (-3..4_i32).prop_map(f64::from),
        5 => -8.0..8.0,
        1 => -2e4..2e4,
        1 => Just(-0.0),
    ]
}

/// A row with at least one token above `-inf`.
fn row(max_vocab: usize) -> impl Strategy<Value = Vec<f64>> {
    (
        prop::collection::vec(logit(), 1..=max_vocab),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut row, index)| {
            let token = index.index(row.len());
            if row.iter().all(|x| *x == MASKED) {
                row[token] = 1.0;
            }
            row
        })
}

fn ties() -> impl Strategy<Value = Ties> {
    prop_oneof![Just(Ties::Kept), Just(Ties::Exact)]
}

fn sum_from() -> impl Strategy<Value = SumFrom> {
    prop_oneof![Just(SumFrom::Smallest), Just(SumFrom::Largest)]
}

fn probability() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.001..1.0, 1 => Just(1.0), 1 => Just(f64::MIN_POSITIVE)]
}

fn config() -> impl Strategy<Value = SamplingConfig> {
    let dialect = prop_oneof![Just(Dialect::HuggingFace), Just(Dialect::LlamaCpp)];
    let (k, p) = (
        prop::option::of(1..20_usize),
        prop::option::of(probability()),
    );
    (dialect, 0.05..5.0, k, p)
        .prop_map(|(dialect, t, k, p)| SamplingConfig::sample(dialect, t, k, p).unwrap())
}

fn uniform() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..1.0, 1 => Just(0.0), 1 => Just(1.0 - f64::EPSILON / 2.0)]
}

fn one_row(row: &[f64]) -> Array2<f64> {
    Array2::from_shape_vec([1, row.len()], row.to_vec()).unwrap()
}

fn kept(row: ArrayView1<'_, f64>) -> Vec<usize> {
    (0..row.len()).filter(|&i| row[i] > MASKED).collect()
}

/// Softmax in `f64`.
fn probabilities(row: &[f64]) -> Vec<f64> {
    reference::categorical::log_softmax(row)
        .into_iter()
        .map(f64::exp)
        .collect()
}

/// True if no sum of the likeliest tokens lies so near `p` that rounding decides.
fn clear_of(row: &[f64], p: f64) -> bool {
    let mut sorted = probabilities(row);
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0_f64;
    sorted.into_iter().all(|q| {
        sum += q;
        (sum - p).abs() > 1e-9 || p == 1.0
    })
}

proptest! {
    #[test]
    fn temperature_matches_the_reference(row in row(40), t in prop_oneof![0.01..10.0, Just(1.0), 1e-30..1e-20, 1e20..1e30]) {
        let mut x = one_row(&row);
        temperature::apply_inplace(&mut x, t).unwrap();
        prop_assert_eq!(x.into_raw_vec_and_offset().0, reference::temperature::apply(&row, t));
    }

    #[test]
    fn top_k_matches_the_reference(row in row(40), k in 1..50_usize, ties in ties(), least in 1..5_usize) {
        let mut x = one_row(&row);
        top_k::apply_inplace(&mut x, k, ties, least).unwrap();
        prop_assert_eq!(x.into_raw_vec_and_offset().0, reference::top_k::apply(&row, k, ties, least));
    }

    #[test]
    fn top_p_matches_the_reference(row in prop_oneof![row(40), row(400)], p in probability(), from in sum_from(), least in 1..5_usize) {
        prop_assume!(clear_of(&row, p));
        let mut x = one_row(&row);
        top_p::apply_sum_inplace(&mut x, p, from, least).unwrap();
        prop_assert_eq!(x.into_raw_vec_and_offset().0, reference::top_p::apply(&row, p, from, least));
    }

    #[test]
    fn chains_match_the_reference(row in row(40), config in config()) {
        let expected = reference::sampler::apply(&row, &config);
        // Away from rounding: wherever top-p looks, in either order.
        if let sampler::SamplingMode::Sample { dialect, temperature, top_k, top_p: Some(p) } = config.mode() {
            let before = SamplingConfig::sample(dialect, temperature, top_k, None).unwrap();
            prop_assume!(clear_of(&reference::sampler::apply(&row, &before), p));
            let plain = SamplingConfig::sample(dialect, 1.0, top_k, None).unwrap();
            prop_assume!(clear_of(&reference::sampler::apply(&row, &plain), p));
        }
        let mut x = one_row(&row);
        sampler::apply_inplace(&mut x, &config).unwrap();
        prop_assert_eq!(x.into_raw_vec_and_offset().0, expected);
    }

    /// Filters change no logit that they keep, so they keep the order of tokens; the likeliest always stays.
    #[test]
    fn filters_mask_or_keep(row in row(40), k in 1..50_usize, p in probability(), ties in ties(), from in sum_from()) {
        let mut by_k = one_row(&row);
        top_k::apply_inplace(&mut by_k, k, ties, 1).unwrap();
        let mut by_p = one_row(&row);
        top_p::apply_sum_inplace(&mut by_p, p, from, 1).unwrap();
        let max = row.iter().copied().fold(MASKED, f64::max);
        for x in [by_k, by_p] {
            prop_assert!(x.row(0).iter().zip(&row).all(|(x, y)| x.to_bits() == y.to_bits() || *x == MASKED));
            let smallest = x.iter().copied().filter(|x| *x > MASKED).fold(f64::INFINITY, f64::min);
            prop_assert!(row.iter().zip(x.row(0)).all(|(y, x)| *y <= smallest || x == y), "a larger one was masked");
            prop_assert!(x.iter().any(|x| *x == max));
        }
    }

    #[test]
    fn top_k_keeps_k(row in row(40), k in 1..50_usize) {
        let available = kept(ArrayView1::from(&row)).len();
        for ties in [Ties::Kept, Ties::Exact] {
            let mut x = one_row(&row);
            top_k::apply_inplace(&mut x, k, ties, 1).unwrap();
            let count = kept(x.row(0)).len();
            match ties {
                Ties::Exact => prop_assert_eq!(count, k.min(available)),
                _ => prop_assert!(count >= k.min(available)),
            }
            if k >= row.len() {
                prop_assert_eq!(x, one_row(&row));
            }
        }
    }

    /// A sure token and a flat tail of probability `1 - p`: the sum reaches its bound where the tail begins.
    #[test]
    fn top_p_matches_the_reference_in_a_flat_tail(
        (p, noise) in (0.01..0.999_f64, prop::collection::vec(-0.006..0.006_f64, 2..2000)),
        from in sum_from(), least in 1..3_usize,
    ) {
        let level = ((1.0 - p) / (p * noise.len() as f64)).ln();
        let mut row: Vec<f64> = noise.iter().map(|x| level + x).collect();
        row.push(0.0);
        prop_assume!(clear_of(&row, p));
        let mut x = one_row(&row);
        top_p::apply_sum_inplace(&mut x, p, from, least).unwrap();
        prop_assert_eq!(x.into_raw_vec_and_offset().0, reference::top_p::apply(&row, p, from, least));
    }

    // ANCHOR: law
    /// No smaller set of tokens has probability `p`: all subsets are tried.
    #[test]
    fn top_p_keeps_the_smallest_sufficient_set(row in row(10), p in 0.001..1.0, from in sum_from()) {
        prop_assume!(clear_of(&row, p));
        let mut x = one_row(&row);
        top_p::apply_sum_inplace(&mut x, p, from, 1).unwrap();
        let q = probabilities(&row);
        let mass = |subset: u32| -> f64 { (0..q.len()).filter(|i| subset >> i & 1 == 1).map(|i| q[i]).sum() };
        let smallest = (0..1_u32 << q.len()).filter(|&subset| mass(subset) >= p).map(u32::count_ones).min();
        let kept = kept(x.row(0));
        prop_assert_eq!(Some(kept.len() as u32), smallest);
        prop_assert!(kept.iter().map(|&i| q[i]).sum::<f64>() >= p);
    }
    // ANCHOR_END: law

    /// Each token comes for as many of equally spaced `u` as it has weight.
    #[test]
    fn inverse_cdf_hits_each_token_with_its_probability(weights in prop::collection::vec(0..20_u32, 1..12)) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let p = Array1::from_iter(weights.iter().map(|&w| f64::from(w)));
        let logits = p.mapv(f64::ln);
        let (mut hits, mut draws) = (vec![0; weights.len()], vec![0; weights.len()]);
        for i in 0..total {
            let u = (f64::from(i) + 0.5) / f64::from(total);
            hits[categorical::inverse_cdf(&p, u).unwrap() as usize] += 1;
            draws[categorical::draw(&logits, u).unwrap().token as usize] += 1;
        }
        prop_assert_eq!(&hits, &weights);
        prop_assert_eq!(&draws, &weights);
    }

    #[test]
    fn a_draw_is_where_the_cumulative_distribution_passes_u(row in row(40), u in uniform()) {
        let cumulative = reference::categorical::cumulative(&row);
        prop_assume!(cumulative.iter().all(|c| (c - u).abs() > 1e-9));
        let draw = categorical::draw(&ArrayView1::from(&row), u).unwrap();
        let token = cumulative.iter().position(|c| *c > u).unwrap();
        prop_assert_eq!(draw.token as usize, token);
        let expected = reference::categorical::log_softmax(&row)[token];
        prop_assert!((draw.log_probability - expected).abs() <= 1e-12 * expected.abs().max(1.0));
    }

    #[test]
    fn greedy_matches_the_reference(row in row(200)) {
        let token = reference::greedy::argmax(&row);
        prop_assert_eq!(greedy::argmax(&ArrayView1::from(&row)), Ok(token as u32));
        let draw = sampler::sample(&one_row(&row), &SamplingConfig::greedy(), &[]).unwrap()[0];
        let expected = reference::categorical::log_softmax(&row)[token];
        prop_assert_eq!(draw.token as usize, token);
        prop_assert!((draw.log_probability - expected).abs() <= 1e-12 * expected.abs().max(1.0));
    }

    /// With the runner-up 800 temperatures below, where e^-800 is 0, no `u` gives another token than greedy decoding.
    #[test]
    fn a_low_temperature_is_greedy(row in row(40), u in uniform(), dialect in prop_oneof![Just(Dialect::HuggingFace), Just(Dialect::LlamaCpp)]) {
        let token = reference::greedy::argmax(&row);
        let second = row.iter().enumerate().filter(|(i, _)| *i != token).fold(MASKED, |max, (_, x)| max.max(*x));
        let gap = row[token] - second;
        prop_assume!(gap > 1e-6);
        let config = SamplingConfig::sample(dialect, gap.min(1e3) / 800.0, None, None).unwrap();
        let draw = sampler::sample(&one_row(&row), &config, &[u]).unwrap()[0];
        prop_assert_eq!(draw.token as usize, token);
    }

    /// A chain without top-p and with `k` of the whole vocabulary is a plain draw.
    #[test]
    fn settings_that_change_nothing_change_nothing(row in row(40), u in uniform()) {
        let plain = categorical::draw(&ArrayView1::from(&row), u).unwrap();
        for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp] {
            let config = SamplingConfig::sample(dialect, 1.0, Some(row.len()), Some(1.0)).unwrap();
            prop_assert_eq!(sampler::sample(&one_row(&row), &config, &[u]).unwrap(), vec![plain]);
        }
    }

    /// Rows do not know of each other, nor of their strides.
    #[test]
    fn packing_into_batches_does_not_matter(
        (rows, uniforms) in (1..6_usize, 1..20_usize).prop_flat_map(|(batch, vocab)| {
            let logits = prop::collection::vec((-6.0..6.0_f32).prop_map(|x| (4.0 * x).round() / 4.0), batch * vocab);
            (logits.prop_map(move |x| Array2::from_shape_vec([batch, vocab], x).unwrap()), prop::collection::vec(uniform(), batch))
        }),
        config in config(),
    ) {
        let together = sampler::sample(&rows, &config, &uniforms).unwrap();
        let mut backwards = rows.clone();
        backwards.invert_axis(Axis(0));
        let backwards = backwards.t().as_standard_layout().into_owned(); // columns are rows now
        let reversed: Vec<f64> = uniforms.iter().rev().copied().collect();
        let mut turned = sampler::sample(&backwards.t(), &config, &reversed).unwrap();
        turned.reverse();
        prop_assert_eq!(&turned, &together);
        for (i, row) in rows.rows().into_iter().enumerate() {
            let alone = sampler::sample(&row.insert_axis(Axis(0)), &config, &uniforms[i..=i]).unwrap();
            prop_assert_eq!(alone[0], together[i]);
        }
    }

    /// In `f32` the same tokens stay as in the reference, unless rounding decides.
    #[test]
    fn f32_matches_the_reference(row in prop::collection::vec(-12.0..12.0_f32, 1..300), p in 0.01..0.999_f64, u in uniform()) {
        let wide: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let mut sorted = probabilities(&wide);
        sorted.sort_by(|a, b| b.total_cmp(a));
        let mut sum = 0.0_f64;
        prop_assume!(sorted.into_iter().all(|q| {
            sum += q;
            (sum - p).abs() > 1e-6
        }));
        for (dialect, from) in [(Dialect::HuggingFace, SumFrom::Smallest), (Dialect::LlamaCpp, SumFrom::Largest)] {
            let config = SamplingConfig::sample(dialect, 1.0, None, Some(p)).unwrap();
            let mut x = Array2::from_shape_vec([1, row.len()], row.clone()).unwrap();
            sampler::apply_inplace(&mut x, &config).unwrap();
            let expected = reference::top_p::apply(&wide, p, from, 1);
            prop_assert_eq!(x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), expected.clone());

            let cumulative = reference::categorical::cumulative(&expected);
            if cumulative.iter().all(|c| (c - u).abs() > 1e-6) {
                let x = Array2::from_shape_vec([1, row.len()], row.clone()).unwrap();
                let draw = sampler::sample(&x, &config, &[u]).unwrap()[0];
                let token = cumulative.iter().position(|c| *c > u).unwrap();
                prop_assert_eq!(draw.token as usize, token);
                let log_p = reference::categorical::log_softmax(&expected)[token];
                prop_assert!((draw.log_probability - log_p).abs() < 1e-6);
            }
        }
    }
}
