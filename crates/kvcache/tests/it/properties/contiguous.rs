//! Laws of the contiguous cache.

use llm_kvcache::ContiguousCache;
use llm_kvcache::reference::contiguous::{Token, TokenLists};
use ndarray::{Array3, Array4, ArrayView3, Axis, s};
use proptest::prelude::*;

/// What may happen to a cache. Rows, lengths and counts may be out of range on purpose.
#[derive(Clone, Debug)]
enum Operation {
    Append { row: usize, seq: usize },
    AppendAll { seq: usize },
    Crop { row: usize, len: usize },
    Reorder { rows: Vec<usize> },
    Select { rows: Vec<usize> },
    Clear,
    SaveAndLoad,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0..6_usize, 0..5_usize).prop_map(|(row, seq)| Operation::Append { row, seq }),
        3 => (0..4_usize).prop_map(|seq| Operation::AppendAll { seq }),
        2 => (0..6_usize, 0..8_usize).prop_map(|(row, len)| Operation::Crop { row, len }),
        3 => prop::collection::vec(0..6_usize, 0..7).prop_map(|rows| Operation::Reorder { rows }),
        1 => prop::collection::vec(0..6_usize, 0..7).prop_map(|rows| Operation::Select { rows }),
        1 => Just(Operation::Clear),
        1 => Just(Operation::SaveAndLoad),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    heads: usize,
    capacity: usize,
    head_dim: usize,
    value_dim: usize,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (0..6_usize, 0..4_usize, 0..10_usize, 0..4_usize, 0..4_usize).prop_map(
        |(batch, heads, capacity, head_dim, value_dim)| Sizes {
            batch,
            heads,
            capacity,
            head_dim,
            value_dim,
        },
    )
}

/// Tokens whose numbers are all different, as arrays and as the model has them.
struct Source {
    next: f64,
    sizes: Sizes,
}

impl Source {
    fn tokens(&mut self, seq: usize) -> Vec<Token> {
        let Sizes {
            heads,
            head_dim,
            value_dim,
            ..
        } = self.sizes;
        (0..seq)
            .map(|_| Token {
                key: self.table(heads, head_dim),
                value: self.table(heads, value_dim),
            })
            .collect()
    }

    fn table(&mut self, rows: usize, columns: usize) -> Vec<Vec<f64>> {
        let mut number = || {
            self.next += 1.0;
            self.next
        };
        (0..rows)
            .map(|_| (0..columns).map(|_| number()).collect())
            .collect()
    }

    /// `[kv_heads, seq, features]` of keys or values, in a memory order that `strides` chooses.
    fn array(&self, tokens: &[Token], keys: bool, strides: usize) -> Array3<f64> {
        let Sizes {
            heads,
            head_dim,
            value_dim,
            ..
        } = self.sizes;
        let features = if keys { head_dim } else { value_dim };
        let at = |h: usize, t: usize, i: usize| {
            if keys {
                tokens[t].key[h][i]
            } else {
                tokens[t].value[h][i]
            }
        };
        match strides % 3 {
            0 => Array3::from_shape_fn([heads, tokens.len(), features], |(h, t, i)| at(h, t, i)),
            1 => Array3::from_shape_fn([tokens.len(), heads, features], |(t, h, i)| at(h, t, i))
                .permuted_axes([1, 0, 2]),
            _ => {
                let mut reversed =
                    Array3::from_shape_fn([features, tokens.len(), heads], |(i, t, h)| {
                        at(h, tokens.len() - 1 - t, i)
                    });
                reversed.invert_axis(Axis(1));
                reversed.reversed_axes()
            }
        }
    }
}

