//! A decoding step over a cache in pages, beside the same step over a cache in one array.

use anyhow::{Context as _, Result};
use llm_attention::paged::{self, PageElement, PagedKv};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash, reference};
use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use ndarray::{Array1, Array2, Array3, Array4};
use serde_json::json;

use super::dense::{QUERIES, tolerance};
use crate::case::{Bars, Case, Peer, Plan, Setup, Work, agree};
use crate::measure::{Calls, Contender};
use crate::peers::Input;

/// What pages hold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
    /// With a scale for each token and head.
    Int8,
}

/// One query for each of `n_heads`, and a cache of so many tokens; a batch of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Paged {
    pub(super) element: Element,
    pub(super) page_size: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) kv_seq: usize,
    pub(super) head_dim: usize,
}

/// A cache: its numbers, the scales of integers, and which pages are the sequence.
#[derive(Clone)]
struct Pool<S> {
    k: Array4<S>, // [n_pages, n_kv_heads, page_size, head_dim]
    v: Array4<S>,
    scales: Option<[Array3<f32>; 2]>, // [n_pages, n_kv_heads, page_size]
    block_table: Array2<u32>,         // [1, n_pages]
    lengths: Array1<u32>,             // [1]
}

/// Attention of a query to a pool.
type Attend<S> = fn(&Array4<f32>, &Pool<S>, &AttentionConfig) -> Result<Array4<f32>>;

impl Paged {
    pub(super) fn plan(self, bars: Bars) -> Plan {
        let element = match self.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
            Element::Int8 => "int8",
        };
        let Self {
            page_size,
            n_heads,
            n_kv_heads,
            kv_seq,
            head_dim,
            ..
        } = self;
        Plan {
            name: format!(
                "decode in pages of {page_size} in {element}, q 1×{n_heads}×1×{head_dim}, k 1×{n_kv_heads}×{kv_seq}×{head_dim}"
            ),
            bars,
            build: Box::new(move |setup| self.build(setup)),
        }
    }

    fn build(self, setup: &Setup) -> Result<Case> {
        match self.element {
            Element::F32 => self.case(setup, |x, _| x, |x, _| x, unscaled::<f32>),
            Element::F16 => {
                let narrow = |x, _| <f16 as Storage>::from_f32(x);
                self.case(setup, narrow, |x, _| Storage::to_f32(x), unscaled::<f16>)
            }
            Element::Bf16 => {
                let narrow = |x, _| <bf16 as Storage>::from_f32(x);
                self.case(setup, narrow, |x, _| Storage::to_f32(x), unscaled::<bf16>)
            }
            Element::Int8 => {
                let narrow = |x: f32, scale: f32| (x / scale).round() as i8;
                self.case(setup, narrow, |x, scale| f32::from(x) * scale, scaled)
            }
        }
    }

    /// `narrow` and `widen` get the scale of the token too.
    fn case<S: Copy + 'static>(
        self,
        setup: &Setup,
        narrow: impl Fn(f32, f32) -> S,
        widen: impl Fn(S, f32) -> f32,
        attend: Attend<S>,
    ) -> Result<Case> {
        let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
        let random = |stream, shape: [usize; 4], scale: f32| {
            let values = setup.random(stream, shape.iter().product());
            Array4::from_shape_vec(shape, values.into_iter().map(|x| scale * x).collect())
        };
        let Self {
            page_size,
            n_kv_heads,
            head_dim,
            ..
        } = self;
        let n_pages = self.kv_seq.div_ceil(page_size);
        let q = random(10, [1, self.n_heads, 1, head_dim], QUERIES)?;
        let pages = [n_pages, n_kv_heads, page_size, head_dim];
        let shape = (n_pages, n_kv_heads, page_size);
        // Numbers are below 1, so none is cut off at 127; other tokens have other scales.
        let scales =
            Array3::from_shape_fn(shape, |(p, h, t)| (1.0 + ((p + h + t) % 7) as f32) / 127.0);
        let stored = |stream| -> Result<Array4<S>> {
            let values = random(stream, pages, 1.0)?;
            Ok(Array4::from_shape_fn(pages, |(p, h, t, d)| {
                narrow(values[[p, h, t, d]], scales[[p, h, t]])
            }))
        };
        let pool = Pool {
            k: stored(11)?,
            v: stored(12)?,
            scales: (self.element == Element::Int8).then(|| [scales.clone(), scales.clone()]),
            block_table: Array2::from_shape_vec((1, n_pages), shuffled(setup, n_pages))?,
            lengths: Array1::from_elem(1, self.kv_seq as u32),
        };

        // The same numbers in one array.
        let in_order = |pages: &Array4<S>| {
            let shape = [1, n_kv_heads, self.kv_seq, head_dim];
            Array4::from_shape_fn(shape, |(_, h, j, d)| {
                let (page, t) = (pool.block_table[[0, j / page_size]] as usize, j % page_size);
                widen(pages[[page, h, t, d]], scales[[page, h, t]])
            })
        };
        let (k, v) = (in_order(&pool.k), in_order(&pool.v));
        let got = attend(&q, &pool, &config)?;
        let [q64, k64, v64] = [&q, &k, &v].map(|x| x.mapv(f64::from));
        let (want, _) = reference::attention::forward(&q64, &k64, &v64, &config)?;
        let ours = got.iter().map(|&x| f64::from(x));
        agree("our out", ours, want, tolerance("out"))?;

        let scale_bytes = if pool.scales.is_some() {
            size_of::<f32>()
        } else {
            0
        };
        let tokens = 2 * n_kv_heads * self.kv_seq;
        let bytes = tokens * (head_dim * size_of::<S>() + scale_bytes);
        let sets = setup.sets(bytes);
        let mut peers = vec![contiguous([&q, &k, &v], setup, &got)?];
        peers.extend(self.python(setup, &q, &pool, sets, &got, &widen)?);
        let pools = vec![pool; sets];
        Ok(Case {
            work: Work::Read { bytes },
            ours: Calls::boxed(move |call| {
                std::hint::black_box(attend(&q, &pools[call % pools.len()], &config)?);
                Ok(())
            }),
            peers,
        })
    }

    /// torch, which gathers the pages of the sequence into one array first, as transformers' paged cache does. In f32 alone.
    fn python<S: Copy>(
        self,
        setup: &Setup,
        q: &Array4<f32>,
        pool: &Pool<S>,
        sets: usize,
        ours: &Array4<f32>,
        widen: impl Fn(S, f32) -> f32,
    ) -> Result<Vec<Peer>> {
        let (Some(python), Element::F32) = (&setup.python, self.element) else {
            return Ok(Vec::new());
        };
        let [k, v] = [&pool.k, &pool.v].map(|pages| pages.mapv(|x| widen(x, 1.0)));
        let table = pool.block_table.mapv(|page| page as f32);
        let flat = "arrays made here are contiguous";
        let input = |name, shape: &[usize], data, rotates| Input {
            name,
            shape: shape.to_vec(),
            data,
            rotates,
        };
        let inputs = [
            input("q", q.shape(), q.as_slice().context(flat)?, true),
            input("k", k.shape(), k.as_slice().context(flat)?, true),
            input("v", v.shape(), v.as_slice().context(flat)?, true),
            input(
                "table",
                table.shape(),
                table.as_slice().context(flat)?,
                false,
            ),
        ];
        let mut peers = Vec::new();
        for opened in python.open(["attention", "paged"], &json!({}), &inputs, sets)? {
            let what = format!("out of {}", opened.peer.library);
            let theirs = opened.outputs.get("out").context(what.clone())?;
            let theirs = theirs.iter().map(|&x| f64::from(x));
            let ours = ours.iter().map(|&x| f64::from(x));
            agree(&what, theirs, ours, 2.0 * tolerance("out"))?;
            peers.push(opened.peer);
        }
        Ok(peers)
    }
}

