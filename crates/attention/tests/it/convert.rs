//! Multi-head weights pooled to fewer key-value heads: laws, known answers, errors.

use llm_attention::ndarray::{Array1, Array2, Array4, Axis, ShapeBuilder, array, s};
use llm_attention::{AttentionConfig, AttentionError, convert, flash, reference};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::{Tolerance, assert_close};
use proptest::prelude::*;

use crate::cases::{close, masks};

/// Means of at most 12 numbers of size 1.
const F64: Tolerance = Tolerance::new(1e-14, 1e-14);

fn draw(random: &Philox4x32, stream: u64, shape: [usize; 2]) -> Array2<f64> {
    let mut i = 0;
    Array2::from_shape_simple_fn(shape, || {
        i += 1;
        random.normal_f64(stream, i)
    })
}

/// A weight, its heads, and the heads to pool it to; features and columns may be none.
#[derive(Clone, Debug)]
struct Case {
    weight: Array2<f64>,
    n_heads: usize,
    n_kv_heads: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    (1_usize..5, 1_usize..4, 0_usize..5, 0_usize..6, any::<u64>()).prop_map(
        |(n_kv_heads, group, head_dim, d_model, key)| {
            let n_heads = n_kv_heads * group;
            let weight = draw(&Philox4x32::new(key), 0, [n_heads * head_dim, d_model]);
            Case {
                weight,
                n_heads,
                n_kv_heads,
            }
        },
    )
}

fn same_bits(got: &Array2<f64>, want: &Array2<f64>) -> bool {
    let bits = |x: &f64| x.to_bits();
    got.dim() == want.dim() && got.iter().map(bits).eq(want.iter().map(bits))
}

/// `x W^T` of tokens, as heads: `[1, heads, seq, head_dim]`.
fn project(x: &Array2<f64>, weight: &Array2<f64>, heads: usize) -> Array4<f64> {
    let y = x.dot(&weight.t());
    let (seq, width) = y.dim();
    let head_dim = width / heads;
    Array4::from_shape_fn((1, heads, seq, head_dim), |(_, h, i, d)| {
        y[[i, h * head_dim + d]]
    })
}

