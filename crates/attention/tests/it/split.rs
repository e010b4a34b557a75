//! Laws of a single query whose keys are cut into pieces.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash, merge, reference};
use llm_numerics::testing::{Tolerance, compare};
use ndarray::s;
use proptest::prelude::*;

use crate::cases::{Case, Sizes, close, masks};

/// Sums of some 2000 terms of size 10 in f64.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);

/// A decode step with so many keys, with a tile that no piece is cut at.
fn case(kv_seq: usize, config: AttentionConfig, key: u64) -> Case {
    let sizes = Sizes {
        batch: 1,
        n_heads: 3,
        n_kv_heads: 1,
        seq: 1,
        kv_seq,
        head_dim: 6,
        value_dim: 5,
    };
    Case::new(sizes, config, key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cut or not (a tile of all keys is never cut), and as the textbook has it.
    #[test]
    fn split_equals_whole(
        kv_seq in 500_usize..2200,
        mask in masks(),
        left in prop::option::of(400_usize..1500),
        key_tile in 1_usize..600,
        softcap in prop::option::weighted(0.3, 0.5_f64..50.0),
        key in any::<u64>(),
    ) {
        // Windows of some pieces, besides the masks of short sequences.
        let alignment = CausalAlignment::BottomRight;
        let mask = match left {
            Some(_) => Mask::Window { left, right: Some(0), alignment },
            None => mask,
        };
        let mut config = AttentionConfig::new(mask).with_tile(64, key_tile);
        config.softcap = softcap;
        let mut case = case(kv_seq, config, key);
        let (out, lse) = case.forward();
        let (q, k, v) = (&case.q, &case.k, &case.v);
        let (want, want_lse) = reference::attention::forward(q, k, v, &config).unwrap();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        case.config = config.with_tile(64, usize::MAX);
        let (whole, whole_lse) = case.forward();
        close(&out, &whole, F64)?;
        close(&lse, &whole_lse, F64)?;
    }

    /// Pieces of whose scores none counts, one whose scores are far above the others, and NaN.
    #[test]
    fn pieces_may_be_extreme(
        kv_seq in 1100_usize..2200,
        at in prop_oneof![Just(0), 0_usize..2200],
        length in prop_oneof![Just(700), Just(1100)], // at least one piece, or at least two
        x in prop_oneof![
            Just(f64::NEG_INFINITY), Just(f64::NAN), Just(f64::INFINITY), Just(-1e6), Just(1e6)
        ],
        key in any::<u64>(),
    ) {
        let mut case = case(kv_seq, AttentionConfig::new(Mask::Full), key);
        // A feature of the keys that is `x` in some of them, and 0 in the others.
        case.q.slice_mut(s![.., .., .., 0]).fill(1.0);
        case.k.slice_mut(s![.., .., .., 0]).fill(0.0);
        let some = (at % kv_seq)..(at % kv_seq + length).min(kv_seq);
        case.k.slice_mut(s![.., .., some.clone(), 0]).fill(x);
        let (out, lse) = case.forward();
        if x.is_nan() || x == f64::INFINITY {
            prop_assert!(out.iter().all(|x| x.is_nan()) && lse.iter().all(|x| x.is_nan()));
            return Ok(());
        }
        let (q, k, v) = (&case.q, &case.k, &case.v);
        let (want, want_lse) = reference::attention::forward(q, k, v, &case.config).unwrap();
        // Scores of size 4e5 err by 1e-10 each.
        let tolerance = if x == 1e6 { Tolerance::new(1e-8, 1e-8) } else { F64 };
        close(&out, &want, tolerance)?;
        close(&lse, &want_lse, tolerance)?;
    }
}

/// The pieces are what `merge` makes one of: keys 0 to 511, to 1023, and the rest.
#[test]
fn pieces_merge_as_parts_do() {
    let case = case(1300, AttentionConfig::new(Mask::Full), 7);
    let (out, lse) = case.forward();
    let parts = [0..512, 512..1024, 1024..1300].map(|keys| {
        let keys = s![.., .., keys, ..];
        let (k, v) = (case.k.slice(keys), case.v.slice(keys));
        flash::forward_with_lse(&case.q, &k, &v, &case.config).unwrap()
    });
    let outs: Vec<_> = parts.iter().map(|(out, _)| &**out).collect();
    let lses: Vec<_> = parts.iter().map(|(_, lse)| &**lse).collect();
    let (want, want_lse) = merge::forward(&outs, &lses).unwrap();
    compare(&out, &want, Tolerance::new(1e-14, 1e-14)).unwrap();
    compare(&lse, &want_lse, Tolerance::new(1e-14, 1e-14)).unwrap();
}

/// One key-value head and a long cache: one, two or three threads give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let sizes = Sizes {
        batch: 1,
        n_heads: 8,
        n_kv_heads: 1,
        seq: 1,
        kv_seq: 4000,
        head_dim: 32,
        value_dim: 24,
    };
    let case = Case::new(sizes, AttentionConfig::new(Mask::Full), 3);
    let narrow = |x: &ndarray::Array4<f64>| x.mapv(|x| x as f32);
    let (q, k, v) = (narrow(&case.q), narrow(&case.k), narrow(&case.v));
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap()
            .install(|| flash::forward_with_lse(&q, &k, &v, &case.config).unwrap())
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
}
