//! Laws of rings, and of sinks with a window.

use llm_kvcache::SinkCache;
use llm_kvcache::reference::window::SeenTokens;
use llm_kvcache::ring::{RingCache, RingConfig};
use ndarray::{Array3, Array4, Axis, s};
use proptest::prelude::*;

const HEADS: usize = 2;
const HEAD_DIM: usize = 2;
const VALUE_DIM: usize = 1;

#[derive(Clone, Debug)]
enum Operation {
    Append { row: usize, seq: usize },
    AppendAll { seq: usize },
    Crop { row: usize, back: usize },
    Reorder { rows: Vec<usize> },
    Select { rows: Vec<usize> },
    Clear,
    SaveAndLoad,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (0..4_usize, 0..9_usize).prop_map(|(row, seq)| Operation::Append { row, seq }),
        3 => (0..4_usize).prop_map(|seq| Operation::AppendAll { seq }),
        4 => (0..4_usize, 0..6_usize).prop_map(|(row, back)| Operation::Crop { row, back }),
        2 => prop::collection::vec(0..4_usize, 0..5).prop_map(|rows| Operation::Reorder { rows }),
        1 => prop::collection::vec(0..4_usize, 0..4).prop_map(|rows| Operation::Select { rows }),
        1 => Just(Operation::Clear),
        1 => Just(Operation::SaveAndLoad),
    ]
}

/// Keys of tokens that are known by a number; values are minus that.
fn keys(tokens: &[u64]) -> Array3<f64> {
    Array3::from_shape_fn([HEADS, tokens.len(), HEAD_DIM], |(h, t, d)| {
        (tokens[t] * 100 + 10 * h as u64 + d as u64) as f64
    })
}

fn values(tokens: &[u64]) -> Array3<f64> {
    -keys(tokens).slice_move(s![.., .., ..VALUE_DIM])
}