proptest! {
    /// The fast path equals the textbook, in f64 and f32, weight and bias.
    #[test]
    fn equals_the_reference(case in cases()) {
        let Case { weight, n_heads, n_kv_heads } = case;
        let want = reference::convert::mean_pool_kv_heads(&weight, n_heads, n_kv_heads).unwrap();
        let got = convert::mean_pool_kv_heads(&weight, n_heads, n_kv_heads).unwrap();
        close(&got, &want, F64)?;
        let narrow = weight.mapv(|x| x as f32);
        let wide = narrow.mapv(f64::from);
        let want32 = reference::convert::mean_pool_kv_heads(&wide, n_heads, n_kv_heads).unwrap();
        let got = convert::mean_pool_kv_heads(&narrow, n_heads, n_kv_heads).unwrap();
        // Rounded once: half a unit in the last place.
        close(&got.mapv(f64::from), &want32, Tolerance::new(1e-45, 6e-8))?;
        for (c, column) in weight.axis_iter(Axis(1)).enumerate() {
            let got = convert::mean_pool_kv_bias(&column, n_heads, n_kv_heads).unwrap();
            close(&got, &want.column(c).to_owned(), F64)?;
            let got = reference::convert::mean_pool_kv_bias(&column, n_heads, n_kv_heads).unwrap();
            close(&got, &want.column(c).to_owned(), F64)?;
        }
    }

    /// As many heads as before: bit for bit what it was, the sign of zero included.
    #[test]
    fn as_many_heads_change_nothing(case in cases(), zero in prop_oneof![Just(0.0), Just(-0.0)]) {
        let mut weight = case.weight;
        if let Some(x) = weight.first_mut() {
            *x = zero;
        }
        let got = convert::mean_pool_kv_heads(&weight, case.n_heads, case.n_heads).unwrap();
        prop_assert!(same_bits(&got, &weight));
        let narrow = weight.mapv(|x| x as f32);
        let got = convert::mean_pool_kv_heads(&narrow, case.n_heads, case.n_heads).unwrap();
        prop_assert!(same_bits(&got.mapv(f64::from), &narrow.mapv(f64::from)));
    }

    /// In two steps or in one: groups have equal sizes, so the mean of means is the mean.
    #[test]
    fn two_steps_are_one(case in cases(), more in 1_usize..4) {
        let Case { weight, n_heads, n_kv_heads } = case;
        // Repeat rows with factors, so that there are `more` times as many heads, all different.
        let parts: Vec<_> = (0..more).map(|m| &weight * (1.0 + m as f64)).collect();
        let views: Vec<_> = parts.iter().map(|x| x.view()).collect();
        let weight = ndarray::concatenate(Axis(0), &views).unwrap();
        let n_all = n_heads * more;
        // n_all heads to n_heads to n_kv_heads.
        let once = convert::mean_pool_kv_heads(&weight, n_all, n_heads).unwrap();
        let twice = convert::mean_pool_kv_heads(&once, n_heads, n_kv_heads).unwrap();
        let direct = convert::mean_pool_kv_heads(&weight, n_all, n_kv_heads).unwrap();
        close(&twice, &direct, F64)?;
    }

    /// If the heads of each group were equal, nothing is lost: attention with the pooled
    /// weights is the attention there was, under every mask.
    #[test]
    fn equal_heads_lose_nothing(case in cases(), mask in masks(), seq in 1_usize..5, key in any::<u64>()) {
        let Case { mut weight, n_heads, n_kv_heads } = case;
        prop_assume!(!weight.is_empty());
        let (rows, d_model) = weight.dim();
        let (head_dim, group) = (rows / n_heads, n_heads / n_kv_heads);
        for h in 0..n_heads {
            let first = h / group * group * head_dim;
            let head = weight.slice(s![first..first + head_dim, ..]).to_owned();
            weight.slice_mut(s![h * head_dim..(h + 1) * head_dim, ..]).assign(&head);
        }
        let w_v = weight.mapv(|x| 0.5 - x);
        let random = Philox4x32::new(key);
        let x = draw(&random, 1, [seq, d_model]);
        let q = project(&x, &draw(&random, 2, [rows, d_model]), n_heads);
        let config = AttentionConfig::new(mask);
        let (k, v) = (project(&x, &weight, n_heads), project(&x, &w_v, n_heads));
        let want = flash::forward(&q, &k, &v, &config).unwrap();
        let pool = |w: &Array2<f64>| convert::mean_pool_kv_heads(w, n_heads, n_kv_heads).unwrap();
        let k = project(&x, &pool(&weight), n_kv_heads);
        let v = project(&x, &pool(&w_v), n_kv_heads);
        let got = flash::forward(&q, &k, &v, &config).unwrap();
        // Scores of size 100 at most err by 1e-14 of it, and so do weights.
        close(&got, &want, Tolerance::new(1e-11, 1e-11))?;
    }

    /// The key of a pooled head is the mean of the keys of its group.
    #[test]
    fn keys_are_means_of_keys(case in cases(), seq in 0_usize..4, key in any::<u64>()) {
        let Case { weight, n_heads, n_kv_heads } = case;
        let group = n_heads / n_kv_heads;
        let x = draw(&Philox4x32::new(key), 1, [seq, weight.ncols()]);
        let keys = project(&x, &weight, n_heads);
        let pooled = convert::mean_pool_kv_heads(&weight, n_heads, n_kv_heads).unwrap();
        let got = project(&x, &pooled, n_kv_heads);
        for ((_, g, i, d), &got) in got.indexed_iter() {
            let sum: f64 = (0..group).map(|m| keys[[0, g * group + m, i, d]]).sum();
            prop_assert!((got - sum / group as f64).abs() < 1e-12);
        }
    }

    /// Any strides give the same bits.
    #[test]
    fn strides_do_not_matter(case in cases()) {
        let Case { weight, n_heads, n_kv_heads } = case;
        let want = convert::mean_pool_kv_heads(&weight, n_heads, n_kv_heads).unwrap();
        let mut fortran = Array2::zeros(weight.dim().f());
        fortran.assign(&weight);
        let got = convert::mean_pool_kv_heads(&fortran, n_heads, n_kv_heads).unwrap();
        prop_assert!(same_bits(&got, &want));
        let mut flipped = weight.clone();
        flipped.slice_mut(s![..;-1, ..;-1]).assign(&weight);
        let view = flipped.slice(s![..;-1, ..;-1]);
        let got = convert::mean_pool_kv_heads(&view, n_heads, n_kv_heads).unwrap();
        prop_assert!(same_bits(&got, &want));
    }
}