fn assert_same(
    cache: &ContiguousCache<f64>,
    model: &TokenLists,
    sizes: Sizes,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(cache.batch(), model.rows.len());
    if model.capacity < usize::MAX {
        prop_assert_eq!(cache.capacity(), model.capacity);
    } else {
        prop_assert!(cache.capacity() >= cache.max_len());
    }
    prop_assert_eq!(
        cache.max_len(),
        model.rows.iter().map(Vec::len).max().unwrap_or(0)
    );
    prop_assert_eq!(cache.is_empty(), model.rows.iter().all(Vec::is_empty));
    prop_assert!(cache.keys(cache.batch()).is_err());
    for (row, tokens) in model.rows.iter().enumerate() {
        prop_assert_eq!(cache.len(row), Ok(tokens.len()));
        prop_assert_eq!(cache.lengths()[row], tokens.len());
        let (keys, values) = (cache.keys(row).unwrap(), cache.values(row).unwrap());
        prop_assert_eq!(keys.dim(), (sizes.heads, tokens.len(), sizes.head_dim));
        prop_assert_eq!(values.dim(), (sizes.heads, tokens.len(), sizes.value_dim));
        for (t, token) in tokens.iter().enumerate() {
            prop_assert!(
                same(keys, t, &token.key) && same(values, t, &token.value),
                "row {} token {}",
                row,
                t
            );
        }
        let (padded_keys, padded_values) = (cache.padded_keys(), cache.padded_values());
        prop_assert_eq!(padded_keys.slice(s![row, .., ..tokens.len(), ..]), keys);
        prop_assert_eq!(padded_values.slice(s![row, .., ..tokens.len(), ..]), values);
    }
    Ok(())
}

fn same(view: ArrayView3<'_, f64>, t: usize, heads: &[Vec<f64>]) -> bool {
    heads.iter().enumerate().all(|(h, features)| {
        features
            .iter()
            .enumerate()
            .all(|(i, x)| view[[h, t, i]] == *x)
    })
}

