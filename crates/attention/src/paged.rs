//! Attention to keys and values that lie in pages, anywhere in a pool that many sequences share.

use ndarray::{Array2, Array3, Array4, ArrayRef1, ArrayRef2, ArrayRef3, ArrayRef4, Axis, s};

use crate::flash::{Plan, check, zeros, zeros_lse};
use crate::{AttentionConfig, AttentionError, memory, varlen};
use attend::{Sequence, attend};
use llm_numerics::Float;

mod attend;
mod element;
mod rows;

pub use element::{PageElement, UnscaledElement};

/// The keys and values of a batch of sequences, in pages of a pool.
///
/// Token `t` of sequence `b` is at place `t % page_size` of page
/// `block_table[b, t / page_size]`. Sequences may share pages. Pages that no sequence names, places
/// behind the end of a sequence, and what the table holds behind the last page that a sequence
/// needs are never read.
///
/// The layout is that of vLLM's and FlashAttention's block tables, with the heads before the tokens
/// of a page, so that what one head reads lies together.
#[derive(Clone, Copy, Debug)]
pub struct PagedKv<'a, S> {
    k: &'a ArrayRef4<S>,
    v: &'a ArrayRef4<S>,
    scales: Option<[&'a ArrayRef3<f32>; 2]>,
    block_table: &'a ArrayRef2<u32>,
    lengths: &'a ArrayRef1<u32>,
}

impl<'a, S: UnscaledElement> PagedKv<'a, S> {
    /// Pages of `f32`, `f64`, `f16` or `bf16`. Checked when they are used.
    ///
    /// # Shapes
    ///
    /// - `k`: `[n_pages, n_kv_heads, page_size, head_dim]`, any strides
    /// - `v`: `[n_pages, n_kv_heads, page_size, value_dim]`
    /// - `block_table`: `[batch, max_pages]`
    /// - `lengths`: `[batch]`, tokens of each sequence
    #[must_use]
    pub fn new(
        k: &'a ArrayRef4<S>,
        v: &'a ArrayRef4<S>,
        block_table: &'a ArrayRef2<u32>,
        lengths: &'a ArrayRef1<u32>,
    ) -> Self {
        Self {
            k,
            v,
            scales: None,
            block_table,
            lengths,
        }
    }
}

impl<'a> PagedKv<'a, i8> {
    /// Pages of 8-bit integers, with a scale for each token and head. Checked when they are used.
    ///
    /// ```text
    /// k = k_scale * k_int8
    /// v = v_scale * v_int8
    /// ```
    ///
    /// # Shapes
    ///
    /// - `k`, `v`, `block_table`, `lengths`: as in [`PagedKv::new`]
    /// - `k_scales`, `v_scales`: `[n_pages, n_kv_heads, page_size]`
    ///
    /// # Precision
    ///
    /// The products are rounded to `f32`: the same bits as attention to pages of them. If each
    /// integer is the nearest one, keys and values are off by at most half their scale. With
    /// `r = scale_of_scores * max_j (k_scale_j / 2) * sum_d |q_d|`, the largest error of a score,
    /// the output is off by at most
    ///
    /// ```text
    /// max_j (v_scale_j / 2) + (e^(2 r) - 1) max_j |v_j|
    /// ```
    ///
    /// over the keys `j` that the query sees, and the log-sum-exp by `r`; rounding comes on top.
    #[must_use]
    pub fn int8(
        k: &'a ArrayRef4<i8>,
        v: &'a ArrayRef4<i8>,
        k_scales: &'a ArrayRef3<f32>,
        v_scales: &'a ArrayRef3<f32>,
        block_table: &'a ArrayRef2<u32>,
        lengths: &'a ArrayRef1<u32>,
    ) -> Self {
        Self {
            k,
            v,
            scales: Some([k_scales, v_scales]),
            block_table,
            lengths,
        }
    }
}