// Heads of two features: rows 0, 1 | 2, 3 | 4, 5 | 6, 7. Neighbors form a group (not 0 and 2).
#[test]
fn four_heads_by_hand() {
    let weight: Array2<f64> = array![[1.0], [10.0], [3.0], [30.0], [100.0], [5.0], [200.0], [6.0]];
    let run = |n| convert::mean_pool_kv_heads(&weight, 4, n).unwrap();
    assert_eq!(run(2), array![[2.0], [20.0], [150.0], [5.5]]);
    assert_eq!(run(1), array![[76.0], [12.75]]);
    assert_eq!(run(4), weight);
}

// The mean of numbers near the largest is near the largest, not infinite.
#[test]
fn sums_do_not_overflow_in_f32() {
    let bias = Array1::from_elem(8, f32::MAX);
    let pooled = convert::mean_pool_kv_bias(&bias, 8, 1).unwrap();
    assert_eq!(pooled, array![f32::MAX]);
}

#[test]
fn nan_and_infinity_come_through() {
    let bias = array![1.0, f64::NAN, f64::INFINITY, 2.0, 3.0, 5.0];
    let pooled = convert::mean_pool_kv_bias(&bias, 6, 3).unwrap();
    assert!(pooled[0].is_nan());
    assert_eq!(pooled.slice(s![1..]), array![f64::INFINITY, 4.0]);
    assert_close(&pooled.slice(s![2..]), &array![4.0], Tolerance::exact());
}

/// The error of weight and bias, on both tiers, which must be the same.
fn error(rows: usize, columns: usize, n_heads: usize, n_kv_heads: usize) -> AttentionError {
    let weight = Array2::<f64>::zeros((rows, columns));
    let bias = Array1::<f64>::zeros(rows);
    let error = convert::mean_pool_kv_heads(&weight, n_heads, n_kv_heads).unwrap_err();
    let got = reference::convert::mean_pool_kv_heads(&weight, n_heads, n_kv_heads);
    assert_eq!(got, Err(error.clone()));
    let got = convert::mean_pool_kv_bias(&bias, n_heads, n_kv_heads);
    assert_eq!(got, Err(error.clone()));
    let got = reference::convert::mean_pool_kv_bias(&bias, n_heads, n_kv_heads);
    assert_eq!(got, Err(error.clone()));
    error
}

#[test]
fn there_must_be_heads() {
    for (n_heads, n_kv_heads) in [(0, 1), (4, 0), (0, 0)] {
        let want = AttentionError::NoHeads {
            n_heads,
            n_kv_heads,
        };
        assert_eq!(error(8, 3, n_heads, n_kv_heads), want);
    }
    let want = AttentionError::NoHeads {
        n_heads: 4,
        n_kv_heads: 0,
    };
    assert_eq!(
        want.to_string(),
        "n_heads and n_kv_heads must be at least 1, got 4 and 0"
    );
}

#[test]
fn heads_must_divide() {
    for (n_heads, n_kv_heads) in [(4, 3), (2, 4)] {
        let want = AttentionError::Heads {
            n_heads,
            n_kv_heads,
        };
        assert_eq!(error(8, 3, n_heads, n_kv_heads), want);
    }
}

#[test]
fn rows_must_be_shared_out_evenly() {
    for (rows, n_heads) in [(7, 4), (3, 4), (1, usize::MAX)] {
        for columns in [0, 3] {
            let want = AttentionError::HeadRows { rows, n_heads };
            assert_eq!(error(rows, columns, n_heads, 1), want);
        }
    }
    let want = AttentionError::HeadRows {
        rows: 7,
        n_heads: 4,
    };
    assert_eq!(
        want.to_string(),
        "the rows of a projection must be a multiple of n_heads, got 7 and 4"
    );
}

#[cfg(target_pointer_width = "64")]
#[test]
fn results_must_fit_into_memory() {
    let weight = array![[1.0]];
    let weight = weight.broadcast([2, 1 << 61]).unwrap();
    let got = convert::mean_pool_kv_heads(&weight, 2, 1);
    let shape = [1, 1, 1, 1 << 61];
    assert_eq!(got, Err(AttentionError::TooLarge { shape }));
    // Many rows of nothing are nothing.
    let weight = Array2::<f64>::zeros((1, 0));
    let weight = weight.broadcast([1 << 50, 0]).unwrap();
    let got = convert::mean_pool_kv_heads(&weight, 2, 1).unwrap();
    assert_eq!(got.dim(), (1 << 49, 0));
}
