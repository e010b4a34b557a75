//! ALiBi, a bias, a boolean mask and dropout for packed sequences.

use std::ops::Range;

use ndarray::{
    Array1, Array2, Array3, Array4, ArrayBase, ArrayRef2, ArrayRef3, ArrayViewMut2, Axis, Ix4,
    RawData, Slice, s,
};

use super::{Sequence, check, check_all, cut, cut_columns, for_each};
use super::{heads_first, heads_first_mut, views};
use crate::flash::{self, Plan, zeros};
use crate::{AttentionConfig, AttentionError, Dropout, ScoreMods, memory};
use llm_numerics::Float;

/// The gradients of [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<F> {
    /// For queries, keys and values.
    pub inputs: super::Gradients<F>,
    /// For the bias, shaped as it is; `None` if there is none.
    pub dbias: Option<Array4<F>>,
    /// For the slopes of ALiBi, `[n_heads]`, over all sequences; `None` if there are none.
    pub dslopes: Option<Array1<F>>,
}

/// What a sequence adds to the gradients that belong to all of them.
struct Share<F> {
    dbias: Option<Array4<F>>,
    dslopes: Vec<f64>, // [n_heads], or empty
}

impl<F> Default for Share<F> {
    fn default() -> Self {
        Self {
            dbias: None,
            dslopes: Vec::new(),
        }
    }
}

