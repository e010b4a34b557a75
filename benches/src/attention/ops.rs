//! Calls that do attention and something more, or a part of it, each with work of its own.

use anyhow::{Context as _, Result, bail};
use llm_attention::{
    AlibiOrigin, AttentionConfig, CausalAlignment, Mask, ScoreMods, differential, flash, merge,
    mla, prefix, reference, score_mods, sinks,
};
use ndarray::{
    Array1, ArrayD, ArrayRef3, ArrayRef4, ArrayView1, ArrayView2, ArrayView3, ArrayView4, Axis, s,
};
use serde_json::{Value, json};

use super::dense::{QUERIES, tolerance};
use crate::case::{Bars, Case, Plan, Setup, Work, agree};
use crate::measure::Calls;
use crate::peers::Input;

/// A call of ours, or the same in f64.
type Run<F> = fn(&[ArrayD<F>]) -> Result<ArrayD<F>>;

/// One call with a single result.
pub(super) struct Op {
    name: String,
    work: Work,
    /// Name, shape, and the bound of the numbers.
    inputs: Vec<(&'static str, Vec<usize>, f32)>,
    ours: Run<f32>,
    reference: Run<f64>,
    /// The function of the peers' script that does the same, and what it gets besides the inputs.
    peers: Option<(&'static str, Value)>,
}

impl Op {
    pub(super) fn plan(self) -> Plan {
        Plan {
            name: self.name.clone(),
            bars: Bars::default(),
            build: Box::new(move |setup| self.build(setup)),
        }
    }

    fn build(&self, setup: &Setup) -> Result<Case> {
        let mut inputs = Vec::new();
        for (stream, (_, shape, bound)) in (10..).zip(&self.inputs) {
            let values = setup.random(stream, shape.iter().product());
            let values = values.into_iter().map(|x| bound * x).collect();
            inputs.push(ArrayD::from_shape_vec(&shape[..], values)?);
        }
        let wide: Vec<_> = inputs.iter().map(|x| x.mapv(f64::from)).collect();
        let (got, want) = ((self.ours)(&inputs)?, (self.reference)(&wide)?);
        let wide = |x: &ArrayD<f32>| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        agree("our out", wide(&got), want, tolerance("out"))?;

        let bytes = inputs.iter().map(|x| size_of::<f32>() * x.len()).sum();
        let sets = setup.sets(bytes);
        let mut peers = Vec::new();
        if let (Some(python), Some((case, params))) = (&setup.python, &self.peers) {
            let mut theirs = Vec::new();
            for ((name, shape, _), data) in self.inputs.iter().zip(&inputs) {
                theirs.push(Input {
                    name,
                    shape: shape.clone(),
                    data: data.as_slice().context("arrays made here are contiguous")?,
                    rotates: true,
                });
            }
            for opened in python.open(["attention", case], params, &theirs, sets)? {
                let what = format!("out of {}", opened.peer.library);
                let out = opened.outputs.get("out").context(what.clone())?;
                let out = out.iter().map(|&x| f64::from(x));
                agree(&what, out, wide(&got), 2.0 * tolerance("out"))?;
                peers.push(opened.peer);
            }
        }
        let (sets, ours) = (vec![inputs; sets], self.ours);
        Ok(Case {
            work: self.work,
            ours: Calls::boxed(move |call| {
                std::hint::black_box(ours(&sets[call % sets.len()])?);
                Ok(())
            }),
            peers,
        })
    }
}

/// Every op.
pub(super) fn all() -> [Op; 8] {
    [
        alibi(),
        with_sinks(),
        sinks_alone(),
        merged(),
        latent("absorbed", absorbed),
        latent("absorbed, one cache", absorbed_cache),
        difference(),
        with_prefix(),
    ]
}

fn causal() -> AttentionConfig {
    AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight))
}

/// Pairs of a query and a key that it sees, of as many queries as keys.
const fn pairs(seq: usize) -> usize {
    seq * (seq + 1) / 2
}

fn one<F>(x: &ArrayD<F>) -> Result<ArrayView1<'_, F>> {
    Ok(x.view().into_dimensionality()?)
}

fn two<F>(x: &ArrayD<F>) -> Result<ArrayView2<'_, F>> {
    Ok(x.view().into_dimensionality()?)
}

fn three<F>(x: &ArrayD<F>) -> Result<ArrayView3<'_, F>> {
    Ok(x.view().into_dimensionality()?)
}