/// Runs operations on a cache with sinks, and on a ring too where there are none.
fn run(
    [batch, n_sinks, window, slack]: [usize; 4],
    operations: Vec<Operation>,
) -> Result<(), TestCaseError> {
    let config = RingConfig::new(batch, HEADS, window, HEAD_DIM)
        .with_slack(slack)
        .with_value_dim(VALUE_DIM);
    let mut cache = SinkCache::<f64>::new(n_sinks, &config).unwrap();
    let mut ring = RingCache::<f64>::new(&config).unwrap();
    let mut model = vec![SeenTokens::<u64>::new(n_sinks, window, slack); batch];
    let mut next = 0;
    let mut new = |seq: usize| -> Vec<u64> {
        next += seq as u64;
        (next - seq as u64..next).collect()
    };
    for operation in operations {
        let (mut done, expected) = match &operation {
            Operation::Append { row, seq } => {
                let tokens = new(*seq);
                let (k, v) = (keys(&tokens), values(&tokens));
                let of_ring = ring.append(*row, &k, &v).is_ok();
                let done = cache.append(*row, &k, &v).is_ok();
                let expected = *row < model.len();
                if expected {
                    tokens.iter().for_each(|&token| model[*row].push(token));
                }
                (vec![done, of_ring], expected)
            }
            Operation::AppendAll { seq } => {
                let tokens: Vec<_> = model.iter().map(|_| new(*seq)).collect();
                let mut k = Array4::zeros([model.len(), HEADS, *seq, HEAD_DIM]);
                let mut v = Array4::zeros([model.len(), HEADS, *seq, VALUE_DIM]);
                for (row, tokens) in tokens.iter().enumerate() {
                    k.index_axis_mut(Axis(0), row).assign(&keys(tokens));
                    v.index_axis_mut(Axis(0), row).assign(&values(tokens));
                    tokens.iter().for_each(|&token| model[row].push(token));
                }
                (
                    vec![
                        cache.append_all(&k, &v).is_ok(),
                        ring.append_all(&k, &v).is_ok(),
                    ],
                    true,
                )
            }
            Operation::Crop { row, back } => {
                let len = model.get(*row).map_or(0, |row| row.seen.len());
                let to = if *back == 5 {
                    len + 1
                } else {
                    len.saturating_sub(*back)
                };
                let expected = model.get_mut(*row).is_some_and(|row| row.crop(to));
                (
                    vec![cache.crop(*row, to).is_ok(), ring.crop(*row, to).is_ok()],
                    expected,
                )
            }
            Operation::Reorder { rows } | Operation::Select { rows } => {
                let selected: Option<Vec<_>> =
                    rows.iter().map(|&row| model.get(row).cloned()).collect();
                let is_reorder = matches!(operation, Operation::Reorder { .. });
                let selected = selected.filter(|_| !is_reorder || rows.len() == model.len());
                let expected = selected.is_some();
                model = selected.unwrap_or(model);
                if is_reorder {
                    (
                        vec![cache.reorder(rows).is_ok(), ring.reorder(rows).is_ok()],
                        expected,
                    )
                } else {
                    let (a, b) = (cache.select(rows), ring.select(rows));
                    let done = vec![a.is_ok(), b.is_ok()];
                    cache = a.unwrap_or(cache);
                    ring = b.unwrap_or(ring);
                    (done, expected)
                }
            }
            Operation::SaveAndLoad => {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                cache.save(&mut a).unwrap();
                ring.save(&mut b).unwrap();
                cache = SinkCache::load(&a[..], 1 << 16).unwrap();
                ring = RingCache::load(&b[..], 1 << 16).unwrap();
                (vec![true, true], true)
            }
            Operation::Clear => {
                cache.clear();
                ring.clear();
                model.iter_mut().for_each(|row| row.seen.clear());
                (vec![true, true], true)
            }
        };
        if n_sinks > 0 {
            done.truncate(1);
        }
        prop_assert!(
            done.iter().all(|&done| done == expected),
            "{:?}: {:?}, not {}",
            operation,
            done,
            expected
        );
        prop_assert_eq!(cache.batch(), model.len());
        for (row, model) in model.iter().enumerate() {
            let held = model.held();
            let (positions, tokens): (Vec<_>, Vec<_>) = held.into_iter().unzip();
            prop_assert_eq!(cache.positions(row).unwrap(), positions.clone());
            prop_assert_eq!(cache.seen(row), Ok(model.seen.len()));
            prop_assert_eq!(cache.len(row), Ok(tokens.len()));
            prop_assert_eq!(
                cache.forgotten(row),
                Ok(model.seen.iter().filter(|t| t.is_none()).count())
            );
            prop_assert_eq!(cache.stored_keys(row).unwrap(), keys(&tokens));
            prop_assert_eq!(cache.values(row).unwrap(), values(&tokens));
            if n_sinks == 0 {
                prop_assert_eq!(ring.seen(row), Ok(model.seen.len()));
                let first = positions.first().copied().unwrap_or(model.seen.len());
                if !tokens.is_empty() {
                    prop_assert_eq!(ring.first_position(row), Ok(first));
                }
                prop_assert_eq!(ring.len(row), Ok(tokens.len()));
                prop_assert_eq!(ring.ordered_keys(row).unwrap(), keys(&tokens));
                prop_assert_eq!(ring.ordered_values(row).unwrap(), values(&tokens));
                let [older, newer] = ring.key_parts(row).unwrap();
                prop_assert_eq!(older.dim().1 + newer.dim().1, tokens.len());
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // ANCHOR: ring
    /// Any operations on windows do what they do to lists from which old tokens are lost.
    #[test]
    fn a_ring_is_a_list_whose_old_tokens_are_lost(
        sizes in (0..4_usize, Just(0_usize), 1..5_usize, 0..4_usize).prop_map(|(a, b, c, d)| [a, b, c, d]),
        operations in prop::collection::vec(operation(), 0..24),
    ) {
        run(sizes, operations)?;
    }
    // ANCHOR_END: ring

    /// The same with sinks that are never lost.
    #[test]
    fn sinks_are_never_lost(
        sizes in (1..4_usize, 1..4_usize, 1..5_usize, 0..4_usize).prop_map(|(a, b, c, d)| [a, b, c, d]),
        operations in prop::collection::vec(operation(), 0..24),
    ) {
        run(sizes, operations)?;
    }
}
