//! Softmax attention as a textbook writes it: one matrix of scores for each head.

use ndarray::{Array1, Array2, Array3, Array4, ArrayRef1, ArrayRef4, ArrayView2, Axis, s};

use super::score_mods::score_matrix;
use crate::{AttentionConfig, AttentionError, CausalAlignment, Gradients, Mask, ScoreMods};

/// Which pairs of query and key take part: `[seq, kv_seq]`.
///
/// With `p = i` (top left) or `p = i + kv_seq - seq` (bottom right):
///
/// ```text
/// full            all
/// causal          j <= p
/// window          p - left <= j <= p + right
/// chunked causal  j <= p, and floor(j / chunk) = floor(p / chunk)
/// prefix LM       j < prefix or j <= p
/// ```
///
/// # Panics
///
/// If a chunk is 0.
#[must_use]
pub fn mask_matrix(mask: Mask, seq: usize, kv_seq: usize) -> Array2<bool> {
    // Wide enough for the sum of any two lengths, and for positions before the first key.
    let wide = |x: usize| x as i128;
    let position = |i: usize, alignment| match alignment {
        CausalAlignment::TopLeft => wide(i),
        CausalAlignment::BottomRight => wide(i) + wide(kv_seq) - wide(seq),
    };
    Array2::from_shape_fn((seq, kv_seq), |(i, j)| match mask {
        Mask::Full => true,
        Mask::Causal(alignment) => wide(j) <= position(i, alignment),
        Mask::Window {
            left,
            right,
            alignment,
        } => {
            let distance = wide(j) - position(i, alignment);
            left.is_none_or(|left| -wide(left) <= distance)
                && right.is_none_or(|right| distance <= wide(right))
        }
        Mask::ChunkedCausal { chunk, alignment } => {
            let p = position(i, alignment);
            wide(j) <= p && p.div_euclid(wide(chunk)) == wide(j).div_euclid(wide(chunk))
        }
        Mask::PrefixLm { prefix, alignment } => j < prefix || wide(j) <= position(i, alignment),
    })
}

/// `softmax(scale Q K^T + mask) V` for each head, and the log-sum-exp of its rows.
///
/// With a softcap `c` the scores `s = scale Q K^T` are replaced by `c tanh(s / c)` before the mask.
///
/// # Shapes
///
/// - `q`: `[batch, n_heads, seq, head_dim]`
/// - `k`: `[batch, n_kv_heads, kv_seq, head_dim]`
/// - `v`: `[batch, n_kv_heads, kv_seq, value_dim]`
/// - returns: `[batch, n_heads, seq, value_dim]` and `[batch, n_heads, seq]`
///
/// A query that sees no key gets zeros and `-inf`.
///
/// # Errors
///
/// As [`flash::forward`](crate::flash::forward), but tiles do not matter.
///
/// Source: Vaswani et al., arXiv:1706.03762v7, equation 1; grouped queries: Ainslie et
/// al., arXiv:2305.13245v3, section 2.2.
pub fn forward(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    config: &AttentionConfig,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let sees = |seq, kv_seq| mask_matrix(config.mask, seq, kv_seq);
    attend([q, k, v], config, sees, &Extras::default())
}

/// The gradients of [`forward`], by the chain rule on whole matrices.
///
/// ```text
/// dV = P^T dO
/// dP = dO V^T
/// dS = P * (dP - rowsum(P * dP))      (the Jacobian of softmax)
/// dS = dS * (1 - (S / softcap)^2)     (with a softcap; S are the bent scores)
/// dQ = scale dS K,   dK = scale dS^T Q
/// ```
///
/// # Shapes
///
/// - `dout`: `[batch, n_heads, seq, value_dim]`
/// - returns: `dq` shaped as `q`, `dk` as `k`, `dv` as `v`
///
/// # Errors
///
/// As [`forward`]; also [`AttentionError::Shape`] if `dout` has another shape.
///
/// Source: Dao et al., FlashAttention, arXiv:2205.14135v2, appendix B.2.
pub fn backward(
    dout: &ArrayRef4<f64>,
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    config: &AttentionConfig,
) -> Result<Gradients<f64>, AttentionError> {
    let sees = |seq, kv_seq| mask_matrix(config.mask, seq, kv_seq);
    let all = gradients(dout, [q, k, v], config, sees, &Extras::default())?;
    Ok(all.inputs)
}

