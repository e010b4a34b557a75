//! Laws of what is quantized: the textbook's numbers, within half a step, whatever happens to the sequence.

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{FloatPages, Int4Pages, Int8Pages, PageData, PagedCache, PoolConfig};
use llm_kvcache::reference::quantized::{KiviTokens, affine, int8, step};
use ndarray::{Array3, Array4, ArrayView1, Axis};
use proptest::prelude::*;

/// What comes back of tokens that are appended to pages of three tokens.
fn stored<P: PageData<Input = f32>>(k: &Array3<f32>, v: &Array3<f32>) -> [Array3<f32>; 2] {
    let (heads, seq, head_dim) = k.dim();
    let config = PoolConfig::new(1, seq.div_ceil(3), 3, heads, head_dim).with_value_dim(v.dim().2);
    let mut cache = PagedCache::<P>::new(&config).unwrap();
    let id = cache.create(b"").unwrap();
    cache.append(id, &[k.view()], &[v.view()]).unwrap();
    cache.gather(0, id).unwrap().into()
}

fn wide(x: ArrayView1<'_, f32>) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Compares a token with the textbook; where a number lies between two codes, either will do.
fn compare(
    got: ArrayView1<'_, f32>,
    x: &[f64],
    want: &[f64],
    scale: f64,
) -> Result<(), TestCaseError> {
    for ((&got, &x), &want) in got.iter().zip(x).zip(want) {
        let got = f64::from(got);
        let is_same = (got - want).abs() <= 1e-6 * (want.abs() + scale);
        let is_between = ((got + want) / 2.0 - x).abs() <= 1e-5 * scale;
        prop_assert!(is_same || is_between, "{} becomes {}, not {}", x, got, want);
        prop_assert!(
            (got - x).abs() <= scale / 2.0 + 1e-6 * x.abs(),
            "{} becomes {}, step {}",
            x,
            got,
            scale
        );
    }
    Ok(())
}

fn numbers() -> impl Strategy<Value = Array3<f32>> {
    let number = prop_oneof![
        4 => -4.0..4.0_f32,
        1 => Just(0.0_f32),
        1 => -60000.0..60000.0_f32,
        1 => -1e-6..1e-6_f32,
    ];
    (1..3_usize, 0..8_usize, 0..6_usize).prop_flat_map(move |(heads, seq, features)| {
        prop::collection::vec(number.clone(), heads * seq * features)
            .prop_map(move |x| Array3::from_shape_vec([heads, seq, features], x).unwrap())
    })
}

#[derive(Clone, Debug)]
enum Operation {
    Append { row: usize, seq: usize },
    AppendAll { seq: usize },
    Crop { row: usize, back: usize },
    Reorder { rows: Vec<usize> },
    Clear,
    SaveAndLoad,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (0..3_usize, 0..20_usize).prop_map(|(row, seq)| Operation::Append { row, seq }),
        3 => (0..4_usize).prop_map(|seq| Operation::AppendAll { seq }),
        3 => (0..3_usize, 0..14_usize).prop_map(|(row, back)| Operation::Crop { row, back }),
        1 => prop::collection::vec(0..3_usize, 0..4).prop_map(|rows| Operation::Reorder { rows }),
        1 => Just(Operation::Clear),
        1 => Just(Operation::SaveAndLoad),
    ]
}