/// [`varlen::forward_with_lse`](super::forward_with_lse) with modified scores and weights.
///
/// For each sequence alone what [`score_mods::forward`](crate::score_mods::forward) gives.
/// The distances of ALiBi count from its start and from its lengths. Dropout draws anew for
/// each: with query `i` and key `j` of sequence `n`, both counted from its start,
/// the weight of head `h` stays if
///
/// ```text
/// word j of the stream   offset + n_heads cu_seqlens[n] + h seq_n + i
/// seq_n = cu_seqlens[n + 1] - cu_seqlens[n]
/// ```
///
/// is at least `rate * 2^32`. So sequences of one length drop what they drop as rows of a batch,
/// and a sequence alone drops the same if its offset is `n_heads cu_seqlens[n]` more. No two weights
/// share a word; the next call takes `n_heads * total` more streams.
///
/// # Shapes
///
/// - `q`, `k`, `v`, `cu_seqlens`, `cu_kv_seqlens`: as in [`varlen::forward`](super::forward)
/// - `mods`: slopes `[n_heads]`; bias and mask `[1, n_heads, total, kv_total]`, where each axis may
///   have the length 1 and then counts for all: `[1, 1, 1, kv_total]` is a number for each key.
///   What stands for a query and a key of different sequences is not read, so a shape with
///   `total` and `kv_total` spends more than packing saves
/// - returns: `[total, n_heads, value_dim]` and `[n_heads, total]`
///
/// A query that sees no key gets zeros and `-inf`.
///
/// # Errors
///
/// Those of [`varlen::forward`](super::forward), and
///
/// - [`AttentionError::Slopes`] if there are not as many slopes as heads.
/// - [`AttentionError::Broadcast`] if a bias or a mask does not fit `[1, n_heads, total, kv_total]`.
/// - [`AttentionError::DropoutRate`] if the rate is not at least 0 and below 1.
///
/// # Precision
///
/// As [`score_mods::forward`](crate::score_mods::forward) of each sequence alone: the same bits
/// for the same strides, and for any number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::varlen::score_mods;
/// use llm_attention::{AlibiOrigin, AttentionConfig, CausalAlignment, Mask, ScoreMods};
/// use ndarray::{Array3, array};
///
/// // Sequences of 2 and of 3 tokens with equal scores, but for ALiBi.
/// let x = Array3::<f64>::zeros((5, 1, 4)); // [total, n_heads, head_dim]
/// let v = Array3::from_shape_fn((5, 1, 1), |(token, ..)| token as f64);
/// let slopes = array![2_f64.ln()]; // each step back halves the weight
/// let mods = ScoreMods::new().with_alibi(&slopes, AlibiOrigin::AbsoluteDistance);
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let starts = [0, 2, 5];
/// let (out, _) = score_mods::forward(&x, &x, &v, &starts, &starts, &mods, &config)?;
/// // Token 4 sees tokens 2, 3 and 4 with weights 1 : 2 : 4.
/// assert!((out[[4, 0, 0]] - 24.0 / 7.0).abs() < 1e-12);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: the form is that of FlashAttention's `flash_attn_varlen_func` (2.8), which takes
/// `alibi_slopes` and `dropout_p`, and no bias.
pub fn forward<F: Float>(
    q: &ArrayRef3<F>,
    k: &ArrayRef3<F>,
    v: &ArrayRef3<F>,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
    mods: &ScoreMods<'_, F>,
    config: &AttentionConfig,
) -> Result<(Array3<F>, Array2<F>), AttentionError> {
    let (plan, sequences) = check_all(q, k, v, [cu_seqlens, cu_kv_seqlens], mods, config)?;
    let mut out = zeros([1, plan.seq, plan.n_heads, plan.value_dim])?.remove_axis(Axis(0));
    memory::fits::<F>([1, 1, plan.n_heads, plan.seq])?;
    let mut lse = Array2::zeros((plan.n_heads, plan.seq));
    let outs = cut(out.view_mut(), Axis(0), &sequences, |[queries, _]| queries);
    let lses = cut_columns(lse.view_mut(), &sequences);
    let items: Vec<_> = sequences.iter().zip(outs.into_iter().zip(lses)).collect();
    let work = |(sequence, (out, lse)): (&Sequence, (_, ArrayViewMut2<'_, F>))| {
        let [q, k, v] = views(q, k, v, sequence);
        let (mut out, mut lse) = (heads_first_mut(out), lse.insert_axis(Axis(0)));
        let done = with_mods_of(mods, sequence, plan.n_heads, |mods| {
            let plan = Plan::with_mods(&q, &k, &v, mods, config)?;
            flash::run(&plan, &q, &k, &v, &mut out, Some(&mut lse));
            Ok::<_, AttentionError>(())
        });
        debug_assert!(done.is_ok(), "{done:?}");
    };
    for_each(&plan, items, work);
    Ok((out, lse))
}

/// The gradients of [`forward`] for queries, keys, values, the bias and the slopes.
///
/// Those of [`score_mods::backward`](crate::score_mods::backward) for each sequence alone; those of
/// the slopes, and of a bias that counts for all, are summed over the sequences.
///
/// # Shapes
///
/// - `dout`, `out`: `[total, n_heads, value_dim]`; `lse`: `[n_heads, total]`, both from
///   [`forward`] with the same arrays, lists, modifications and config
/// - the others as in [`forward`]
/// - returns: [`Gradients`], each shaped as what it is for; of a bias zero for a query and a key of
///   different sequences
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::PackedShape`] and [`AttentionError::PackedLseShape`] if
/// `dout`, `out` or `lse` does not have the shape above.
///
/// # Precision
///
/// Sums in `F`, that of the slopes in `f64`, in an order that does not depend on the number of
/// threads.
///
/// # Example
///
/// ```
/// use llm_attention::varlen::score_mods;
/// use llm_attention::{AlibiOrigin, AttentionConfig, Mask, ScoreMods};
/// use ndarray::{Array3, array};
///
/// let x = Array3::<f64>::zeros((5, 1, 4)); // [total, n_heads, head_dim]
/// let v = Array3::from_shape_fn((5, 1, 1), |(token, ..)| token as f64);
/// let (slopes, config) = (array![0.0], AttentionConfig::new(Mask::Full));
/// let mods = ScoreMods::new().with_alibi(&slopes, AlibiOrigin::KeyIndex);
/// let starts = [0, 2, 5];
/// let (out, lse) = score_mods::forward(&x, &x, &v, &starts, &starts, &mods, &config)?;
/// let dout = Array3::ones(out.dim());
/// let gradients = score_mods::backward(
///     &dout, &x, &x, &v, &out, &lse, &starts, &starts, &mods, &config,
/// )?;
/// // Each query adds the variance of its keys: twice 1/4, and three times 2/3.
/// assert!((gradients.dslopes.unwrap()[0] - 2.5).abs() < 1e-12);
/// # Ok::<(), llm_attention::AttentionError>(())
/// ```
///
/// Source: as [`score_mods::backward`](crate::score_mods::backward).
#[allow(
    clippy::too_many_arguments,
    reason = "six arrays, two lists, the modifications and a config is what the gradient has"
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
    mods: &ScoreMods<'_, F>,
    config: &AttentionConfig,
) -> Result<Gradients<F>, AttentionError> {
    let (plan, sequences) = check_all(q, k, v, [cu_seqlens, cu_kv_seqlens], mods, config)?;
    let shape = [plan.seq, plan.n_heads, plan.value_dim];
    check("dout", shape, dout)?;
    check("out", shape, out)?;
    let (expected, got) = ([plan.n_heads, plan.seq], lse.dim().into());
    if got != expected {
        return Err(AttentionError::PackedLseShape { expected, got });
    }
    let new = |x: &ArrayRef3<F>| {
        let (tokens, heads, features) = x.dim();
        zeros::<F>([1, tokens, heads, features]).map(|x| x.remove_axis(Axis(0)))
    };
    let (mut dq, mut dk, mut dv) = (new(q)?, new(k)?, new(v)?);
    let dbias = mods.bias.map(|bias| zeros::<F>(bias.dim().into()));
    let mut dbias = dbias.transpose()?;
    // The shares of the sequences: of a bias by token as many numbers as it has, of one for all tokens a number for each sequence and head,
    // which are not more than the first check allows.
    memory::fits::<f64>([1, 1, plan.n_heads, plan.seq.max(1)])?;
    memory::fits::<F>([1, 1, 2, dbias.as_ref().map_or(0, Array4::len)])?;
    let dqs = cut(dq.view_mut(), Axis(0), &sequences, |[queries, _]| queries);
    let dks = cut(dk.view_mut(), Axis(0), &sequences, |[_, keys]| keys);
    let dvs = cut(dv.view_mut(), Axis(0), &sequences, |[_, keys]| keys);
    let mut shares: Vec<_> = sequences.iter().map(|_| Share::default()).collect();
    let gradients = dqs.into_iter().zip(dks.into_iter().zip(dvs));
    let items: Vec<_> = sequences.iter().zip(gradients.zip(&mut shares)).collect();
    let work = |(sequence, ((dq, (dk, dv)), share)): (&Sequence, (_, &mut Share<F>))| {
        let [q, k, v] = views(q, k, v, sequence);
        let queries = &sequence[0];
        let [dout, out] = [dout, out].map(|x| heads_first(x, queries));
        let lse = lse.slice(s![.., queries.clone()]).insert_axis(Axis(0));
        let [mut dq, mut dk, mut dv] = [dq, dk, dv].map(heads_first_mut);
        let done = with_mods_of(mods, sequence, plan.n_heads, |mods| {
            let plan = Plan::with_mods(&q, &k, &v, mods, config)?;
            let saved = flash::Saved {
                dout: &dout,
                out: &out,
                lse: &lse,
            };
            let inputs = [&mut *dq, &mut *dk, &mut *dv];
            let dslopes = flash::run_backward(&plan, &saved, &q, &k, &v, inputs);
            let has_scores = !sequence.iter().any(Range::is_empty);
            let dbias = mods.bias.filter(|_| has_scores).map(|bias| {
                let mut dbias = Array4::zeros(bias.dim());
                flash::run_bias_backward(&plan, &saved, &q, &k, &v, &mut dbias);
                dbias
            });
            *share = Share { dbias, dslopes };
            Ok::<_, AttentionError>(())
        });
        debug_assert!(done.is_ok(), "{done:?}");
    };
    for_each(&plan, items, work);
    let mut dslopes = mods.alibi.map(|(slopes, _)| vec![0.0; slopes.len()]);
    for (sequence, share) in sequences.iter().zip(shares) {
        if let Some(dslopes) = &mut dslopes {
            let sums = dslopes.iter_mut().zip(share.dslopes);
            sums.for_each(|(sum, x)| *sum += x);
        }
        if let (Some(dbias), Some(share)) = (&mut dbias, share.dbias) {
            let mut dbias = part(dbias.view_mut(), sequence);
            dbias += &share;
        }
    }
    Ok(Gradients {
        inputs: super::Gradients { dq, dk, dv },
        dbias,
        dslopes: dslopes.map(|sums| sums.into_iter().map(F::from_f64).collect()),
    })
}

