//! Attention over arrays of one length.

use std::num::NonZero;

use anyhow::{Context as _, Result};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash, reference};
use ndarray::{Array3, Array4, s};
use rayon::prelude::*;
use serde_json::json;

use crate::case::{Bars, Case, Peer, Plan, Setup, Work, agree};
use crate::measure::{Calls, Contender};
use crate::peers::Input;

/// Queries are so much larger than the other data. Then some keys weigh far more than others, as in a model; with
/// nearly equal weights each result would be close to zero, and a wrong one hard to tell.
pub(super) const QUERIES: f32 = 8.0;

/// Which keys a query sees.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sees {
    All,
    Causal,
    /// So many, itself among them.
    LastKeys(usize),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pass {
    Forward,
    Backward,
    /// Forward and then backward.
    Both,
}

/// One call on arrays of one length.
#[derive(Clone, Copy)]
pub(super) struct Dense {
    pub(super) pass: Pass,
    pub(super) sees: Sees,
    pub(super) softcap: Option<f32>,
    /// `[batch, n_heads, seq, head_dim]`
    pub(super) q: [usize; 4],
    /// `[batch, n_kv_heads, kv_seq, head_dim]`, of the values too
    pub(super) kv: [usize; 4],
}

/// The inputs of a call.
#[derive(Clone)]
struct Data {
    q: Array4<f32>,
    k: Array4<f32>,
    v: Array4<f32>,
    dout: Array4<f32>,
    /// Output and log-sum-exp, for a backward pass alone.
    saved: Option<(Array4<f32>, Array3<f32>)>,
}