fn unscaled<S: PageElement<f32> + paged::UnscaledElement>(
    q: &Array4<f32>,
    pool: &Pool<S>,
    config: &AttentionConfig,
) -> Result<Array4<f32>> {
    let kv = PagedKv::new(&pool.k, &pool.v, &pool.block_table, &pool.lengths);
    Ok(paged::forward(q, &kv, config)?)
}

fn scaled(q: &Array4<f32>, pool: &Pool<i8>, config: &AttentionConfig) -> Result<Array4<f32>> {
    let [k_scales, v_scales] = pool.scales.as_ref().context("integers have scales")?;
    let Pool {
        k,
        v,
        block_table,
        lengths,
        ..
    } = pool;
    let kv = PagedKv::int8(k, v, k_scales, v_scales, block_table, lengths);
    Ok(paged::forward(q, &kv, config)?)
}

/// Our step over the same numbers in one array of f32: what pages of f32 should cost as much as.
fn contiguous([q, k, v]: [&Array4<f32>; 3], setup: &Setup, paged: &Array4<f32>) -> Result<Peer> {
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
    let out = flash::forward(q, k, v, &config)?;
    agree(
        "in one array",
        out.iter().map(|&x| f64::from(x)),
        paged.iter().map(|&x| f64::from(x)),
        0.0, // the same sums
    )?;
    let sets = setup.sets(size_of::<f32>() * (k.len() + v.len()));
    let sets = vec![[q, k, v].map(Array4::clone); sets];
    let contender: Box<dyn Contender> = Calls::boxed(move |call| {
        let [q, k, v] = &sets[call % sets.len()];
        std::hint::black_box(flash::forward(q, k, v, &config)?);
        Ok(())
    });
    Ok(Peer {
        library: "ours in one array".to_owned(),
        version: "f32".to_owned(),
        contender,
    })
}

/// The numbers below `n` in an order of chance, as a pool that has been in use for long names its pages.
fn shuffled(setup: &Setup, n: usize) -> Vec<u32> {
    let keys = setup.random(14, n);
    let mut pages: Vec<u32> = (0..n as u32).collect();
    pages.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
    pages
}