/// Hands on what changes the scores of a sequence that is a batch of its own.
fn with_mods_of<F: Float, T>(
    mods: &ScoreMods<'_, F>,
    sequence: &Sequence,
    n_heads: usize,
    work: impl FnOnce(&ScoreMods<'_, F>) -> T,
) -> T {
    let bias = mods.bias.map(|bias| part(bias.view(), sequence));
    let mask = (mods.mask).map(|(mask, polarity)| (part(mask.view(), sequence), polarity));
    let streams = (n_heads as u64).wrapping_mul(sequence[0].start as u64);
    work(&ScoreMods {
        alibi: mods.alibi,
        bias: bias.as_deref(),
        mask: mask.as_ref().map(|(mask, polarity)| (&**mask, *polarity)),
        dropout: mods.dropout.map(|dropout| Dropout {
            offset: dropout.offset.wrapping_add(streams),
            ..dropout
        }),
    })
}

/// What belongs to the queries and keys of a sequence, of `[1, n_heads, total, kv_total]` or with axes of length 1.
fn part<S: RawData>(mut array: ArrayBase<S, Ix4>, [queries, keys]: &Sequence) -> ArrayBase<S, Ix4> {
    for (axis, tokens) in [(Axis(2), queries), (Axis(3), keys)] {
        if array.len_of(axis) != 1 {
            array.slice_axis_inplace(axis, Slice::from(tokens.clone()));
        }
    }
    array
}
