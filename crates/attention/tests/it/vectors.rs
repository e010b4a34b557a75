//! The vector files, on the reference and on the CPU.

mod convert;
#[cfg(feature = "gpu")]
mod device;
mod mask_pattern;
mod merge;
mod mla;
mod paged;
mod prefix;
mod score_mods;
mod varlen_alibi;

#[cfg(feature = "gpu")]
use llm_attention::ScoreMods;
use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash, reference, sinks, varlen};
use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use ndarray::{Ix1, Ix3, Ix4};

#[test]
fn vectors_agree() {
    let files = VectorRun::new(
        "attention",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"),
    )
    // These need projections, norms and positions: tests of `llm-blocks`.
    .with_elsewhere(&["attention.mla.module", "attention.differential.module"]);
    #[cfg(feature = "gpu")]
    let files = files.with_tiers(&device::tiers());
    run_crate(&files, |case, tier| match case.op() {
        "attention.convert.mha_to_gqa" => convert::run(case, tier),
        "attention.mla.core" => mla::run(case, tier),
        "attention.merge_lse" => merge::run(case, tier),
        "attention.paged" => paged::run(case, tier),
        "attention.sdpa_storage" => paged::storage(case, tier),
        "attention.mask_pattern" => mask_pattern::run(case, tier),
        "attention.alibi" => score_mods::alibi(case, tier, config(case)?),
        "attention.sdpa_mask" => score_mods::mask(case, tier),
        "attention.prefix_kv" => prefix::run(case, tier),
        "attention.sinks" => sinks(case, tier),
        "attention.varlen" => varlen(case, tier),
        "attention.varlen_alibi" => varlen_alibi::run(case, tier, config(case)?),
        "attention.sdpa" | "attention.softcap" => attention(case, tier),
        _ => Err(case.unknown_op()),
    });
}

