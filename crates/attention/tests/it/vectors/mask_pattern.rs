//! The files of `attention.mask_pattern`: which query sees which key, with padding and in packed rows too.

use std::num::NonZero;

use llm_attention::{
    AttentionConfig, CausalAlignment, Mask, MaskPolarity, ScoreMods, flash, reference, score_mods,
    varlen,
};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, Ix1, Ix2, s};

/// The mask that the reference has, and the one that can be seen in what attention returns.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let &[batch, seq, kv_seq] = case.output_shape("mask").unwrap_or_default() else {
        return Err(case.unsupported("no mask of three axes"));
    };
    if case.has_input("seq") {
        case.input_i64::<Ix1>("seq")?; // the shape of the mask says it too
    }
    let (alignment, offset) = match case.param_str("alignment")? {
        "top_left" => (CausalAlignment::TopLeft, 0),
        "bottom_right" => (CausalAlignment::BottomRight, kv_seq.saturating_sub(seq)),
        _ => return Err(case.unknown_param("alignment", "\"top_left\" or \"bottom_right\"")),
    };
    if case.has_param("query_offset") && case.param_usize("query_offset")? != offset {
        return Err(case.unsupported("no queries but the first or the last of the keys"));
    }
    if tier == Tier::Gpu {
        return Err(case.unsupported("seen in the masks of the other files"));
    }
    let mask = mask(case, alignment)?;
    let sees = if case.has_input("position_ids") {
        packed_rows(case, tier, mask)?
    } else if case.has_input("left_padding") {
        left_padding(case, tier, mask, [batch, seq, kv_seq])?
    } else if batch == 1 {
        one(tier, mask, [seq, kv_seq])?.insert_axis(Axis(0))
    } else {
        return Err(case.unsupported("one mask for all sequences only"));
    };
    case.expect_bool("mask", &sees)
}

/// From `kind` and its size.
fn mask(case: &Case, alignment: CausalAlignment) -> Result<Mask, VectorError> {
    match case.param_str("kind")? {
        "causal" => Ok(Mask::Causal(alignment)),
        "packed_causal" if case.has_input("position_ids") => Ok(Mask::Causal(alignment)),
        "sliding_window_causal" => {
            if !matches!(case.param_str("meaning"), Ok("W keys including self")) {
                return Err(case.unknown_param("meaning", "\"W keys including self\""));
            }
            let window = NonZero::new(case.param_usize("sliding_window")?);
            let window =
                window.ok_or_else(|| case.unknown_param("sliding_window", "at least 1"))?;
            Ok(Mask::last_keys(window, alignment))
        }
        "chunked_causal" => Ok(Mask::ChunkedCausal {
            chunk: case.param_usize("chunk")?,
            alignment,
        }),
        _ => Err(case.unsupported("no mask of this kind")),
    }
}

/// Tiles that cut these small cases.
fn config(mask: Mask) -> AttentionConfig {
    AttentionConfig::new(mask).with_tile(2, 3)
}

/// Where a value for each key shows up under equal scores: there the key is seen.
fn seen(out: ArrayView2<'_, f32>) -> Array2<bool> {
    out.mapv(|weight| weight > 0.0)
}

fn one(tier: Tier, mask: Mask, [seq, kv_seq]: [usize; 2]) -> Result<Array2<bool>, VectorError> {
    if tier == Tier::Reference {
        return Ok(reference::attention::mask_matrix(mask, seq, kv_seq));
    }
    let q = Array4::<f32>::zeros((1, 1, seq, 1));
    let k = Array4::zeros((1, 1, kv_seq, 1));
    let v = Array2::eye(kv_seq);
    let v = v.insert_axis(Axis(0)).insert_axis(Axis(0));
    let out = flash::forward(&q, &k, &v, &config(mask)).map_err(VectorError::op)?;
    Ok(seen(out.slice(s![0, 0, .., ..])))
}