/// Runs operations on a cache and on lists.
fn run(
    mut cache: ContiguousCache<f64>,
    mut model: TokenLists,
    sizes: Sizes,
    operations: Vec<(Operation, usize)>,
) -> Result<(), TestCaseError> {
    let Sizes {
        heads,
        head_dim,
        value_dim,
        ..
    } = sizes;
    let mut source = Source { next: 0.0, sizes };
    for (operation, strides) in operations {
        let (done, expected) = match &operation {
            Operation::Append { row, seq } => {
                let tokens = source.tokens(*seq);
                let (k, v) = (
                    source.array(&tokens, true, strides),
                    source.array(&tokens, false, strides + 1),
                );
                (
                    cache.append(*row, &k, &v).is_ok(),
                    model.append(*row, &tokens),
                )
            }
            Operation::AppendAll { seq } => {
                let tokens: Vec<_> = (0..model.rows.len()).map(|_| source.tokens(*seq)).collect();
                let stack = |keys: bool, features: usize| {
                    // [kv_heads, batch, seq, features] in memory
                    let mut all = Array4::zeros([heads, tokens.len(), *seq, features]);
                    for (row, tokens) in tokens.iter().enumerate() {
                        all.slice_mut(s![.., row, .., ..])
                            .assign(&source.array(tokens, keys, strides));
                    }
                    all.permuted_axes([1, 0, 2, 3])
                };
                (
                    cache
                        .append_all(&stack(true, head_dim), &stack(false, value_dim))
                        .is_ok(),
                    model.append_all(&tokens),
                )
            }
            Operation::Crop { row, len } => {
                (cache.crop(*row, *len).is_ok(), model.crop(*row, *len))
            }
            Operation::Reorder { rows } => {
                let selected = model
                    .select(rows)
                    .filter(|_| rows.len() == model.rows.len());
                let expected = selected.is_some();
                model = selected.unwrap_or(model);
                (cache.reorder(rows).is_ok(), expected)
            }
            Operation::Select { rows } => {
                let selected = model.select(rows);
                let expected = selected.is_some();
                model = selected.unwrap_or(model);
                let new = cache.select(rows);
                let done = new.is_ok();
                cache = new.unwrap_or(cache);
                (done, expected)
            }
            Operation::SaveAndLoad => {
                let mut file = Vec::new();
                cache.save(&mut file).unwrap();
                cache = ContiguousCache::load(&file[..], 1 << 16).unwrap();
                (true, true)
            }
            Operation::Clear => {
                cache.clear();
                model.clear();
                (true, true)
            }
        };
        prop_assert_eq!(done, expected, "{:?}", operation);
        assert_same(&cache, &model, sizes)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any sequence of operations does what it does to lists of tokens; a refused one does nothing.
    #[test]
    fn the_cache_is_a_list_of_tokens(sizes in sizes(), operations in prop::collection::vec((operation(), 0..3_usize), 0..24)) {
        let Sizes { batch, heads, capacity, head_dim, value_dim } = sizes;
        let cache = ContiguousCache::new(batch, heads, capacity, head_dim, value_dim).unwrap();
        run(cache, TokenLists::new(batch, capacity), sizes, operations)?;
    }

    /// The same without an end.
    #[test]
    fn a_growing_cache_is_a_list_of_tokens(
        sizes in sizes(),
        block in 1..6_usize,
        operations in prop::collection::vec((operation(), 0..3_usize), 0..24),
    ) {
        let Sizes { batch, heads, head_dim, value_dim, .. } = sizes;
        let cache = ContiguousCache::growing(batch, heads, block, head_dim, value_dim).unwrap();
        run(cache, TokenLists::new(batch, usize::MAX), sizes, operations)?;
    }

    /// Reordering in place is selecting, whatever chains and cycles the rows make.
    #[test]
    fn reordering_is_selecting(
        (rows, lengths) in (1..9_usize).prop_flat_map(|batch| {
            (prop::collection::vec(0..batch, batch), prop::collection::vec(0..4_usize, batch))
        }),
    ) {
        let sizes = Sizes { batch: rows.len(), heads: 2, capacity: 4, head_dim: 2, value_dim: 1 };
        let mut source = Source { next: 0.0, sizes };
        let mut cache = ContiguousCache::new(sizes.batch, 2, 4, 2, 1).unwrap();
        for (row, &len) in lengths.iter().enumerate() {
            let tokens = source.tokens(len);
            cache.append(row, &source.array(&tokens, true, 0), &source.array(&tokens, false, 0)).unwrap();
        }
        let selected = cache.select(&rows).unwrap();
        cache.reorder(&rows).unwrap();
        prop_assert_eq!(cache.lengths(), selected.lengths());
        for row in 0..sizes.batch {
            prop_assert_eq!(cache.keys(row), selected.keys(row));
            prop_assert_eq!(cache.values(row), selected.values(row));
        }
    }

    // ANCHOR: chunks
    /// One by one = all at once.
    #[test]
    fn chunks_do_not_matter(seq in 0..12_usize, cuts in prop::collection::vec(0..12_usize, 0..4)) {
        let k = Array4::from_shape_fn([2, 3, seq, 2], |(b, h, t, i)| (b * 1000 + h * 100 + t * 10 + i) as f32);
        let v = k.mapv(|x| -x);
        let mut whole = ContiguousCache::new(2, 3, 12, 2, 2).unwrap();
        whole.append_all(&k, &v).unwrap();

        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(seq)).chain([0, seq]).collect();
        cuts.sort_unstable();
        let mut parts = ContiguousCache::new(2, 3, 12, 2, 2).unwrap();
        for pair in cuts.windows(2) {
            let part = s![.., .., pair[0]..pair[1], ..];
            parts.append_all(&k.slice(part), &v.slice(part)).unwrap();
        }
        prop_assert_eq!(parts.padded_keys(), whole.padded_keys());
        prop_assert_eq!(parts.padded_values(), whole.padded_values());
    }
    // ANCHOR_END: chunks
}
