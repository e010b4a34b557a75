//! Sequences of different lengths in one array, one behind the other, without padding.

use std::ops::Range;

use ndarray::{
    Array2, Array3, ArrayRef2, ArrayRef3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4,
    Axis, s,
};

use crate::flash::Plan;
use crate::{AttentionConfig, AttentionError, ScoreMods};
use llm_numerics::{Float, threads};

pub mod score_mods;

/// The queries and the keys of one sequence.
type Sequence = [Range<usize>; 2];

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For the queries: `[total, n_heads, head_dim]`.
    pub dq: Array3<F>,
    /// For the keys: `[kv_total, n_kv_heads, head_dim]`.
    pub dk: Array3<F>,
    /// For the values: `[kv_total, n_kv_heads, value_dim]`.
    pub dv: Array3<F>,
}

/// Attention within each of several sequences that are packed into one array.
///
/// Sequence `n` has the queries from `cu_seqlens[n]` to before `cu_seqlens[n + 1]` and the
/// keys from `cu_kv_seqlens[n]` to before `cu_kv_seqlens[n + 1]`. No query sees a key of
/// another sequence; within its own it sees what
/// [`flash::forward`](crate::flash::forward) lets it see, and positions, windows and
/// alignments count from the start of the sequence.
///
/// # Shapes
///
/// - `q`: `[total, n_heads, head_dim]`, any strides
/// - `k`: `[kv_total, n_kv_heads, head_dim]`
/// - `v`: `[kv_total, n_kv_heads, value_dim]`
/// - `cu_seqlens`, `cu_kv_seqlens`: one number more than there are sequences; the first is 0, none
///   is below the one before it, the last is `total` or `kv_total`. The same list twice for
///   self-attention.
/// - returns: `[total, n_heads, value_dim]`
///
/// A sequence may be empty; a query of a sequence without keys gets zeros.
///
/// # Errors
///
/// - [`AttentionError::PackedShape`] if `k` or `v` does not fit `q`.
/// - [`AttentionError::CuSeqlens`] if a list does not do what is said above,
///   [`AttentionError::CuSeqlensLength`] if one has more sequences than the other.
/// - Those of [`flash::forward`](crate::flash::forward) for heads, the config and sizes.
///
/// # Precision
///
/// As [`flash::forward`](crate::flash::forward) of each sequence alone. The same bits for any number of
/// threads.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask, varlen};
/// use ndarray::{Array3, s};
///
/// // Sequences of 2 and of 3 tokens.
/// let q = Array3::<f32>::ones((5, 4, 8)); // [total, n_heads, head_dim]
/// let k = Array3::<f32>::ones((5, 2, 8)); // [kv_total, n_kv_heads, head_dim]
/// let v = Array3::from_shape_fn((5, 2, 1), |(token, ..)| token as f32);
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let out = varlen::forward(&q, &k, &v, &[0, 2, 5], &[0, 2, 5], &config)?;
/// // The mean of the tokens so far, anew from token 2 on.
/// let want = [0.0, 0.5, 2.0, 2.5, 3.0];
/// assert!(out.slice(s![.., 0, 0]).iter().zip(want).all(|(x, want)| (x - want).abs() < 1e-6));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the form is that of FlashAttention's `flash_attn_varlen_func` (2.8), whose
/// `cu_seqlens_q` and `cu_seqlens_k` these lists are.
pub fn forward<F: Float>(
    q: &ArrayRef3<F>,
    k: &ArrayRef3<F>,
    v: &ArrayRef3<F>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<Array3<F>, AttentionError> {
    let (out, _) = forward_with_lse(q, k, v, cu_seqlens, cu_kv_seqlens, config)?;
    Ok(out)
}

/// [`forward`], and the log-sum-exp of the scores, which [`backward`] needs.
///
/// # Shapes
///
/// - the inputs as in [`forward`]
/// - returns: `[total, n_heads, value_dim]` and `[n_heads, total]`
///
/// A query that sees no key has `lse = -inf`.
///
/// # Errors
///
/// As [`forward`].
///
/// # Precision
///
/// As [`flash::forward_with_lse`](crate::flash::forward_with_lse) of each sequence alone.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, varlen};
/// use ndarray::Array3;
///
/// // Scores of 0: the log-sum-exp counts the keys of a query's own sequence.
/// let (q, k) = (Array3::<f64>::zeros((5, 1, 4)), Array3::zeros((5, 1, 4)));
/// let config = AttentionConfig::new(Mask::Full);
/// let (_, lse) = varlen::forward_with_lse(&q, &k, &k, &[0, 2, 5], &[0, 2, 5], &config)?;
/// let want = [2.0, 2.0, 3.0, 3.0, 3.0_f64];
/// assert!(lse.iter().zip(want).all(|(lse, n)| (lse - n.ln()).abs() < 1e-15));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`forward`]; the order of the axes of `lse` is that of `flash_attn_varlen_func` (2.8).
pub fn forward_with_lse<F: Float>(
    q: &ArrayRef3<F>,
    k: &ArrayRef3<F>,
    v: &ArrayRef3<F>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<(Array3<F>, Array2<F>), AttentionError> {
    let mods = ScoreMods::new();
    score_mods::forward(q, k, v, cu_seqlens, cu_kv_seqlens, &mods, config)
}

/// The gradients of [`forward`] for queries, keys and values.
///
/// Those of [`flash::backward`](crate::flash::backward) for each sequence alone.
///
/// # Shapes
///
/// - `dout`, `out`: `[total, n_heads, value_dim]`; `lse`: `[n_heads, total]`, both from
///   [`forward_with_lse`] with the same arrays and config
/// - the others as in [`forward`]
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::PackedShape`] and [`AttentionError::PackedLseShape`] if
/// `dout`, `out` or `lse` does not have the shape above.
///
/// # Precision
///
/// As [`flash::backward`](crate::flash::backward) of each sequence alone.
///
/// # Example
///
/// ```
/// use llm_attention::{AttentionConfig, Mask, varlen};
/// use ndarray::Array3;
///
/// let x = Array3::<f64>::ones((5, 1, 4)); // [total, n_heads, head_dim]
/// let (lists, config) = ([0, 2, 5], AttentionConfig::new(Mask::Full));
/// let (out, lse) = varlen::forward_with_lse(&x, &x, &x, &lists, &lists, &config)?;
/// // A gradient in the second sequence does not reach the first.
/// let mut dout = Array3::zeros((5, 1, 4));
/// dout[[2, 0, 0]] = 3.0;
/// let gradients = varlen::backward(&dout, &x, &x, &x, &out, &lse, &lists, &lists, &config)?;
/// let want = [0.0, 0.0, 1.0, 1.0, 1.0];
/// assert!((0..5).all(|j| (gradients.dv[[j, 0, 0]] - want[j]).abs() < 1e-15));
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: Dao, FlashAttention-2, arXiv:2307.08691v1, algorithm 2.
#[allow(
    clippy::too_many_arguments,
    reason = "six arrays, two lists and a config is what the gradient of packed attention has"
)]
pub fn backward<F: Float>(
    dout: &ArrayRef3<F>,
    q: &ArrayRef3<F>,
    k: &ArrayRef3<F>,
    v: &ArrayRef3<F>,
    out: &ArrayRef3<F>,
    lse: &ArrayRef2<F>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let mods = ScoreMods::new();
    let got = score_mods::backward(
        dout,
        q,
        k,
        v,
        out,
        lse,
        cu_seqlens,
        cu_kv_seqlens,
        &mods,
        config,
    )?;
    Ok(got.inputs)
}

