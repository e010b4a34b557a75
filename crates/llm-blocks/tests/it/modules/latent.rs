//! Vector files of `attention.mla.module`: latent attention from the blocks.

use llm_blocks::attention::{AttentionConfig, CausalAlignment, Mask};
use llm_blocks::ndarray::{Axis, Ix1, Ix2, Ix3, concatenate, s};
use llm_blocks::numerics::testing::vectors::{Case, VectorError};
use llm_blocks::posenc::rope::RopePairing;

use super::blocks::{
    Blocks, Rotation, heads, linear, linear_backward, positions, sequences, side_by_side, tokens,
};
use super::frequencies;

/// Runs one case, in all forms of the tier.
pub(super) fn run<B: Blocks>(case: &Case) -> Result<(), VectorError> {
    let (n_heads, rank) = (
        case.param_usize("heads")?,
        case.param_usize("kv_lora_rank")?,
    );
    let nope = case.param_usize("qk_nope_head_dim")?;
    let rotary_dim = case.param_usize("qk_rope_head_dim")?;
    let value_dim = case.param_usize("v_head_dim")?;
    let eps = case.param_f64("norm_eps")?;
    if case.param_str("causal")? != "bottom_right" {
        return Err(case.unknown_param("causal", "\"bottom_right\""));
    }
    let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight))
        .with_scale(case.param_f64("softmax_scale")?);
    let rotation = Rotation {
        frequencies: frequencies(case, rotary_dim)?,
        positions: positions(case)?,
        pairing: if case.param_bool("rope_interleave")? {
            RopePairing::ReadInterleavedWriteHalfSplit
        } else {
            RopePairing::HalfSplit
        },
    };
    let matrix = |name: &str| B::input::<Ix2>(case, &format!("w.{name}"));
    let vector = |name: &str| B::input::<Ix1>(case, &format!("w.{name}"));
    let hidden = B::input::<Ix3>(case, "hidden")?;
    let dout = tokens(&B::input::<Ix3>(case, "dout")?);
    let (batch, x) = (hidden.dim().0, tokens(&hidden));

    // Queries, over a low rank or directly.
    let low_rank = case.param_opt_usize("q_lora_rank")?.is_some();
    let (q_weight, q_input, q_low) = if low_rank {
        let low = linear::<B>(&x, &matrix("q_a_proj")?);
        let normed = B::norm(&low, &vector("q_a_layernorm")?, eps);
        (matrix("q_b_proj")?, normed, Some(low))
    } else {
        (matrix("q_proj")?, x.clone(), None)
    };
    let mut q = heads(&linear::<B>(&q_input, &q_weight), batch, n_heads);
    let rotated = B::rotate(&q.slice(s![.., .., .., nope..]), &rotation);
    q.slice_mut(s![.., .., .., nope..]).assign(&rotated);

    // The latent and the one rotated key.
    let (kv_a, kv_norm) = (matrix("kv_a_proj_with_mqa")?, vector("kv_a_layernorm")?);
    let kv_b = matrix("kv_b_proj")?;
    assert_eq!(kv_b.dim(), (n_heads * (nope + value_dim), rank));
    let kv = linear::<B>(&x, &kv_a);
    let compressed = kv.slice(s![.., ..rank]).to_owned();
    let latent = heads(&B::norm(&compressed, &kv_norm, eps), batch, 1);
    let k_rope = B::rotate(&heads(&kv.slice(s![.., rank..]), batch, 1), &rotation);

    let o_proj = matrix("o_proj")?;
    for form in 0..B::FORMS {
        let arrays: (&_, &_, &_, &_) = (&*q, &*latent, &*k_rope, &*kv_b);
        let saved = B::latent(form, arrays, &config).map_err(VectorError::op)?;
        let attended = side_by_side(&saved.0);
        let out = linear::<B>(&attended, &o_proj);
        case.expect("out", &sequences(&out, batch))?;

        let (dattended, do_proj) = linear_backward::<B>(&dout, &attended, &o_proj);
        case.expect("dw.o_proj", &do_proj)?;
        let dattended = heads(&dattended, batch, n_heads);
        let got = B::latent_backward(form, &dattended, arrays, &saved, &config)
            .map_err(VectorError::op)?;
        case.expect("dw.kv_b_proj", &got.dkv_b_proj)?;

        let mut dq = got.dq;
        let turned = B::rotate_back(&dq.slice(s![.., .., .., nope..]), &rotation);
        dq.slice_mut(s![.., .., .., nope..]).assign(&turned);
        let (dq_input, dq_weight) = linear_backward::<B>(&side_by_side(&dq), &q_input, &q_weight);
        let mut dx = if let Some(low) = &q_low {
            case.expect("dw.q_b_proj", &dq_weight)?;
            let weight = vector("q_a_layernorm")?;
            let (dlow, dnorm) = B::norm_backward(&dq_input, low, &weight, eps);
            case.expect("dw.q_a_layernorm", &dnorm)?;
            let (dx, dq_a) = linear_backward::<B>(&dlow, &x, &matrix("q_a_proj")?);
            case.expect("dw.q_a_proj", &dq_a)?;
            dx
        } else {
            case.expect("dw.q_proj", &dq_weight)?;
            dq_input
        };

        let dlatent = side_by_side(&got.dkv_latent);
        let (dcompressed, dkv_norm) = B::norm_backward(&dlatent, &compressed, &kv_norm, eps);
        case.expect("dw.kv_a_layernorm", &dkv_norm)?;
        let drope = side_by_side(&B::rotate_back(&got.dk_rope, &rotation));
        let dkv = concatenate![Axis(1), dcompressed, drope];
        let (dx_kv, dkv_a) = linear_backward::<B>(&dkv, &x, &kv_a);
        case.expect("dw.kv_a_proj_with_mqa", &dkv_a)?;
        dx += &dx_kv;
        case.expect("dhidden", &sequences(&dx, batch))?;
    }
    Ok(())
}