/// Sequences one behind the other: which query of the row sees which key.
fn packed(
    tier: Tier,
    mask: Mask,
    cu_seqlens: &[usize],
    cu_kv_seqlens: &[usize],
) -> Result<Array2<bool>, VectorError> {
    if tier == Tier::Reference {
        let config = AttentionConfig::new(mask);
        return Ok(reference::varlen::block_mask(
            &config,
            cu_seqlens,
            cu_kv_seqlens,
        ));
    }
    let (total, kv_total) = (
        cu_seqlens[cu_seqlens.len() - 1],
        cu_kv_seqlens[cu_kv_seqlens.len() - 1],
    );
    let (q, k) = (
        Array3::<f32>::zeros((total, 1, 1)),
        Array3::zeros((kv_total, 1, 1)),
    );
    let v = Array2::eye(kv_total).insert_axis(Axis(1));
    let out = varlen::forward(&q, &k, &v, cu_seqlens, cu_kv_seqlens, &config(mask))
        .map_err(VectorError::op)?;
    Ok(seen(out.index_axis(Axis(1), 0)))
}

/// A position that does not follow the one before it begins a new sequence.
fn packed_rows(case: &Case, tier: Tier, mask: Mask) -> Result<Array3<bool>, VectorError> {
    let positions = case.input_i64::<Ix2>("position_ids")?;
    let (batch, seq) = positions.dim();
    let mut sees = Array3::from_elem((batch, seq, seq), false);
    let mut indices = Array2::<i64>::zeros((batch, seq));
    for (b, row) in positions.outer_iter().enumerate() {
        let mut starts = vec![0];
        for i in 1..seq {
            if row[i] != row[i - 1] + 1 {
                starts.push(i);
            }
            indices[[b, i]] = starts.len() as i64 - 1;
        }
        starts.push(seq);
        let row = packed(tier, mask, &starts, &starts)?;
        sees.index_axis_mut(Axis(0), b).assign(&row);
    }
    if case.output_shape("sequence_index").is_some() {
        case.expect_int("sequence_index", &indices)?;
    }
    Ok(sees)
}

/// The first keys of each sequence are padding: what is behind them, packed, is as if they were not there.
fn left_padding(
    case: &Case,
    tier: Tier,
    mask: Mask,
    [batch, seq, kv_seq]: [usize; 3],
) -> Result<Array3<bool>, VectorError> {
    let padding = case.input_i64::<Ix1>("left_padding")?;
    if padding.len() != batch || padding.iter().any(|p| !(0..=kv_seq as i64).contains(p)) {
        return Err(
            case.unsupported("no padding but of the keys that there are, for each sequence")
        );
    }
    let padding = padding.mapv(|p| p as usize);
    let (mut starts, mut kv_starts) = (vec![0], vec![0]);
    for (b, &short) in padding.iter().enumerate() {
        starts.push(starts[b] + seq.min(kv_seq - short));
        kv_starts.push(kv_starts[b] + kv_seq - short);
    }
    let all = packed(tier, mask, &starts, &kv_starts)?;
    let mut sees = Array3::from_elem((batch, seq, kv_seq), false);
    for (b, mut sees) in sees.outer_iter_mut().enumerate() {
        let (q, k) = (starts[b]..starts[b + 1], kv_starts[b]..kv_starts[b + 1]);
        let first = seq - q.len();
        sees.slice_mut(s![first.., padding[b]..])
            .assign(&all.slice(s![q, k]));
    }
    if tier == Tier::Cpu && !matches!(mask, Mask::ChunkedCausal { .. }) {
        // The same by a mask of the keys; chunks would count from key 0.
        let keys = Array4::from_shape_fn((batch, 1, 1, kv_seq), |(b, .., j)| j >= padding[b]);
        let mods = ScoreMods::new().with_mask(&keys, MaskPolarity::TrueAttends);
        let q = Array4::<f32>::zeros((batch, 1, seq, 1));
        let k = Array4::zeros((batch, 1, kv_seq, 1));
        let eye = Array2::eye(kv_seq);
        let v = eye.broadcast((batch, 1, kv_seq, kv_seq)).unwrap();
        let (out, _) =
            score_mods::forward(&q, &k, &v, &mods, &config(mask)).map_err(VectorError::op)?;
        for (out, sees) in out.outer_iter().zip(sees.outer_iter()) {
            assert_eq!(seen(out.index_axis(Axis(0), 0)), sees);
        }
    }
    Ok(sees)
}