/// The sizes of all sequences together, checked, and the queries and the keys of each.
fn check_all<'a, F: Float>(
    q: &ArrayRef3<F>,
    k: &ArrayRef3<F>,
    v: &ArrayRef3<F>,
    [cu_seqlens, cu_kv_seqlens]: [&[usize]; 2],
    mods: &ScoreMods<'a, F>,
    config: &AttentionConfig,
) -> Result<(Plan<'a, F>, Vec<Sequence>), AttentionError> {
    let (total, _, head_dim) = q.dim();
    let (kv_total, n_kv_heads, _) = k.dim();
    check("k", [kv_total, n_kv_heads, head_dim], k)?;
    check("v", [kv_total, n_kv_heads, v.dim().2], v)?;
    let all = [0..total, 0..kv_total];
    let [q, k, v] = views(q, k, v, &all);
    let plan = Plan::with_mods(&q, &k, &v, mods, config)?;
    let queries = ranges("cu_seqlens", cu_seqlens, total)?;
    let keys = ranges("cu_kv_seqlens", cu_kv_seqlens, kv_total)?;
    if queries.len() != keys.len() {
        return Err(AttentionError::CuSeqlensLength {
            queries: queries.len(),
            keys: keys.len(),
        });
    }
    let sequences = queries.into_iter().zip(keys);
    Ok((plan, sequences.map(|(q, k)| [q, k]).collect()))
}