/// Attention of the last tokens of each sequence to all its keys and values.
///
/// The formula is that of [`flash::forward`](crate::flash::forward), for each sequence with its own
/// `kv_seq = lengths[b]`. The queries are its last `seq` tokens, whose keys are in the pages
/// already: with one query a decode step, with more a piece of a prompt (chunked prefill). Masks
/// that align at the bottom right count from the end of each sequence.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`, any strides
/// - `kv`: see [`PagedKv`]; any `page_size`
/// - returns: `[batch, n_heads, seq, value_dim]`
///
/// A query that sees no key gets zeros: all of them if the sequence is empty.
///
/// # Errors
///
/// - [`AttentionError::PageSize`] if a page holds no token.
/// - [`AttentionError::Shape`] if the pages do not fit `q` or each other.
/// - [`AttentionError::ScalesShape`] if the scales do not fit the pages.
/// - [`AttentionError::Rows`] if the table or the lengths are not for `batch` sequences.
/// - [`AttentionError::Length`] if a sequence is longer than a row of the table.
/// - [`AttentionError::Page`] if a sequence names a page that the pool does not have.
/// - Those of [`flash::forward`](crate::flash::forward) for heads, the config and sizes.
///
/// Found before anything is computed.
///
/// # Precision
///
/// Pages of `f16`, `bf16` and `i8` are widened to `f32`, and sums are taken in `F`. One query gives
/// the bits that [`flash::forward`](crate::flash::forward) gives for the same keys in one array,
/// whatever the pages; more queries may differ by rounding. The bits of a sequence depend neither on
/// the others of the batch nor on the number of threads.
///
/// # Example
///
/// ```
/// use llm_attention::paged::{self, PagedKv};
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask};
/// use ndarray::{Array4, array, s};
///
/// // Pages of 2 tokens, one feature: [n_pages, n_kv_heads, page_size, head_dim] = [3, 1, 2, 1].
/// let k = Array4::<f32>::zeros((3, 1, 2, 1)); // equal keys: a mean of the values
/// let v = Array4::from_shape_vec((3, 1, 2, 1), vec![5.0, f32::NAN, 1.0, 2.0, 7.0, 9.0])?;
/// let block_table = array![[1, 0], [2, 99]]; // what no sequence needs may be anything
/// let lengths = array![3, 2];
///
/// let q = Array4::ones((2, 1, 1, 1)); // [batch, n_heads, seq, head_dim]
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let kv = PagedKv::new(&k, &v, &block_table, &lengths);
/// let out = paged::forward(&q, &kv, &config)?;
/// assert!((out[[0, 0, 0, 0]] - 8.0 / 3.0).abs() < 1e-6); // 1, 2 of page 1, 5 of page 0
/// assert!((out[[1, 0, 0, 0]] - 8.0).abs() < 1e-6); // 7, 9 of page 2
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: Kwon et al., vLLM, arXiv:2309.06180v1, section 4.1, with the sums of
/// [`flash::forward`](crate::flash::forward).
pub fn forward<F: Float, S: PageElement<F>>(
    q: &ArrayRef4<F>,
    kv: &PagedKv<'_, S>,
    config: &AttentionConfig,
) -> Result<Array4<F>, AttentionError> {
    let (whole, plans) = plans(q, kv, config)?;
    let mut out = zeros(whole.out_shape())?;
    attend(kv, &plans, sequences(q, &mut out, None));
    Ok(out)
}

/// [`forward`], and the log-sum-exp of the scores.
///
/// With it the result can be merged with attention to other keys, as a shared prefix
/// ([`merge::forward`](crate::merge::forward)), or with sinks ([`sinks::apply`](crate::sinks::apply)).
///
/// # Shapes
///
/// - `q`, `kv`: as in [`forward`]
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// A query that sees no key has `lse = -inf`.
///
/// # Errors
///
/// As [`forward`].
///
/// # Precision
///
/// As [`forward`].
///
/// # Example
///
/// ```
/// use llm_attention::paged::{self, PagedKv};
/// use llm_attention::{AttentionConfig, Mask, merge};
/// use ndarray::{Array4, array};
///
/// // A prefix that both sequences share is read once, as one sequence with the queries of both.
/// let k = Array4::<f32>::zeros((3, 1, 2, 1)); // [n_pages, n_kv_heads, page_size, head_dim]
/// let v = Array4::from_shape_vec((3, 1, 2, 1), vec![1.0, 3.0, 8.0, 0.0, 2.0, 6.0])?;
/// let q = Array4::ones((2, 1, 1, 1)); // [batch, n_heads, seq, head_dim]
/// let config = AttentionConfig::new(Mask::Full);
/// let (table, lengths) = (array![[0]], array![2]);
/// let prefix = PagedKv::new(&k, &v, &table, &lengths);
/// let both = q.view().permuted_axes([2, 1, 0, 3]);
/// let (out, lse) = paged::forward_with_lse(&both, &prefix, &config)?;
/// let (out, lse) = (out.permuted_axes([2, 1, 0, 3]), lse.permuted_axes([2, 1, 0]));
///
/// let (table, lengths) = (array![[1], [2]], array![1, 2]);
/// let own = PagedKv::new(&k, &v, &table, &lengths);
/// let (own, own_lse) = paged::forward_with_lse(&q, &own, &config)?;
/// let (out, _) = merge::forward(&[&out, &own], &[&lse, &own_lse])?;
/// assert!((out[[0, 0, 0, 0]] - 4.0).abs() < 1e-6); // 1, 3 and 8
/// assert!((out[[1, 0, 0, 0]] - 3.0).abs() < 1e-6); // 1, 3, 2 and 6
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: as [`forward`]; the shared prefix is that of Juravsky et al., Hydragen, arXiv:2402.05099v1.
pub fn forward_with_lse<F: Float, S: PageElement<F>>(
    q: &ArrayRef4<F>,
    kv: &PagedKv<'_, S>,
    config: &AttentionConfig,
) -> Result<(Array4<F>, Array3<F>), AttentionError> {
    let (whole, plans) = plans(q, kv, config)?;
    let mut out = zeros(whole.out_shape())?;
    let mut lse = zeros_lse(whole.lse_shape())?;
    attend(kv, &plans, sequences(q, &mut out, Some(&mut lse)));
    Ok((out, lse))
}

