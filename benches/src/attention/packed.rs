//! Attention over sequences of different lengths in one array.

use anyhow::Result;
use llm_attention::{AttentionConfig, CausalAlignment, Mask, reference, varlen};
use ndarray::Array3;

use super::dense::{QUERIES, tolerance};
use crate::case::{Bars, Case, Peer, Plan, Setup, Work, agree};
use crate::measure::Calls;

/// Causal attention in each of several sequences.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    pub(super) lengths: &'static [usize],
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Packed {
    pub(super) fn plan(self, bars: Bars) -> Plan {
        let total: usize = self.lengths.iter().sum();
        let lengths = self.lengths.iter().map(ToString::to_string);
        Plan {
            name: format!(
                "forward causal of packed {}, q {total}×{}×{}, k {total}×{}×{}",
                lengths.collect::<Vec<_>>().join(" + "),
                self.n_heads,
                self.head_dim,
                self.n_kv_heads,
                self.head_dim
            ),
            bars,
            build: Box::new(move |setup| self.build(setup)),
        }
    }

    fn build(self, setup: &Setup) -> Result<Case> {
        let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
        let total: usize = self.lengths.iter().sum();
        let mut ends = 0;
        let starts = self.lengths.iter().map(|&length| {
            ends += length;
            ends
        });
        let cu_seqlens: Vec<usize> = std::iter::once(0).chain(starts).collect();
        let random = |stream, heads: usize, scale: f32| {
            let shape = (total, heads, self.head_dim);
            let values = setup.random(stream, total * heads * self.head_dim);
            Array3::from_shape_vec(shape, values.into_iter().map(|x| scale * x).collect())
        };
        let q = random(10, self.n_heads, QUERIES)?;
        let k = random(11, self.n_kv_heads, 1.0)?;
        let v = random(12, self.n_kv_heads, 1.0)?;

        let got = varlen::forward(&q, &k, &v, &cu_seqlens, &cu_seqlens, &config)?;
        let [q64, k64, v64] = [&q, &k, &v].map(|x| x.mapv(f64::from));
        let (want, _) =
            reference::varlen::forward(&q64, &k64, &v64, &cu_seqlens, &cu_seqlens, &config)?;
        let ours = got.iter().map(|&x| f64::from(x));
        agree("our out", ours, want, tolerance("out"))?;

        let sets = setup.sets(size_of::<f32>() * (q.len() + k.len() + v.len()));
        let peers = self.peers(setup, [&q, &k, &v], sets, &got)?;
        // As for arrays of one length: two products for each pair of a query and a key that it sees.
        let pairs: usize = self.lengths.iter().map(|n| n * (n + 1) / 2).sum();
        let sets = vec![[q, k, v]; sets];
        Ok(Case {
            work: Work::Product {
                operations: self.n_heads * pairs * 2 * self.head_dim * 2,
            },
            ours: Calls::boxed(move |call| {
                let [q, k, v] = &sets[call % sets.len()];
                let out = varlen::forward(q, k, v, &cu_seqlens, &cu_seqlens, &config)?;
                std::hint::black_box(out);
                Ok(())
            }),
            peers,
        })
    }

    #[cfg(feature = "peers")]
    fn peers(
        self,
        setup: &Setup,
        [q, k, v]: [&Array3<f32>; 3],
        sets: usize,
        ours: &Array3<f32>,
    ) -> Result<Vec<Peer>> {
        use super::candle;

        if setup.python.is_none() {
            return Ok(Vec::new());
        }
        let mut tensors = Vec::new();
        for _ in 0..sets {
            let tensor = |x: &Array3<f32>| candle::tensor(&x.view());
            tensors.push([tensor(q)?, tensor(k)?, tensor(v)?]);
        }
        let scale = (1.0 / (self.head_dim as f64).sqrt()) as f32;
        let run = candle::packed(self.lengths, scale)?;
        let ours: Vec<f32> = ours.iter().copied().collect();
        Ok(vec![candle::peer(tensors, run, &ours)?])
    }

    #[cfg(not(feature = "peers"))]
    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "candle comes with the feature"
    )]
    fn peers(
        self,
        _: &Setup,
        _: [&Array3<f32>; 3],
        _: usize,
        _: &Array3<f32>,
    ) -> Result<Vec<Peer>> {
        Ok(Vec::new())
    }
}