fn four<F>(x: &ArrayD<F>) -> Result<ArrayView4<'_, F>> {
    Ok(x.view().into_dimensionality()?)
}

fn wrong<T>() -> Result<T> {
    bail!("an op must have as many inputs as it takes")
}

/// A prompt with ALiBi, as BLOOM and MPT read one.
fn alibi() -> Op {
    let [heads, seq, dim] = [16, 1024, 128];
    let shape = vec![1, heads, seq, dim];
    Op {
        name: format!(
            "forward causal with ALiBi, q 1×{heads}×{seq}×{dim}, k 1×{heads}×{seq}×{dim}"
        ),
        work: Work::Product {
            operations: heads * pairs(seq) * 2 * dim * 2,
        },
        inputs: vec![
            ("q", shape.clone(), QUERIES),
            ("k", shape.clone(), 1.0),
            ("v", shape, 1.0),
        ],
        ours: |x| {
            let [q, k, v] = x else { return wrong() };
            let slopes = slopes(q.shape()[1]).mapv(|slope| slope as f32);
            let mods = ScoreMods::new().with_alibi(&slopes, AlibiOrigin::AbsoluteDistance);
            let (q, k, v) = (four(q)?, four(k)?, four(v)?);
            Ok(score_mods::forward(&q, &k, &v, &mods, &causal())?
                .0
                .into_dyn())
        },
        reference: |x| {
            let [q, k, v] = x else { return wrong() };
            let slopes = slopes(q.shape()[1]);
            let mods = ScoreMods::new().with_alibi(&slopes, AlibiOrigin::AbsoluteDistance);
            let (q, k, v) = (four(q)?, four(k)?, four(v)?);
            Ok(
                reference::score_mods::forward(&q, &k, &v, &mods, &causal())?
                    .0
                    .into_dyn(),
            )
        },
        peers: Some(("alibi", json!({ "slopes": slopes(heads).to_vec() }))),
    }
}

/// The paper's, for a power of two: `2^(-8 (h + 1) / n_heads)`.
fn slopes(n_heads: usize) -> Array1<f64> {
    Array1::from_shape_fn(n_heads, |h| {
        2_f64.powf(-8.0 * (h + 1) as f64 / n_heads as f64)
    })
}

/// The heads of gpt-oss.
fn with_sinks() -> Op {
    let [heads, kv_heads, seq, dim] = [64, 8, 512, 64];
    Op {
        name: format!(
            "forward causal with sinks, q 1×{heads}×{seq}×{dim}, k 1×{kv_heads}×{seq}×{dim}"
        ),
        work: Work::Product {
            operations: heads * pairs(seq) * 2 * dim * 2,
        },
        inputs: vec![
            ("q", vec![1, heads, seq, dim], QUERIES),
            ("k", vec![1, kv_heads, seq, dim], 1.0),
            ("v", vec![1, kv_heads, seq, dim], 1.0),
            ("sinks", vec![heads], 4.0),
        ],
        ours: |x| {
            let [q, k, v, sinks] = x else { return wrong() };
            let (q, k, v) = (four(q)?, four(k)?, four(v)?);
            let (mut out, mut lse) = flash::forward_with_lse(&q, &k, &v, &causal())?;
            sinks::apply_inplace(&mut out, &mut lse, &one(sinks)?)?;
            Ok(out.into_dyn())
        },
        reference: |x| {
            let [q, k, v, sinks] = x else { return wrong() };
            let (q, k, v) = (four(q)?, four(k)?, four(v)?);
            Ok(
                reference::sinks::forward(&q, &k, &v, &one(sinks)?, &causal())?
                    .0
                    .into_dyn(),
            )
        },
        peers: Some(("sinks", json!({}))),
    }
}

/// Sinks by themselves: a number for each row.
fn sinks_alone() -> Op {
    let [heads, seq, dim] = [64, 512, 64];
    Op {
        name: format!("sinks, out 1×{heads}×{seq}×{dim}"),
        work: Work::Copy {
            bytes: 2 * size_of::<f32>() * heads * seq * (dim + 1),
        },
        inputs: vec![
            ("out", vec![1, heads, seq, dim], 1.0),
            ("lse", vec![1, heads, seq], 4.0),
            ("sinks", vec![heads], 4.0),
        ],
        ours: |x| {
            let [out, lse, sinks] = x else { return wrong() };
            Ok(sinks::apply(&four(out)?, &three(lse)?, &one(sinks)?)?
                .0
                .into_dyn())
        },
        reference: |x| {
            let [out, lse, sinks] = x else { return wrong() };
            let mut out = out.clone();
            for (index, out) in out.indexed_iter_mut() {
                let (b, h, i) = (index[0], index[1], index[2]);
                *out /= 1.0 + (sinks[[h]] - lse[[b, h, i]]).exp();
            }
            Ok(out)
        },
        peers: None,
    }
}