/// [`forward_with_lse`] with another number of queries for each sequence, packed into one array.
///
/// So decode steps of some sequences and pieces of the prompts of others are one call.
///
/// # Shapes
///
/// - `q`: `[total, n_heads, head_dim]`; sequence `b` has the queries from `cu_seqlens[b]` to before
///   `cu_seqlens[b + 1]`, which are its last tokens
/// - `cu_seqlens`: one number more than there are sequences, rising from 0 to `total`
/// - returns: `[total, n_heads, value_dim]` and `[n_heads, total]`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::CuSeqlens`] if the list does not rise from 0 to `total`,
/// and [`AttentionError::CuSeqlensLength`] if it is not for as many sequences as there are lengths.
///
/// # Precision
///
/// As [`forward`] of each sequence alone.
///
/// # Example
///
/// ```
/// use llm_attention::paged::{self, PagedKv};
/// use llm_attention::{AttentionConfig, CausalAlignment, Mask};
/// use ndarray::{Array3, Array4, array, s};
///
/// let k = Array4::<f32>::zeros((3, 1, 2, 1));
/// let v = Array4::from_shape_vec((3, 1, 2, 1), vec![5.0, 0.0, 1.0, 2.0, 7.0, 9.0])?;
/// let (block_table, lengths) = (array![[1, 0], [2, 0]], array![3, 2]);
/// let kv = PagedKv::new(&k, &v, &block_table, &lengths);
///
/// // One query of the first sequence, two of the second.
/// let q = Array3::ones((3, 1, 1)); // [total, n_heads, head_dim]
/// let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
/// let (out, _) = paged::forward_varlen(&q, &kv, &[0, 1, 3], &config)?;
/// let want = [8.0 / 3.0, 7.0, 8.0];
/// assert!(out.iter().zip(want).all(|(x, want)| (x - want).abs() < 1e-6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: as [`forward`]; the list is `cu_seqlens_q` of FlashAttention's `flash_attn_varlen_func`
/// (2.8), which takes a `block_table` too.
pub fn forward_varlen<F: Float, S: PageElement<F>>(
    q: &ArrayRef3<F>,
    kv: &PagedKv<'_, S>,
    cu_seqlens: &[usize],
    config: &AttentionConfig,
) -> Result<(Array3<F>, Array2<F>), AttentionError> {
    let (total, n_heads, head_dim) = q.dim();
    let n_rows = kv.lengths.len();
    let (_, n_kv_heads, _, value_dim) = kv.v.dim();
    check_pages::<F, S>(kv, [n_rows, n_heads, total, head_dim], config)?;
    let queries = varlen::ranges("cu_seqlens", cu_seqlens, total)?;
    if queries.len() != n_rows {
        return Err(AttentionError::CuSeqlensLength {
            queries: queries.len(),
            keys: n_rows,
        });
    }
    let plans = queries.iter().zip(kv.lengths);
    let plans: Result<Vec<_>, _> = plans
        .map(|(queries, &length)| {
            let shape = [1, n_heads, queries.len(), head_dim];
            Plan::of_sizes(shape, [n_kv_heads, length as usize, value_dim], config)
        })
        .collect();
    let plans = plans?;
    let mut out = zeros([1, total, n_heads, value_dim])?.remove_axis(Axis(0));
    memory::fits::<F>([1, 1, n_heads, total])?;
    let mut lse = Array2::zeros((n_heads, total));
    let mut sequences = Vec::with_capacity(n_rows);
    let (mut outs, mut lses) = (out.view_mut(), lse.view_mut());
    for queries in queries {
        let (out, next_outs) = outs.split_at(Axis(0), queries.len());
        let (lse, next_lses) = lses.split_at(Axis(1), queries.len());
        (outs, lses) = (next_outs, next_lses);
        let q = q.slice(s![queries, .., ..]);
        sequences.push(Sequence {
            q: q.permuted_axes([1, 0, 2]),
            out: out.permuted_axes([1, 0, 2]),
            lse: Some(lse),
        });
    }
    attend(kv, &plans, sequences);
    Ok((out, lse))
}

