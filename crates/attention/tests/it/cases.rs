//! Inputs that the tests share: sizes, masks, and arrays drawn from a key.

use llm_attention::{AttentionConfig, AttentionError, CausalAlignment, Gradients, Mask, flash};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::{Tolerance, compare};
use ndarray::{Array, Array3, Array4, Dimension};
use proptest::prelude::*;

/// The sizes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) seq: usize,
    pub(crate) kv_seq: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
}

/// A call of forward and backward.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) q: Array4<f64>,
    pub(crate) k: Array4<f64>,
    pub(crate) v: Array4<f64>,
    pub(crate) dout: Array4<f64>,
    pub(crate) config: AttentionConfig,
}

impl Case {
    pub(crate) fn new(sizes: Sizes, config: AttentionConfig, key: u64) -> Self {
        let Sizes {
            batch,
            n_heads,
            n_kv_heads,
            seq,
            kv_seq,
            head_dim,
            value_dim,
        } = sizes;
        let random = Philox4x32::new(key);
        let draw = |stream: u64, shape: [usize; 4]| {
            let mut i = 0;
            Array4::from_shape_simple_fn(shape, || {
                i += 1;
                random.normal_f64(stream, i)
            })
        };
        Self {
            q: draw(0, [batch, n_heads, seq, head_dim]),
            k: draw(1, [batch, n_kv_heads, kv_seq, head_dim]),
            v: draw(2, [batch, n_kv_heads, kv_seq, value_dim]),
            dout: draw(3, [batch, n_heads, seq, value_dim]),
            config,
        }
    }

    pub(crate) fn forward(&self) -> (Array4<f64>, Array3<f64>) {
        flash::forward_with_lse(&self.q, &self.k, &self.v, &self.config).unwrap()
    }

    pub(crate) fn backward(&self) -> Gradients<f64> {
        let (out, lse) = self.forward();
        let (q, k, v) = (&self.q, &self.k, &self.v);
        flash::backward(&self.dout, q, k, v, &out, &lse, &self.config).unwrap()
    }

    /// Everything in f32, widened again.
    pub(crate) fn in_f32(&self) -> Result<(Array4<f64>, Gradients<f64>), AttentionError> {
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let wide = |x: Array4<f32>| x.mapv(f64::from);
        let (q, k, v, dout) = (
            narrow(&self.q),
            narrow(&self.k),
            narrow(&self.v),
            narrow(&self.dout),
        );
        let (out, lse) = flash::forward_with_lse(&q, &k, &v, &self.config)?;
        let Gradients { dq, dk, dv, .. } =
            flash::backward(&dout, &q, &k, &v, &out, &lse, &self.config)?;
        let gradients = Gradients {
            dq: wide(dq),
            dk: wide(dk),
            dv: wide(dv),
        };
        Ok((wide(out), gradients))
    }
}

pub(crate) fn alignments() -> impl Strategy<Value = CausalAlignment> {
    prop_oneof![
        Just(CausalAlignment::TopLeft),
        Just(CausalAlignment::BottomRight)
    ]
}

/// Every mask, with sizes around those of the arrays, and the largest that there are.
pub(crate) fn masks() -> impl Strategy<Value = Mask> {
    let size = || prop_oneof![8 => 0_usize..22, 1 => usize::MAX - 22..=usize::MAX];
    let window = (
        alignments(),
        prop::option::of(size()),
        prop::option::of(size()),
    );
    prop_oneof![
        Just(Mask::Full),
        alignments().prop_map(Mask::Causal),
        window.prop_map(|(alignment, left, right)| Mask::Window {
            left,
            right,
            alignment
        }),
        (alignments(), size()).prop_map(|(alignment, chunk)| Mask::ChunkedCausal {
            chunk: chunk.max(1),
            alignment
        }),
        (alignments(), size()).prop_map(|(alignment, prefix)| Mask::PrefixLm { prefix, alignment }),
    ]
}

/// Any sizes, zero included, any mask, any scale and softcap, any tiles.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let heads = (0_usize..3, 0_usize..4);
    let lengths = (prop_oneof![0_usize..3, 0_usize..20], 0_usize..20);
    let features = (0_usize..10, 0_usize..10);
    let scale = prop_oneof![Just(None), (-1.5_f64..1.5).prop_map(Some)];
    let softcap = prop::option::weighted(0.3, 0.5_f64..50.0);
    let tiles = prop_oneof![Just((64, 64)), (1_usize..9, 1_usize..9)];
    (
        (0_usize..3, heads, lengths, features),
        (masks(), scale, softcap, tiles, any::<u64>()),
    )
        .prop_map(
            |((batch, heads, lengths, features), (mask, scale, softcap, tiles, key))| {
                let (n_kv_heads, queries_per_kv) = heads;
                let sizes = Sizes {
                    batch,
                    n_heads: n_kv_heads * queries_per_kv,
                    n_kv_heads,
                    seq: lengths.0,
                    kv_seq: lengths.1,
                    head_dim: features.0,
                    value_dim: features.1,
                };
                let mut config = AttentionConfig::new(mask).with_tile(tiles.0, tiles.1);
                config.scale = scale;
                config.softcap = softcap;
                Case::new(sizes, config, key)
            },
        )
}

/// [`cases`] in which every axis has elements.
pub(crate) fn non_empty_cases() -> impl Strategy<Value = Case> {
    cases().prop_filter("no axis is empty", |case| {
        !(case.q.is_empty() || case.v.is_empty())
    })
}

/// `compare` as a proptest failure.
pub(crate) fn close<D: Dimension>(
    got: &Array<f64, D>,
    want: &Array<f64, D>,
    tolerance: Tolerance,
) -> Result<(), TestCaseError> {
    compare(got, want, tolerance)
        .map(drop)
        .map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))
}
