//! Laws of packed sequences, over the documented domain.

mod score_mods;

use llm_attention::{AttentionConfig, AttentionError, Mask, flash, reference, varlen};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::Tolerance;
use ndarray::{Array2, Array3, Axis, s};
use proptest::prelude::*;

use crate::cases::{cases, close};

/// As in `properties.rs`.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);

/// Packed sequences and the settings of a case.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) q: Array3<f64>,
    pub(crate) k: Array3<f64>,
    pub(crate) v: Array3<f64>,
    pub(crate) dout: Array3<f64>,
    pub(crate) cu_seqlens: Vec<usize>,
    pub(crate) cu_kv_seqlens: Vec<usize>,
    pub(crate) config: AttentionConfig,
}

impl Packed {
    fn forward(&self) -> (Array3<f64>, Array2<f64>) {
        let Self { q, k, v, .. } = self;
        let (queries, keys) = (&self.cu_seqlens, &self.cu_kv_seqlens);
        varlen::forward_with_lse(q, k, v, queries, keys, &self.config).unwrap()
    }

    fn backward(&self) -> varlen::Gradients<f64> {
        let (out, lse) = self.forward();
        let Self { q, k, v, dout, .. } = self;
        let (queries, keys) = (&self.cu_seqlens, &self.cu_kv_seqlens);
        varlen::backward(dout, q, k, v, &out, &lse, queries, keys, &self.config).unwrap()
    }
}

/// Up to four sequences of any lengths, zero included; heads, features and config of [`cases`].
pub(crate) fn packed() -> impl Strategy<Value = Packed> {
    packed_up_to(8)
}

/// The same with sequences of up to `longest` tokens.
pub(crate) fn packed_up_to(longest: usize) -> impl Strategy<Value = Packed> {
    let lengths = prop::collection::vec((0..=longest, 0..=longest), 0..=4);
    (cases(), lengths, any::<u64>()).prop_map(|(case, lengths, key)| {
        let sums = |lengths: Vec<usize>| {
            let mut list = vec![0];
            list.extend(lengths.iter().scan(0, |sum, n| {
                *sum += n;
                Some(*sum)
            }));
            list
        };
        let (queries, keys): (Vec<_>, Vec<_>) = lengths.into_iter().unzip();
        let (cu_seqlens, cu_kv_seqlens) = (sums(queries), sums(keys));
        let (total, kv_total) = (
            cu_seqlens[cu_seqlens.len() - 1],
            cu_kv_seqlens[cu_kv_seqlens.len() - 1],
        );
        let (_, n_heads, _, head_dim) = case.q.dim();
        let (_, n_kv_heads, _, value_dim) = case.v.dim();
        let numbers = Philox4x32::new(key);
        let draw = |stream: u64, shape: [usize; 3]| {
            let mut i = 0;
            Array3::from_shape_simple_fn(shape, || {
                i += 1;
                numbers.normal_f64(stream, i)
            })
        };
        Packed {
            q: draw(0, [total, n_heads, head_dim]),
            k: draw(1, [kv_total, n_kv_heads, head_dim]),
            v: draw(2, [kv_total, n_kv_heads, value_dim]),
            dout: draw(3, [total, n_heads, value_dim]),
            cu_seqlens,
            cu_kv_seqlens,
            config: case.config,
        }
    })
}

proptest! {
    /// All at once under a mask of blocks, as a textbook has it.
    #[test]
    fn equals_the_reference(case in packed()) {
        let Packed { q, k, v, cu_seqlens, cu_kv_seqlens, config, .. } = &case;
        let (want, want_lse) =
            reference::varlen::forward(q, k, v, cu_seqlens, cu_kv_seqlens, config).unwrap();
        let (out, lse) = case.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        prop_assert_eq!(varlen::forward(q, k, v, cu_seqlens, cu_kv_seqlens, config), Ok(out));
        let want = reference::varlen::backward(
            &case.dout, q, k, v, cu_seqlens, cu_kv_seqlens, config,
        )
        .unwrap();
        let got = case.backward();
        close(&got.dq, &want.dq, F64)?;
        close(&got.dk, &want.dk, F64)?;
        close(&got.dv, &want.dv, F64)?;
    }

    /// Each sequence is what it is alone, forward and backward. (Other strides round otherwise.)
    #[test]
    fn each_sequence_is_as_alone(case in packed()) {
        let ((out, lse), grads) = (case.forward(), case.backward());
        let pairs = case.cu_seqlens.windows(2).zip(case.cu_kv_seqlens.windows(2));
        for (queries, keys) in pairs {
            let part = |x: &Array3<f64>, range: &[usize]| {
                let x = x.slice(s![range[0]..range[1], .., ..]);
                x.permuted_axes([1, 0, 2]).insert_axis(Axis(0)).to_owned()
            };
            let (q, k, v) = (part(&case.q, queries), part(&case.k, keys), part(&case.v, keys));
            let (want, want_lse) = flash::forward_with_lse(&q, &k, &v, &case.config).unwrap();
            let got_lse = lse.slice(s![.., queries[0]..queries[1]]).insert_axis(Axis(0));
            close(&part(&out, queries), &want, F64)?;
            close(&got_lse.to_owned(), &want_lse, F64)?;
            let dout = part(&case.dout, queries);
            let alone =
                flash::backward(&dout, &q, &k, &v, &want, &want_lse, &case.config).unwrap();
            close(&part(&grads.dq, queries), &alone.dq, F64)?;
            close(&part(&grads.dk, keys), &alone.dk, F64)?;
            close(&part(&grads.dv, keys), &alone.dv, F64)?;
        }
    }

    /// Lists of any numbers: the documented ones are taken, all others are refused, and none is a panic.
    #[test]
    fn any_list_is_taken_or_refused(
        total in 0_usize..4,
        cu_seqlens in prop::collection::vec(prop_oneof![0_usize..5, Just(usize::MAX)], 0..4),
    ) {
        let x = Array3::<f64>::ones((total, 1, 1));
        let config = AttentionConfig::new(Mask::Full);
        let got = varlen::forward(&x, &x, &x, &cu_seqlens, &cu_seqlens, &config);
        let rises = cu_seqlens.windows(2).all(|pair| pair[0] <= pair[1]);
        let is_right = rises && cu_seqlens.first() == Some(&0) && cu_seqlens.last() == Some(&total);
        prop_assert_eq!(got.is_ok(), is_right);
    }
}