/// The sizes of the whole, checked, and those of each sequence.
fn plans<F: Float, S>(
    q: &ArrayRef4<F>,
    kv: &PagedKv<'_, S>,
    config: &AttentionConfig,
) -> Result<(Plan<'static, F>, Vec<Plan<'static, F>>), AttentionError> {
    let whole = check_pages(kv, q.dim().into(), config)?;
    let (_, n_heads, seq, head_dim) = q.dim();
    let (_, n_kv_heads, _, value_dim) = kv.v.dim();
    let plans = kv.lengths.iter().map(|&length| {
        let keys = [n_kv_heads, length as usize, value_dim];
        Plan::of_sizes([1, n_heads, seq, head_dim], keys, config)
    });
    let plans: Result<_, _> = plans.collect();
    Ok((whole, plans?))
}

/// The queries and results of each sequence.
fn sequences<'a, F>(
    q: &'a ArrayRef4<F>,
    out: &'a mut ArrayRef4<F>,
    lse: Option<&'a mut ArrayRef3<F>>,
) -> Vec<Sequence<'a, F>> {
    let mut lse = lse.map(|lse| lse.outer_iter_mut());
    let results = q.outer_iter().zip(out.outer_iter_mut());
    results
        .map(|(q, out)| Sequence {
            q,
            out,
            lse: lse.as_mut().and_then(Iterator::next),
        })
        .collect()
}

/// Refuses what [`forward`] says it does. The plan knows no number of keys.
fn check_pages<F: Float, S>(
    kv: &PagedKv<'_, S>,
    queries: [usize; 4],
    config: &AttentionConfig,
) -> Result<Plan<'static, F>, AttentionError> {
    let [batch, _, _, head_dim] = queries;
    let (n_pages, n_kv_heads, page_size, _) = kv.k.dim();
    let value_dim = kv.v.dim().3;
    check("k", [n_pages, n_kv_heads, page_size, head_dim], kv.k)?;
    check("v", [n_pages, n_kv_heads, page_size, value_dim], kv.v)?;
    if page_size == 0 {
        return Err(AttentionError::PageSize);
    }
    let expected = [n_pages, n_kv_heads, page_size];
    for (name, scales) in ["k_scales", "v_scales"]
        .into_iter()
        .zip(kv.scales.iter().flatten())
    {
        let got = scales.dim().into();
        if got != expected {
            return Err(AttentionError::ScalesShape {
                name,
                expected,
                got,
            });
        }
    }
    let (table_rows, max_pages) = kv.block_table.dim();
    for (name, got) in [("block_table", table_rows), ("lengths", kv.lengths.len())] {
        if got != batch {
            return Err(AttentionError::Rows { name, batch, got });
        }
    }
    let plan = Plan::of_sizes(queries, [n_kv_heads, 0, value_dim], config)?;
    // Rows that repeat one need no memory, but are walked through.
    memory::fits::<Plan<'static, F>>([batch, 1, 1, 1])?;
    let max = max_pages.saturating_mul(page_size);
    for (row, (&length, table)) in kv
        .lengths
        .iter()
        .zip(kv.block_table.outer_iter())
        .enumerate()
    {
        if length as usize > max {
            return Err(AttentionError::Length {
                row,
                got: length,
                max_pages,
                page_size,
            });
        }
        let needed = (length as usize).div_ceil(page_size);
        let wrong = |&(_, page): &(usize, &u32)| *page as usize >= n_pages;
        if let Some((index, &got)) = table.iter().take(needed).enumerate().find(wrong) {
            return Err(AttentionError::Page {
                row,
                index,
                got,
                n_pages,
            });
        }
    }
    Ok(plan)
}