/// What else takes part in a softmax.
#[derive(Default)]
pub(super) struct Extras<'a> {
    /// A score more for each head, without a value.
    pub(super) sinks: Option<&'a ArrayRef1<f64>>,
    /// Slopes, bias and mask. What else ALiBi and dropout need is below.
    pub(super) mods: ScoreMods<'a, f64>,
    /// What the slopes of ALiBi are multiplied with: `[seq, kv_seq]`.
    pub(super) distances: Option<Array2<f64>>,
    /// What dropout multiplies the weights with: `[batch, n_heads, seq, kv_seq]`.
    pub(super) factors: Option<Array4<f64>>,
}

impl Extras<'_> {
    /// `p` times the factors of a head.
    fn drop(&self, [b, h]: [usize; 2], p: &Array2<f64>) -> Array2<f64> {
        match &self.factors {
            Some(factors) => p * &factors.slice(s![b, h, .., ..]),
            None => p.clone(),
        }
    }
}

/// Every gradient that there is.
pub(super) struct AllGradients {
    pub(super) inputs: Gradients<f64>,
    /// Of the sinks: zeros if there are none.
    pub(super) dsinks: Array1<f64>,
    /// Of the scores, after all that is added to them: `[batch, n_heads, seq, kv_seq]`.
    pub(super) dscores: Array4<f64>,
}

/// [`forward`] under any mask, `[seq, kv_seq]` for these lengths, with extras.
pub(super) fn attend(
    [q, k, v]: [&ArrayRef4<f64>; 3],
    config: &AttentionConfig,
    sees: impl FnOnce(usize, usize) -> Array2<bool>,
    extras: &Extras<'_>,
) -> Result<(Array4<f64>, Array3<f64>), AttentionError> {
    let (group, scale) = check(q, k, v, config, extras.sinks)?;
    let (batch, n_heads, seq, _) = q.dim();
    let sees = sees(seq, k.dim().2);
    let mut out = Array4::zeros((batch, n_heads, seq, v.dim().3));
    let mut lse = Array3::zeros((batch, n_heads, seq));
    // ANCHOR: heads
    for b in 0..batch {
        for h in 0..n_heads {
            let q = q.slice(s![b, h, .., ..]);
            let k = k.slice(s![b, h / group, .., ..]);
            let v = v.slice(s![b, h / group, .., ..]);
            let bent = bent_scores(&q, &k, scale, config.softcap);
            let scores = score_matrix(bent, &sees, extras, [b, h]);
            let (p, row_lse) = softmax(scores, extras.sinks.map(|sinks| sinks[h]));
            let kept = extras.drop([b, h], &p);
            out.slice_mut(s![b, h, .., ..]).assign(&kept.dot(&v));
            lse.slice_mut(s![b, h, ..]).assign(&row_lse);
        }
    }
    // ANCHOR_END: heads
    Ok((out, lse))
}

/// [`backward`] of [`attend`].
pub(super) fn gradients(
    dout: &ArrayRef4<f64>,
    [q, k, v]: [&ArrayRef4<f64>; 3],
    config: &AttentionConfig,
    sees: impl FnOnce(usize, usize) -> Array2<bool>,
    extras: &Extras<'_>,
) -> Result<AllGradients, AttentionError> {
    let (group, scale) = check(q, k, v, config, extras.sinks)?;
    let (batch, n_heads, seq, _) = q.dim();
    let kv_seq = k.dim().2;
    expect_shape("dout", [batch, n_heads, seq, v.dim().3], dout)?;
    let sees = sees(seq, kv_seq);
    let mut dq = Array4::zeros(q.dim());
    let mut dk = Array4::zeros(k.dim());
    let mut dv = Array4::zeros(v.dim());
    let mut dsinks = Array1::zeros(n_heads);
    let mut dscores = Array4::zeros((batch, n_heads, seq, kv_seq));
    for b in 0..batch {
        for h in 0..n_heads {
            let q = q.slice(s![b, h, .., ..]);
            let k = k.slice(s![b, h / group, .., ..]);
            let v = v.slice(s![b, h / group, .., ..]);
            let dout = dout.slice(s![b, h, .., ..]);
            let bent = bent_scores(&q, &k, scale, config.softcap);
            let slope = bent.mapv(|s| config.softcap.map_or(1.0, |cap| 1.0 - (s / cap).powi(2)));
            let scores = score_matrix(bent, &sees, extras, [b, h]);
            let (p, _) = softmax(scores, extras.sinks.map(|sinks| sinks[h]));
            let dp = extras.drop([b, h], &dout.dot(&v.t()));
            let inner = (&p * &dp).sum_axis(Axis(1)).insert_axis(Axis(1));
            // The sink has dP = 0, and the weight that the keys leave.
            let left = 1.0 - p.sum_axis(Axis(1)).insert_axis(Axis(1));
            dsinks[h] -= (left * &inner).sum();
            let dscore = &p * &(&dp - &inner);
            let ds = scale * &dscore * slope;
            dscores.slice_mut(s![b, h, .., ..]).assign(&dscore);
            let mut dq = dq.slice_mut(s![b, h, .., ..]);
            dq += &ds.dot(&k);
            let mut dk = dk.slice_mut(s![b, h / group, .., ..]);
            dk += &ds.t().dot(&q);
            let mut dv = dv.slice_mut(s![b, h / group, .., ..]);
            dv += &extras.drop([b, h], &p).t().dot(&dout);
        }
    }
    Ok(AllGradients {
        inputs: Gradients { dq, dk, dv },
        dsinks,
        dscores,
    })
}