#[test]
fn the_first_number_that_is_wrong_is_named() {
    let x = Array3::<f32>::ones((5, 2, 4));
    let config = AttentionConfig::new(Mask::Full);
    let run = |queries: &[usize], keys: &[usize]| {
        varlen::forward(&x, &x, &x, queries, keys, &config).unwrap_err()
    };
    let good = [0, 2, 5];
    for (list, index, got) in [
        (&[][..], 0, None),
        (&[1, 5], 0, Some(1)),
        (&[0, 3, 2, 5], 2, Some(2)),
        (&[0, 7, 5], 1, Some(7)),
        (&[0, 2, 4], 2, Some(4)),
        (&[0], 0, Some(0)),
    ] {
        let want = |name| AttentionError::CuSeqlens {
            name,
            index,
            got,
            total: 5,
        };
        assert_eq!(run(list, &good), want("cu_seqlens"));
        assert_eq!(run(&good, list), want("cu_kv_seqlens"));
    }
    let want = AttentionError::CuSeqlensLength {
        queries: 2,
        keys: 1,
    };
    assert_eq!(run(&good, &[0, 5]), want);
    assert_eq!(
        run(&[0, 3, 2, 5], &good).to_string(),
        "cu_seqlens must rise from 0 to 5, got 2 at index 2"
    );
    assert_eq!(
        run(&[], &good).to_string(),
        "cu_seqlens must rise from 0 to 5, got nothing at index 0"
    );
    assert_eq!(
        want.to_string(),
        "queries and keys must have as many sequences, got 2 and 1"
    );
}

#[test]
fn arrays_must_fit_each_other() {
    let config = AttentionConfig::new(Mask::Full);
    let ones = |shape: [usize; 3]| Array3::<f64>::ones(shape);
    let (q, k, v) = (ones([5, 4, 3]), ones([6, 2, 3]), ones([6, 2, 7]));
    let (queries, keys) = ([0, 5], [0, 6]);
    let shape = |name, expected, got| AttentionError::PackedShape {
        name,
        expected,
        got,
    };
    for (k, v, want) in [
        (ones([6, 2, 4]), v.clone(), shape("k", [6, 2, 3], [6, 2, 4])),
        (k.clone(), ones([5, 2, 7]), shape("v", [6, 2, 7], [5, 2, 7])),
        (k.clone(), ones([6, 1, 7]), shape("v", [6, 2, 7], [6, 1, 7])),
    ] {
        let got = varlen::forward(&q, &k, &v, &queries, &keys, &config);
        assert_eq!(got.unwrap_err(), want);
    }
    let want = AttentionError::Heads {
        n_heads: 4,
        n_kv_heads: 3,
    };
    let three = ones([6, 3, 3]);
    let got = varlen::forward(&q, &three, &three, &queries, &keys, &config);
    assert_eq!(got.unwrap_err(), want);

    let (out, lse) = varlen::forward_with_lse(&q, &k, &v, &queries, &keys, &config).unwrap();
    let run = |dout, out, lse| {
        varlen::backward(dout, &q, &k, &v, out, lse, &queries, &keys, &config).unwrap_err()
    };
    let bad = ones([5, 4, 6]);
    assert_eq!(run(&bad, &out, &lse), shape("dout", [5, 4, 7], [5, 4, 6]));
    assert_eq!(run(&out, &bad, &lse), shape("out", [5, 4, 7], [5, 4, 6]));
    let want = AttentionError::PackedLseShape {
        expected: [4, 5],
        got: [5, 4],
    };
    assert_eq!(run(&out, &out, &Array2::zeros((5, 4))), want);
}

/// Large enough to wake threads: one, two or three of them give the same bits.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    let x = |scale: f64| {
        Array3::from_shape_fn((300, 4, 16), |(t, h, d)| {
            (scale * (t * 7 + h * 3 + d) as f64).sin()
        })
    };
    let case = Packed {
        q: x(0.3),
        k: x(0.7),
        v: x(1.1),
        dout: x(1.3),
        cu_seqlens: vec![0, 20, 20, 210, 300],
        cu_kv_seqlens: vec![0, 20, 20, 210, 300],
        config: AttentionConfig::new(Mask::Full),
    };
    let run = |n: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
        pool.unwrap().install(|| (case.forward(), case.backward()))
    };
    let want = run(1);
    assert_eq!(run(2), want);
    assert_eq!(run(3), want);
}