/// The tokens of each sequence.
pub(crate) fn ranges(
    name: &'static str,
    list: &[usize],
    total: usize,
) -> Result<Vec<Range<usize>>, AttentionError> {
    let refuse = |index, got| {
        Err(AttentionError::CuSeqlens {
            name,
            index,
            got,
            total,
        })
    };
    match (list.first(), list.last()) {
        (Some(0), Some(&last)) => {
            for (index, pair) in list.windows(2).enumerate() {
                if pair[1] < pair[0] || pair[1] > total {
                    return refuse(index + 1, Some(pair[1]));
                }
            }
            if last != total {
                return refuse(list.len() - 1, Some(last));
            }
        }
        (first, _) => return refuse(0, first.copied()),
    }
    Ok(list.windows(2).map(|pair| pair[0]..pair[1]).collect())
}

fn check<F>(
    name: &'static str,
    expected: [usize; 3],
    array: &ArrayRef3<F>,
) -> Result<(), AttentionError> {
    let got = array.dim().into();
    if got == expected {
        return Ok(());
    }
    Err(AttentionError::PackedShape {
        name,
        expected,
        got,
    })
}

/// One sequence as `[1, heads, seq, features]`.
fn heads_first<'a, F>(x: &'a ArrayRef3<F>, tokens: &Range<usize>) -> ArrayView4<'a, F> {
    let x = x.slice(s![tokens.clone(), .., ..]);
    x.permuted_axes([1, 0, 2]).insert_axis(Axis(0))
}

fn heads_first_mut<F>(x: ArrayViewMut3<'_, F>) -> ArrayViewMut4<'_, F> {
    x.permuted_axes([1, 0, 2]).insert_axis(Axis(0))
}

fn views<'a, F>(
    q: &'a ArrayRef3<F>,
    k: &'a ArrayRef3<F>,
    v: &'a ArrayRef3<F>,
    [queries, keys]: &Sequence,
) -> [ArrayView4<'a, F>; 3] {
    [(q, queries), (k, keys), (v, keys)].map(|(x, tokens)| heads_first(x, tokens))
}

/// The part of an array that belongs to each sequence.
fn cut<'a, F>(
    mut array: ArrayViewMut3<'a, F>,
    axis: Axis,
    sequences: &[Sequence],
    which: impl Fn(&Sequence) -> &Range<usize>,
) -> Vec<ArrayViewMut3<'a, F>> {
    let mut parts = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let (part, rest) = array.split_at(axis, which(sequence).len());
        parts.push(part);
        array = rest;
    }
    parts
}

/// The columns `[n_heads, seq]` of each sequence.
fn cut_columns<'a, F>(
    array: ArrayViewMut2<'a, F>,
    sequences: &[Sequence],
) -> Vec<ArrayViewMut2<'a, F>> {
    let parts = cut(array.insert_axis(Axis(0)), Axis(2), sequences, |[q, _]| q);
    parts
        .into_iter()
        .map(|part| part.remove_axis(Axis(0)))
        .collect()
}

/// On threads if there is enough to do. A long sequence may wake more of them for its parts.
fn for_each<F: Float, T: Send>(plan: &Plan<'_, F>, items: Vec<T>, work: impl Fn(T) + Sync + Send) {
    if plan.is_parallel() {
        threads::for_each(items, work);
    } else {
        items.into_iter().for_each(work);
    }
}
