//! Vector files of `attention.mla.core`.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, mla, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Ix2, Ix4};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    match tier {
        Tier::Reference => {
            let (q, c) = (
                case.input_f64::<Ix4>("q")?,
                case.input_f64::<Ix4>("kv_latent")?,
            );
            let (r, w) = (
                case.input_f64::<Ix4>("k_rope")?,
                case.input_f64::<Ix2>("kv_b_proj")?,
            );
            let dout = case.input_f64::<Ix4>("dout")?;
            let (out, _) =
                reference::mla::forward(&q, &c, &r, &w, &config).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            let got = reference::mla::backward(&dout, &q, &c, &r, &w, &config)
                .map_err(VectorError::op)?;
            case.expect("dq", &got.dq)?;
            case.expect("dkv_latent", &got.dkv_latent)?;
            case.expect("dk_rope", &got.dk_rope)?;
            case.expect("dkv_b_proj", &got.dkv_b_proj)
        }
        Tier::Cpu => {
            let (q, c) = (
                case.input_f32::<Ix4>("q")?,
                case.input_f32::<Ix4>("kv_latent")?,
            );
            let (r, w) = (
                case.input_f32::<Ix4>("k_rope")?,
                case.input_f32::<Ix2>("kv_b_proj")?,
            );
            let dout = case.input_f32::<Ix4>("dout")?;
            for config in [config, config.with_tile(3, 2)] {
                let naive = mla::forward_naive(&q, &c, &r, &w, &config).map_err(VectorError::op)?;
                let absorbed =
                    mla::forward_absorbed(&q, &c, &r, &w, &config).map_err(VectorError::op)?;
                case.expect("out", &naive.0)?;
                case.expect("out", &absorbed.0)?;
                for got in [
                    mla::backward_naive(&dout, &q, &c, &r, &w, &naive.0, &naive.1, &config),
                    mla::backward_absorbed(
                        &dout,
                        &q,
                        &c,
                        &r,
                        &w,
                        &absorbed.0,
                        &absorbed.1,
                        &config,
                    ),
                ] {
                    let got = got.map_err(VectorError::op)?;
                    case.expect("dq", &got.dq)?;
                    case.expect("dkv_latent", &got.dkv_latent)?;
                    case.expect("dk_rope", &got.dk_rope)?;
                    case.expect("dkv_b_proj", &got.dkv_b_proj)?;
                }
            }
            Ok(())
        }
        Tier::Gpu => Err(case.unsupported("no kernel yet")),
    }
}

/// Mask and scale. The sizes say what the shapes say too.
fn config(case: &Case) -> Result<AttentionConfig, VectorError> {
    let size = |name: &str| case.param_usize(name);
    let (heads, rank) = (size("heads")?, size("kv_lora_rank")?);
    let (nope, rope) = (size("qk_nope_head_dim")?, size("qk_rope_head_dim")?);
    let value = size("v_head_dim")?;
    let shape = |name: &str| case.input_shape(name).unwrap_or_default();
    if shape("q").get(1) != Some(&heads) || shape("q").last() != Some(&(nope + rope)) {
        return Err(case.unknown_param("heads", "what the shape of q says"));
    }
    if shape("kv_b_proj") != [heads * (nope + value), rank] {
        return Err(case.unknown_param("v_head_dim", "what the shape of kv_b_proj says"));
    }
    let layout = "[heads*(nope+v), kv_lora_rank], per head nope rows then v rows";
    if case.param_str("kv_b_proj")? != layout {
        return Err(case.unknown_param("kv_b_proj", layout));
    }
    if case.param_str("causal")? != "bottom_right" {
        return Err(case.unknown_param("causal", "\"bottom_right\""));
    }
    // What happened before: the arrays of a core are normalized and rotated.
    case.param_f64("norm_eps")?;
    case.param_bool("rope_interleave")?;
    case.param_value("rope_parameters")?;
    case.param_usize("max_position_embeddings")?;
    case.param_opt_f64("q_lora_rank")?;
    let mask = Mask::Causal(CausalAlignment::BottomRight);
    Ok(AttentionConfig::new(mask).with_scale(case.param_f64("softmax_scale")?))
}