/// Results by name, in the order of memory.
type Results<F> = Vec<(&'static str, Vec<F>)>;

impl Dense {
    pub(super) fn plan(self, bars: Bars) -> Plan {
        let decode = self.q[2] == 1;
        let pass = match self.pass {
            Pass::Forward if decode => "decode",
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Both => "forward and backward",
        };
        let sees = match self.sees {
            Sees::All => " all keys".to_owned(),
            Sees::Causal if decode => String::new(), // the last query sees all
            Sees::Causal => " causal".to_owned(),
            Sees::LastKeys(n) => format!(" last {n} keys"),
        };
        let softcap = (self.softcap).map_or_else(String::new, |cap| format!(" softcap {cap}"));
        let (q, kv) = (shape(self.q), shape(self.kv));
        Plan {
            name: format!("{pass}{sees}{softcap}, q {q}, k {kv}"),
            bars,
            build: Box::new(move |setup| self.build(setup)),
        }
    }

    fn config(self) -> AttentionConfig {
        let alignment = CausalAlignment::BottomRight;
        let config = AttentionConfig::new(match self.sees {
            Sees::All => Mask::Full,
            Sees::Causal => Mask::Causal(alignment),
            Sees::LastKeys(n) => {
                Mask::last_keys(NonZero::new(n).unwrap_or(NonZero::<usize>::MIN), alignment)
            }
        });
        match self.softcap {
            Some(softcap) => config.with_softcap(f64::from(softcap)),
            None => config,
        }
    }

    /// A decoding step reads each key and each value once. All else is products: for each pair of a query and a key that
    /// it sees, `head_dim` multiplications and as many additions in each product. Exponentials do not count, nor do pairs
    /// that a tile computes and a mask hides.
    fn work(self) -> Work {
        let [batch, n_heads, seq, head_dim] = self.q;
        if seq == 1 {
            let values = self.kv.iter().product::<usize>();
            return Work::Read {
                bytes: 2 * size_of::<f32>() * values,
            };
        }
        let hidden = self.kv[2] - seq; // keys before the first query
        let seen = |i: usize| match self.sees {
            Sees::All => self.kv[2],
            Sees::Causal => hidden + i + 1,
            Sees::LastKeys(n) => n.min(hidden + i + 1),
        };
        let pairs: usize = (0..seq).map(seen).sum();
        // Forward: q kᵀ and p v. Backward: q kᵀ anew, dout vᵀ, dsᵀ q, ds k, pᵀ dout.
        let products = match self.pass {
            Pass::Forward => 2,
            Pass::Backward => 5,
            Pass::Both => 7,
        };
        Work::Product {
            operations: batch * n_heads * pairs * 2 * head_dim * products,
        }
    }

    fn build(self, setup: &Setup) -> Result<Case> {
        let random = |stream, shape: [usize; 4], scale: f32| {
            let values = setup.random(stream, shape.iter().product());
            Array4::from_shape_vec(shape, values.into_iter().map(|x| scale * x).collect())
        };
        let mut data = Data {
            q: random(10, self.q, QUERIES)?,
            k: random(11, self.kv, 1.0)?,
            v: random(12, self.kv, 1.0)?,
            dout: random(13, self.q, 1.0)?,
            saved: None,
        };
        let results = self.results(&data)?;
        if self.pass == Pass::Backward {
            data.saved = Some(flash::forward_with_lse(
                &data.q,
                &data.k,
                &data.v,
                &self.config(),
            )?);
        }
        for ((name, got), (_, want)) in results.iter().zip(self.reference(&data)?) {
            let got = got.iter().map(|&x| f64::from(x));
            agree(&format!("our {name}"), got, want, tolerance(name))?;
        }
        let bytes = size_of::<f32>() * (data.q.len() + data.k.len() + data.v.len());
        let sets = setup.sets(bytes);
        #[cfg_attr(
            not(feature = "peers"),
            allow(unused_mut, reason = "candle comes with the feature")
        )]
        let mut peers = self.python(setup, &data, sets, &results)?;
        #[cfg(feature = "peers")]
        if setup.python.is_some() && self.pass == Pass::Forward {
            peers.insert(0, self.candle(&data, sets, &results)?);
        }
        Ok(Case {
            work: self.work(),
            ours: self.ours(&data, sets),
            peers,
        })
    }

    /// All that the pass returns.
    fn results(self, data: &Data) -> Result<Results<f32>> {
        let config = self.config();
        let Data { q, k, v, dout, .. } = data;
        let (out, lse) = flash::forward_with_lse(q, k, v, &config)?;
        let mut results = Vec::new();
        if self.pass != Pass::Forward {
            let gradients = flash::backward(dout, q, k, v, &out, &lse, &config)?;
            results.extend([
                ("dq", gradients.dq),
                ("dk", gradients.dk),
                ("dv", gradients.dv),
            ]);
        }
        if self.pass != Pass::Backward {
            results.push(("out", out));
        }
        Ok(results
            .into_iter()
            .map(|(name, array)| (name, array.into_iter().collect()))
            .collect())
    }

    /// The same in f64, key-value head by key-value head: whole matrices of scores would need too much memory at once.
    fn reference(self, data: &Data) -> Result<Results<f64>> {
        let config = self.config();
        let [batch, n_kv_heads, ..] = self.kv;
        let group = self.q[1] / n_kv_heads;
        let heads: Vec<[usize; 2]> = (0..batch)
            .flat_map(|b| (0..n_kv_heads).map(move |head| [b, head]))
            .collect();
        let parts = heads.into_par_iter().map(|[b, head]| -> Result<_> {
            let queries = s![b..b + 1, head * group..(head + 1) * group, .., ..];
            let keys = s![b..b + 1, head..head + 1, .., ..];
            let [q, dout] = [&data.q, &data.dout].map(|x| x.slice(queries).mapv(f64::from));
            let [k, v] = [&data.k, &data.v].map(|x| x.slice(keys).mapv(f64::from));
            let mut part = Vec::new();
            if self.pass != Pass::Forward {
                let gradients = reference::attention::backward(&dout, &q, &k, &v, &config)?;
                part.extend([
                    ("dq", gradients.dq),
                    ("dk", gradients.dk),
                    ("dv", gradients.dv),
                ]);
            }
            if self.pass != Pass::Backward {
                part.push(("out", reference::attention::forward(&q, &k, &v, &config)?.0));
            }
            Ok(part)
        });
        // Heads of one group lie side by side, and groups one behind the other.
        let mut results: Results<f64> = Vec::new();
        for part in parts.collect::<Result<Vec<_>>>()? {
            if results.is_empty() {
                results.extend(part.iter().map(|(name, _)| (*name, Vec::new())));
            }
            for ((_, all), (_, part)) in results.iter_mut().zip(part) {
                all.extend(part);
            }
        }
        Ok(results)
    }

    fn ours(self, data: &Data, sets: usize) -> Box<dyn Contender> {
        let config = self.config();
        let sets = vec![data.clone(); sets];
        Calls::boxed(move |call| {
            let Data {
                q,
                k,
                v,
                dout,
                saved,
            } = &sets[call % sets.len()];
            if self.pass == Pass::Forward {
                std::hint::black_box(flash::forward(q, k, v, &config)?);
                return Ok(());
            }
            let now;
            let (out, lse) = match saved {
                Some((out, lse)) => (out, lse),
                None => {
                    now = flash::forward_with_lse(q, k, v, &config)?;
                    (&now.0, &now.1)
                }
            };
            std::hint::black_box(flash::backward(dout, q, k, v, out, lse, &config)?);
            Ok(())
        })
    }

    /// torch, and llama.cpp for a decoding step if its package is there; with a softcap, which torch's function does not
    /// have, transformers' code of Gemma 2. Two libraries in f32 may differ by twice what one is
    /// allowed.
    fn python(
        self,
        setup: &Setup,
        data: &Data,
        sets: usize,
        results: &Results<f32>,
    ) -> Result<Vec<Peer>> {
        let Some(python) = &setup.python else {
            return Ok(Vec::new());
        };
        if matches!(self.sees, Sees::LastKeys(_)) {
            return Ok(Vec::new()); // torch has no window: it would do the work of all keys
        }
        let arrays = [
            ("q", &data.q),
            ("k", &data.k),
            ("v", &data.v),
            ("dout", &data.dout),
        ];
        let mut inputs = Vec::new();
        for (name, array) in arrays {
            inputs.push(Input {
                name,
                shape: array.shape().to_vec(),
                data: array
                    .as_slice()
                    .context("arrays made here are contiguous")?,
                rotates: true,
            });
        }
        let params = json!({
            "causal": self.sees == Sees::Causal && self.q[2] > 1,
            "pass": match self.pass {
                Pass::Forward => "forward",
                Pass::Backward => "backward",
                Pass::Both => "both",
            },
            "softcap": self.softcap,
            "threads": setup.threads,
        });
        let mut peers = Vec::new();
        for opened in python.open(["attention", "sdpa"], &params, &inputs, sets)? {
            let library = &opened.peer.library;
            for (name, ours) in results {
                let what = format!("{name} of {library}");
                let theirs = opened.outputs.get(*name).context(what.clone())?;
                let theirs = theirs.iter().map(|&x| f64::from(x));
                let tolerance = match library.as_str() {
                    "llama.cpp" => HALF,
                    _ => 2.0 * tolerance(name),
                };
                agree(&what, theirs, ours.iter().map(|&x| f64::from(x)), tolerance)?;
            }
            peers.push(opened.peer);
        }
        Ok(peers)
    }

    #[cfg(feature = "peers")]
    fn candle(self, data: &Data, sets: usize, results: &Results<f32>) -> Result<Peer> {
        use super::candle;

        // In the order that it wants: `[batch, seq, heads, head_dim]`.
        let tensor = |x: &Array4<f32>| candle::tensor(&x.view().permuted_axes([0, 2, 1, 3]));
        let mut tensors = Vec::new();
        for _ in 0..sets {
            tensors.push([tensor(&data.q)?, tensor(&data.k)?, tensor(&data.v)?]);
        }
        let scale = (1.0 / (self.q[3] as f64).sqrt()) as f32;
        let run = candle::dense(self.sees, self.kv[2] - self.q[2], scale, self.softcap);
        candle::peer(tensors, run, &results[0].1)
    }
}

/// `1×32×2048×128`
pub(super) fn shape(shape: [usize; 4]) -> String {
    shape.map(|n| n.to_string()).join("×")
}

/// How far f32 may be from f64, by the name of the result.
///
/// A score is a sum of up to 128 products below 8, divided by about 10: f32 has it to some 1e-6, and a weight and the
/// output, a mean of values below 1, to as much. A gradient is a sum over up to 4 times 1024 queries, and grows to 10.
pub(super) fn tolerance(name: &str) -> f64 {
    match name {
        "out" => 1e-5,
        _ => 5e-5,
    }
}

/// How far llama.cpp may be from us. It rounds queries, keys, values and its running sum to f16, each to one part in
/// 2048: that moves scores of up to 10 by some 5e-3, and the weights by as large a share of theirs. The output is about 0.2.
const HALF: f64 = 1e-2;