/// `scale Q K^T`, bent below the softcap: `[seq, kv_seq]`.
fn bent_scores(
    q: &ArrayView2<'_, f64>,
    k: &ArrayView2<'_, f64>,
    scale: f64,
    softcap: Option<f64>,
) -> Array2<f64> {
    let scores = scale * q.dot(&k.t());
    match softcap {
        Some(cap) => scores.mapv(|s| cap * (s / cap).tanh()),
        None => scores,
    }
}

// ANCHOR: softmax
/// The softmax of each row and the sink, without the sink's weight, and the log-sum-exp of both.
///
/// Zeros for a row of `-inf` only.
fn softmax(scores: Array2<f64>, sink: Option<f64>) -> (Array2<f64>, Array1<f64>) {
    let sink = sink.unwrap_or(f64::NEG_INFINITY);
    let mut p = scores;
    let mut lse = Array1::zeros(p.nrows());
    for (mut row, lse) in p.outer_iter_mut().zip(&mut lse) {
        let max = row.fold(sink, |max, &x| max.max(x));
        if max == f64::NEG_INFINITY {
            row.fill(0.0);
            *lse = max;
            continue;
        }
        row.mapv_inplace(|x| (x - max).exp());
        let total = row.sum() + (sink - max).exp();
        row /= total;
        *lse = max + total.ln();
    }
    (p, lse)
}
// ANCHOR_END: softmax

/// The queries per key-value head, and the scale.
fn check(
    q: &ArrayRef4<f64>,
    k: &ArrayRef4<f64>,
    v: &ArrayRef4<f64>,
    config: &AttentionConfig,
    sinks: Option<&ArrayRef1<f64>>,
) -> Result<(usize, f64), AttentionError> {
    let (batch, n_heads, _, head_dim) = q.dim();
    let (_, n_kv_heads, kv_seq, _) = k.dim();
    expect_shape("k", [batch, n_kv_heads, kv_seq, head_dim], k)?;
    expect_shape("v", [batch, n_kv_heads, kv_seq, v.dim().3], v)?;
    let even = match n_kv_heads {
        0 => n_heads == 0,
        _ => n_heads % n_kv_heads == 0,
    };
    if !even {
        return Err(AttentionError::Heads {
            n_heads,
            n_kv_heads,
        });
    }
    if let Some(got) = sinks.map(|sinks| sinks.len()).filter(|got| *got != n_heads) {
        return Err(AttentionError::Sinks { n_heads, got });
    }
    let scale = match config.scale {
        Some(scale) => scale,
        None if head_dim == 0 => 1.0, // all scores are zero anyway
        None => 1.0 / (head_dim as f64).sqrt(),
    };
    if !scale.is_finite() {
        return Err(AttentionError::Scale { got: scale });
    }
    if let Some(got) = config
        .softcap
        .filter(|cap| !(cap.is_finite() && *cap > 0.0))
    {
        return Err(AttentionError::Softcap { got });
    }
    if let Mask::ChunkedCausal { chunk: 0, .. } = config.mask {
        return Err(AttentionError::Chunk);
    }
    Ok((n_heads / n_kv_heads.max(1), scale))
}

pub(super) fn expect_shape(
    name: &'static str,
    expected: [usize; 4],
    array: &ArrayRef4<f64>,
) -> Result<(), AttentionError> {
    let got = array.dim().into();
    if got == expected {
        return Ok(());
    }
    Err(AttentionError::Shape {
        name,
        expected,
        got,
    })
}
