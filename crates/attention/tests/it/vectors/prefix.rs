//! Vector files of `attention.prefix_kv`.

use llm_attention::{AttentionConfig, CausalAlignment, Mask, prefix, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Ix3, Ix4};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    match tier {
        Tier::Reference => {
            let (q, k) = (case.input_f64::<Ix4>("q")?, case.input_f64::<Ix4>("k")?);
            let (v, dout) = (case.input_f64::<Ix4>("v")?, case.input_f64::<Ix4>("dout")?);
            let pk = case.input_f64::<Ix3>("prefix_k")?;
            let pv = case.input_f64::<Ix3>("prefix_v")?;
            let (out, _) = reference::prefix::forward(&q, &k, &v, &pk, &pv, &config)
                .map_err(VectorError::op)?;
            case.expect("out", &out)?;
            let got = reference::prefix::backward(&dout, &q, &k, &v, &pk, &pv, &config)
                .map_err(VectorError::op)?;
            case.expect("dq", &got.dq)?;
            case.expect("dk", &got.dk)?;
            case.expect("dv", &got.dv)?;
            case.expect("dprefix_k", &got.dprefix_k)?;
            case.expect("dprefix_v", &got.dprefix_v)
        }
        Tier::Cpu => {
            let (q, k) = (case.input_f32::<Ix4>("q")?, case.input_f32::<Ix4>("k")?);
            let (v, dout) = (case.input_f32::<Ix4>("v")?, case.input_f32::<Ix4>("dout")?);
            let pk = case.input_f32::<Ix3>("prefix_k")?;
            let pv = case.input_f32::<Ix3>("prefix_v")?;
            for config in [config, config.with_tile(3, 2)] {
                let (out, lse) =
                    prefix::forward(&q, &k, &v, &pk, &pv, &config).map_err(VectorError::op)?;
                case.expect("out", &out)?;
                let got = prefix::backward(&dout, &q, &k, &v, &pk, &pv, &out, &lse, &config)
                    .map_err(VectorError::op)?;
                case.expect("dq", &got.dq)?;
                case.expect("dk", &got.dk)?;
                case.expect("dv", &got.dv)?;
                case.expect("dprefix_k", &got.dprefix_k)?;
                case.expect("dprefix_v", &got.dprefix_v)?;
            }
            Ok(())
        }
        Tier::Gpu => Err(case.unsupported("no kernel yet")),
    }
}

/// Mask and scale. The sizes say what the shapes say too.
fn config(case: &Case) -> Result<AttentionConfig, VectorError> {
    for (param, name, axis) in [
        ("heads", "q", 1),
        ("kv_heads", "k", 1),
        ("prefix", "prefix_k", 1),
    ] {
        let size = case.param_usize(param)?;
        if case.input_shape(name).unwrap_or_default().get(axis) != Some(&size) {
            return Err(case.unknown_param(param, "what the shapes say"));
        }
    }
    let mask = match case.param_opt_str("causal")? {
        None => Mask::Full,
        Some("bottom_right") => Mask::Causal(CausalAlignment::BottomRight),
        Some(_) => return Err(case.unknown_param("causal", "null or \"bottom_right\"")),
    };
    let config = AttentionConfig::new(mask);
    let scale = case.param_opt_f64("scale")?;
    Ok(scale.map_or(config, |scale| config.with_scale(scale)))
}