const HEADS: usize = 2;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Pages of 8 bits are within half a step, and as near to the numbers as the textbook's.
    #[test]
    fn int8_is_as_good_as_the_textbook(x in numbers()) {
        for got in stored::<Int8Pages>(&x, &x) {
            for (got, x) in got.rows().into_iter().zip(x.rows()) {
                let (got, x) = (wide(got), wide(x));
                let most = x.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
                let error = |y: &[f64]| -> f64 { y.iter().zip(&x).map(|(a, b)| (a - b) * (a - b)).sum() };
                // Half the largest step; scale, quotient and product are rounded by 2^-24 of the largest number.
                let half = 0.5 * most / 123.5 + 2e-7 * most;
                // A product is rounded by 2^-24 of the largest number at most, and the sums that choose by some more.
                let rounding = 1e-7 * most * (x.len() as f64).sqrt();
                let best = error(&int8(&x)).sqrt();
                prop_assert!(error(&got).sqrt() <= best * 1.000001 + rounding);
                prop_assert!(got.iter().zip(&x).all(|(a, b)| (a - b).abs() <= half));
            }
        }
    }

    // ANCHOR: int4
    /// Pages of 4 bits hold the textbook's numbers.
    #[test]
    fn int4_is_the_textbook(x in numbers()) {
        for got in stored::<Int4Pages>(&x, &x) {
            for (got, x) in got.rows().into_iter().zip(x.rows()) {
                let x = wide(x);
                compare(got, &x, &affine(&x, 4), step(&x, 4).0)?;
            }
        }
    }
    // ANCHOR_END: int4

    /// Pages of floating-point numbers hold the bits.
    #[test]
    fn floats_are_kept(x in numbers()) {
        for got in stored::<FloatPages<f32>>(&x, &x) {
            prop_assert_eq!(&got, &x);
        }
    }

    /// Any operations on KIVI do what they do to lists whose numbers are quantized in place.
    #[test]
    fn kivi_is_a_list_that_is_quantized(
        (bits, group, blocks) in (prop_oneof![Just(2_u32), Just(4), Just(8)], 1..3_usize, 0..3_usize),
        [batch, head_dim, value_dim] in [0..3_usize, 0..4_usize, 0..11_usize],
        operations in prop::collection::vec(operation(), 0..16),
        seed in any::<u64>(),
    ) {
        let group = group * 4;
        let config = KiviConfig::new(bits, group, blocks * group);
        let mut cache = KiviCache::new(batch, HEADS, head_dim, value_dim, &config).unwrap();
        let mut model = vec![KiviTokens::new(bits, group, blocks * group); batch];
        // Whole numbers, so that f32 and f64 round alike.
        let mut state = seed;
        let mut array = |features: usize, seq: usize| {
            Array3::from_shape_simple_fn([HEADS, seq, features], || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 33) % 1000) as f32 - 500.0
            })
        };
        let push = |model: &mut KiviTokens, k: &Array3<f32>, v: &Array3<f32>| {
            for token in 0..k.dim().1 {
                let key = k.index_axis(Axis(1), token).iter().map(|&x| f64::from(x)).collect();
                let value = v.index_axis(Axis(1), token).outer_iter().map(wide).collect();
                model.push(key, value);
            }
        };
        for operation in operations {
            let (done, expected) = match &operation {
                Operation::Append { row, seq } => {
                    let (k, v) = (array(head_dim, *seq), array(value_dim, *seq));
                    if let Some(model) = model.get_mut(*row) {
                        push(model, &k, &v);
                    }
                    (cache.append(*row, &k, &v).is_ok(), *row < model.len())
                }
                Operation::AppendAll { seq } => {
                    let mut k = Array4::zeros([model.len(), HEADS, *seq, head_dim]);
                    let mut v = Array4::zeros([model.len(), HEADS, *seq, value_dim]);
                    for (row, model) in model.iter_mut().enumerate() {
                        let (one_k, one_v) = (array(head_dim, *seq), array(value_dim, *seq));
                        push(model, &one_k, &one_v);
                        k.index_axis_mut(Axis(0), row).assign(&one_k);
                        v.index_axis_mut(Axis(0), row).assign(&one_v);
                    }
                    (cache.append_all(&k, &v).is_ok(), true)
                }
                Operation::Crop { row, back } => {
                    let len = model.get(*row).map_or(0, |row| row.keys.len());
                    let to = if *back == 13 { len + 1 } else { len.saturating_sub(*back) };
                    (cache.crop(*row, to).is_ok(), model.get_mut(*row).is_some_and(|row| row.crop(to)))
                }
                Operation::Reorder { rows } => {
                    let new: Option<Vec<_>> = rows.iter().map(|&row| model.get(row).cloned()).collect();
                    let new = new.filter(|new| new.len() == model.len());
                    let expected = new.is_some();
                    model = new.unwrap_or(model);
                    (cache.reorder(rows).is_ok(), expected)
                }
                Operation::Clear => {
                    cache.clear();
                    model.fill(KiviTokens::new(bits, group, blocks * group));
                    (true, true)
                }
                Operation::SaveAndLoad => {
                    let mut file = Vec::new();
                    cache.save(&mut file).unwrap();
                    cache = KiviCache::load(&file[..], 1 << 20).unwrap();
                    (true, true)
                }
            };
            prop_assert_eq!(done, expected, "{:?}", operation);
            for (row, model) in model.iter().enumerate() {
                prop_assert_eq!(cache.len(row), Ok(model.keys.len()));
                prop_assert_eq!(cache.quantized_keys(row), Ok(model.quantized_keys));
                prop_assert_eq!(cache.quantized_values(row), Ok(model.quantized_values));
                let (k, v) = cache.gather(row).unwrap();
                for ((h, t, d), x) in k.indexed_iter() {
                    prop_assert_eq!(*x, model.keys[t][h * head_dim + d] as f32);
                }
                for ((h, t, d), x) in v.indexed_iter() {
                    prop_assert_eq!(*x, model.values[t][h][d] as f32);
                }
            }
        }
    }
}