/// Four pieces of the keys of a prompt.
fn merged() -> Op {
    let [pieces, heads, seq, dim] = [4, 32, 512, 128];
    Op {
        name: format!("merge of {pieces} pieces, out 1×{heads}×{seq}×{dim}"),
        work: Work::Copy {
            bytes: size_of::<f32>() * (pieces + 1) * heads * seq * (dim + 1),
        },
        inputs: vec![
            ("outs", vec![pieces, 1, heads, seq, dim], 1.0),
            ("lses", vec![pieces, 1, heads, seq], 2.0),
        ],
        ours: |x| merge_of(x, merge::forward),
        reference: |x| merge_of(x, reference::merge::forward),
        peers: None,
    }
}

#[allow(
    clippy::type_complexity,
    reason = "the type of one function of the crate"
)]
fn merge_of<F, L>(
    x: &[ArrayD<F>],
    merge: impl Fn(
        &[&ArrayRef4<F>],
        &[&ArrayRef3<F>],
    ) -> std::result::Result<(ndarray::Array4<F>, L), llm_attention::AttentionError>,
) -> Result<ArrayD<F>> {
    let [outs, lses] = x else { return wrong() };
    let (mut of_outs, mut of_lses) = (Vec::new(), Vec::new());
    for (out, lse) in outs.outer_iter().zip(lses.outer_iter()) {
        of_outs.push(out.into_dimensionality()?);
        of_lses.push(lse.into_dimensionality()?);
    }
    let outs: Vec<&ArrayRef4<F>> = of_outs.iter().map(|x: &ArrayView4<'_, F>| &**x).collect();
    let lses: Vec<&ArrayRef3<F>> = of_lses.iter().map(|x: &ArrayView3<'_, F>| &**x).collect();
    Ok(merge(&outs, &lses)?.0.into_dyn())
}

/// Features of a latent, here and below as in DeepSeek-V2-Lite.
const LATENT: usize = 512;
/// Features of a key that are not rotated.
const NOPE: usize = 128;
/// Features of a value.
const VALUE: usize = 128;

/// A decoding step of latent attention. The latents and the rotated keys are those of one cache.
fn latent(form: &str, ours: Run<f32>) -> Op {
    let [heads, kv_seq, rotary] = [16, 2048, 64];
    Op {
        name: format!(
            "decode of latents ({form}), q 1×{heads}×1×{}, cache 1×1×{kv_seq}×{}",
            NOPE + rotary,
            LATENT + rotary
        ),
        // Scores and sums of latents; both halves of the projection once for the query.
        work: Work::Product {
            operations: 2 * heads * (kv_seq * (2 * LATENT + rotary) + LATENT * (NOPE + VALUE)),
        },
        inputs: vec![
            ("q", vec![1, heads, 1, NOPE + rotary], QUERIES),
            ("cache", vec![1, 1, kv_seq, LATENT + rotary], 1.0),
            (
                "kv_b_proj",
                vec![heads * (NOPE + VALUE), LATENT],
                1.0 / 16.0,
            ),
        ],
        ours,
        reference: |x| {
            let [q, cache, kv_b_proj] = x else {
                return wrong();
            };
            let (latents, rotated) = four(cache)?.split_at(Axis(3), LATENT);
            let (q, kv_b_proj) = (four(q)?, two(kv_b_proj)?);
            Ok(
                reference::mla::forward(&q, &latents, &rotated, &kv_b_proj, &causal())?
                    .0
                    .into_dyn(),
            )
        },
        peers: None,
    }
}

/// Latents and rotated keys as two arrays, here two views of one.
fn absorbed(x: &[ArrayD<f32>]) -> Result<ArrayD<f32>> {
    let [q, cache, kv_b_proj] = x else {
        return wrong();
    };
    let (latents, rotated) = four(cache)?.split_at(Axis(3), LATENT);
    let (q, kv_b_proj) = (four(q)?, two(kv_b_proj)?);
    Ok(
        mla::forward_absorbed(&q, &latents, &rotated, &kv_b_proj, &causal())?
            .0
            .into_dyn(),
    )
}

/// A cache that holds both beside each other, which is read where it lies.
fn absorbed_cache(x: &[ArrayD<f32>]) -> Result<ArrayD<f32>> {
    let [q, cache, kv_b_proj] = x else {
        return wrong();
    };
    let (q, cache, kv_b_proj) = (four(q)?, four(cache)?, two(kv_b_proj)?);
    let config = causal().with_scale(1.0 / (q.len_of(Axis(3)) as f64).sqrt());
    let absorbed = mla::absorb_queries(&q, &kv_b_proj, NOPE)?;
    let latents = cache.slice(s![.., .., .., ..LATENT]);
    let out = flash::forward(&absorbed, &cache, &latents, &config)?;
    Ok(mla::project_values(&out, &kv_b_proj, NOPE)?.into_dyn())
}

/// Two softmaxes over values that are as long as both heads.
fn difference() -> Op {
    let [heads, kv_heads, seq, dim] = [8, 4, 1024, 64];
    let (q, k) = (vec![1, heads, seq, dim], vec![1, kv_heads, seq, dim]);
    Op {
        name: format!(
            "differential causal, q 2 of 1×{heads}×{seq}×{dim}, k 2 of 1×{kv_heads}×{seq}×{dim}"
        ),
        work: Work::Product {
            operations: 2 * heads * pairs(seq) * (2 * dim + 2 * 2 * dim),
        },
        inputs: vec![
            ("q1", q.clone(), QUERIES),
            ("q2", q, QUERIES),
            ("k1", k.clone(), 1.0),
            ("k2", k, 1.0),
            ("v", vec![1, kv_heads, seq, 2 * dim], 1.0),
            ("lambda", vec![heads], 0.8),
        ],
        ours: |x| {
            let [q1, q2, k1, k2, v, lambda] = x else {
                return wrong();
            };
            let (q1, q2, k1, k2) = (four(q1)?, four(q2)?, four(k1)?, four(k2)?);
            let (q, k) = ([&*q1, &*q2], [&*k1, &*k2]);
            Ok(differential::forward(q, k, &four(v)?, &one(lambda)?, &causal())?.into_dyn())
        },
        reference: |x| {
            let [q1, q2, k1, k2, v, lambda] = x else {
                return wrong();
            };
            let (q1, q2, k1, k2) = (four(q1)?, four(q2)?, four(k1)?, four(k2)?);
            let (q, k) = ([&*q1, &*q2], [&*k1, &*k2]);
            let (v, lambda) = (four(v)?, one(lambda)?);
            Ok(reference::differential::forward(q, k, &v, &lambda, &causal())?.into_dyn())
        },
        peers: None,
    }
}

/// A prompt of two sequences behind a prefix of 128 keys that both share.
fn with_prefix() -> Op {
    let [batch, heads, kv_heads, seq, dim, prefix] = [2, 16, 4, 512, 128, 128];
    Op {
        name: format!(
            "forward causal with prefix of {prefix}, q {batch}×{heads}×{seq}×{dim}, k {batch}×{kv_heads}×{seq}×{dim}"
        ),
        work: Work::Product {
            operations: batch * heads * (pairs(seq) + seq * prefix) * 2 * dim * 2,
        },
        inputs: vec![
            ("q", vec![batch, heads, seq, dim], QUERIES),
            ("k", vec![batch, kv_heads, seq, dim], 1.0),
            ("v", vec![batch, kv_heads, seq, dim], 1.0),
            ("prefix_k", vec![kv_heads, prefix, dim], 1.0),
            ("prefix_v", vec![kv_heads, prefix, dim], 1.0),
        ],
        ours: |x| {
            let [q, k, v, prefix_k, prefix_v] = x else {
                return wrong();
            };
            let (q, k, v) = (four(q)?, four(k)?, four(v)?);
            let (prefix_k, prefix_v) = (three(prefix_k)?, three(prefix_v)?);
            Ok(
                prefix::forward(&q, &k, &v, &prefix_k, &prefix_v, &causal())?
                    .0
                    .into_dyn(),
            )
        },
        reference: |x| {
            let [q, k, v, prefix_k, prefix_v] = x else {
                return wrong();
            };
            let (q, k, v) = (four(q)?, four(k)?, four(v)?);
            let (prefix_k, prefix_v) = (three(prefix_k)?, three(prefix_v)?);
            let config = causal();
            Ok(
                reference::prefix::forward(&q, &k, &v, &prefix_k, &prefix_v, &config)?
                    .0
                    .into_dyn(),
            )
        },
        peers: Some(("prefix", json!({}))),
    }
}