fn sinks(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    match tier {
        Tier::Reference => {
            let (q, k) = (case.input_f64::<Ix4>("q")?, case.input_f64::<Ix4>("k")?);
            let (v, dout) = (case.input_f64::<Ix4>("v")?, case.input_f64::<Ix4>("dout")?);
            let sinks = case.input_f64::<Ix1>("sinks")?;
            let (_, lse) =
                reference::attention::forward(&q, &k, &v, &config).map_err(VectorError::op)?;
            case.expect("lse_without_sink", &lse)?;
            let (out, _) =
                reference::sinks::forward(&q, &k, &v, &sinks, &config).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            let (got, dsinks) = reference::sinks::backward(&dout, &q, &k, &v, &sinks, &config)
                .map_err(VectorError::op)?;
            case.expect("dq", &got.dq)?;
            case.expect("dk", &got.dk)?;
            case.expect("dv", &got.dv)?;
            case.expect("dsinks", &dsinks)?;
        }
        Tier::Cpu => {
            let (q, k) = (case.input_f32::<Ix4>("q")?, case.input_f32::<Ix4>("k")?);
            let (v, dout) = (case.input_f32::<Ix4>("v")?, case.input_f32::<Ix4>("dout")?);
            let sink = case.input_f32::<Ix1>("sinks")?;
            let config = config.with_tile(3, 4);
            let (out, lse) =
                flash::forward_with_lse(&q, &k, &v, &config).map_err(VectorError::op)?;
            case.expect("lse_without_sink", &lse)?;
            let (out, lse) = sinks::apply(&out, &lse, &sink).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            let got =
                flash::backward(&dout, &q, &k, &v, &out, &lse, &config).map_err(VectorError::op)?;
            case.expect("dq", &got.dq)?;
            case.expect("dk", &got.dk)?;
            case.expect("dv", &got.dv)?;
            let dsinks = sinks::backward(&dout, &out, &lse, &sink).map_err(VectorError::op)?;
            case.expect("dsinks", &dsinks)?;
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => device::attention(case, &config, &ScoreMods::new())?,
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => return Err(case.unsupported("built without the feature `gpu`")),
    }
    Ok(())
}

fn attention(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let mut config = config(case)?;
    if case.op() == "attention.softcap" {
        config = config.with_softcap(case.param_f64("softcap")?);
        if !matches!(case.param_str("order"), Ok("scale, softcap, mask")) {
            return Err(case.unknown_param("order", "\"scale, softcap, mask\""));
        }
    }
    let has_gradients = case.has_input("dout");
    match tier {
        Tier::Reference => {
            let q = case.input_f64::<Ix4>("q")?;
            let k = case.input_f64::<Ix4>("k")?;
            let v = case.input_f64::<Ix4>("v")?;
            let (out, lse) =
                reference::attention::forward(&q, &k, &v, &config).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect_if_present("lse", &lse)?;
            if has_gradients {
                let dout = case.input_f64::<Ix4>("dout")?;
                let got = reference::attention::backward(&dout, &q, &k, &v, &config)
                    .map_err(VectorError::op)?;
                case.expect("dq", &got.dq)?;
                case.expect("dk", &got.dk)?;
                case.expect("dv", &got.dv)?;
            }
        }
        Tier::Cpu => {
            let q = case.input_f32::<Ix4>("q")?;
            let k = case.input_f32::<Ix4>("k")?;
            let v = case.input_f32::<Ix4>("v")?;
            // The default tiles, and tiles that cut these small cases too.
            for config in [config, config.with_tile(4, 8), config.with_tile(3, 2)] {
                let (out, lse) =
                    flash::forward_with_lse(&q, &k, &v, &config).map_err(VectorError::op)?;
                case.expect("out", &out)?;
                case.expect_if_present("lse", &lse)?;
                if has_gradients {
                    let dout = case.input_f32::<Ix4>("dout")?;
                    let got = flash::backward(&dout, &q, &k, &v, &out, &lse, &config)
                        .map_err(VectorError::op)?;
                    case.expect("dq", &got.dq)?;
                    case.expect("dk", &got.dk)?;
                    case.expect("dv", &got.dv)?;
                }
            }
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => device::attention(case, &config, &ScoreMods::new())?,
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => return Err(case.unsupported("built without the feature `gpu`")),
    }
    Ok(())
}

fn varlen(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    let [queries, keys] = starts(case)?;
    match tier {
        Tier::Reference => {
            let (q, k) = (case.input_f64::<Ix3>("q")?, case.input_f64::<Ix3>("k")?);
            let v = case.input_f64::<Ix3>("v")?;
            let (out, _) = reference::varlen::forward(&q, &k, &v, &queries, &keys, &config)
                .map_err(VectorError::op)?;
            case.expect("out", &out)?;
            let dout = case.input_f64::<Ix3>("dout")?;
            let got = reference::varlen::backward(&dout, &q, &k, &v, &queries, &keys, &config)
                .map_err(VectorError::op)?;
            case.expect("dq", &got.dq)?;
            case.expect("dk", &got.dk)?;
            case.expect("dv", &got.dv)?;
        }
        Tier::Cpu => {
            let (q, k) = (case.input_f32::<Ix3>("q")?, case.input_f32::<Ix3>("k")?);
            let (v, dout) = (case.input_f32::<Ix3>("v")?, case.input_f32::<Ix3>("dout")?);
            let (out, lse) = varlen::forward_with_lse(&q, &k, &v, &queries, &keys, &config)
                .map_err(VectorError::op)?;
            case.expect("out", &out)?;
            let got = varlen::backward(&dout, &q, &k, &v, &out, &lse, &queries, &keys, &config)
                .map_err(VectorError::op)?;
            case.expect("dq", &got.dq)?;
            case.expect("dk", &got.dk)?;
            case.expect("dv", &got.dv)?;
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => device::packed(case, [&queries, &keys], &config)?,
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => return Err(case.unsupported("built without the feature `gpu`")),
    }
    Ok(())
}

/// Where packed sequences start, of queries and of keys.
fn starts(case: &Case) -> Result<[Vec<usize>; 2], VectorError> {
    if !matches!(
        case.param_str("layout"),
        Ok("[total_tokens, heads, head_dim]")
    ) {
        return Err(case.unknown_param("layout", "\"[total_tokens, heads, head_dim]\""));
    }
    let list = |name| -> Result<Vec<usize>, VectorError> {
        let list = case.input_i64::<Ix1>(name)?;
        Ok(list.iter().map(|&x| usize::try_from(x).unwrap()).collect())
    };
    Ok([list("cu_seqlens_q")?, list("cu_seqlens_k")?])
}

/// Mask and scale. The numbers of heads say what the shapes say too.
fn config(case: &Case) -> Result<AttentionConfig, VectorError> {
    let (heads, kv_heads) = (case.param_usize("heads")?, case.param_usize("kv_heads")?);
    assert_eq!(case.input_shape("q").map(|shape| shape[1]), Some(heads));
    assert_eq!(case.input_shape("k").map(|shape| shape[1]), Some(kv_heads));
    let config = AttentionConfig::new(mask(case)?);
    let scale = case.param_opt_f64("scale")?;
    Ok(scale.map_or(config, |scale| config.with_scale(scale)))
}

/// From `causal`, `window_left` and `window_right`.
fn mask(case: &Case) -> Result<Mask, VectorError> {
    let alignment = match case.param_opt_str("causal")? {
        None => None,
        Some("top_left") => Some(CausalAlignment::TopLeft),
        Some("bottom_right") => Some(CausalAlignment::BottomRight),
        Some(_) => {
            let expected = "null, \"top_left\" or \"bottom_right\"";
            return Err(case.unknown_param("causal", expected));
        }
    };
    let window = |name| -> Result<Option<usize>, VectorError> {
        if !case.has_param(name) || case.param_opt_f64(name)?.is_none() {
            return Ok(None);
        }
        case.param_usize(name).map(Some)
    };
    let (left, right) = (window("window_left")?, window("window_right")?);
    Ok(match (alignment, left, right) {
        (None, None, None) => Mask::Full,
        (Some(alignment), None, None) => Mask::Causal(alignment),
        _ => Mask::Window {
            left,
            right: if alignment.is_some() { Some(0) } else { right },
            // A window without a causal mask follows FlashAttention.
            alignment: alignment.unwrap_or(CausalAlignment::BottomRight),
        },
    })
}
