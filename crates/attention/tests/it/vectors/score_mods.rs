//! The files of modified scores: `attention.alibi` and `attention.sdpa_mask`.

use llm_attention::score_mods::{self, Gradients};
use llm_attention::{AlibiOrigin, AttentionConfig, Mask, MaskPolarity, ScoreMods, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Array, Array1, Array4, Dimension, Ix1, Ix4};

pub(super) fn alibi(case: &Case, tier: Tier, config: AttentionConfig) -> Result<(), VectorError> {
    let origin = origin(case)?;
    let mut config = config;
    config.softcap = case.param_opt_f64("softcap")?;
    let slopes = case.input_f64::<Ix1>("slopes")?;
    let slopes32 = case.input_f32::<Ix1>("slopes")?;
    let mods = ScoreMods::new().with_alibi(&slopes, origin);
    let mods32 = ScoreMods::new().with_alibi(&slopes32, origin);
    run(case, tier, config, &mods, &mods32)
}

/// From `bias` and `mode`.
pub(super) fn origin(case: &Case) -> Result<AlibiOrigin, VectorError> {
    let origin = match case.param_str("bias")? {
        "bias = -slope * |i + sk - sq - j|" => AlibiOrigin::AbsoluteDistance,
        "bias = -slope * (i + sk - sq - j)" => AlibiOrigin::SignedDistance,
        "bias = slope * key_index" => AlibiOrigin::KeyIndex,
        _ => return Err(case.unknown_param("bias", "one of three formulas")),
    };
    let mode = case.param_str("mode")?;
    if ![
        "bidirectional_abs",
        "causal_bloom",
        "causal_relative",
        "softcap_then_alibi",
    ]
    .contains(&mode)
    {
        return Err(case.unknown_param("mode", "one of four names"));
    }
    Ok(origin)
}

pub(super) fn mask(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let mut config = AttentionConfig::new(Mask::Full);
    config.scale = case.param_opt_f64("scale")?;
    let (heads, kv_heads) = (case.param_usize("heads")?, case.param_usize("kv_heads")?);
    assert_eq!(case.input_shape("q").map(|shape| shape[1]), Some(heads));
    assert_eq!(case.input_shape("k").map(|shape| shape[1]), Some(kv_heads));
    case.param_str("kind")?; // what the numbers show
    match case.param_str("mask")? {
        "additive" => {
            let bias = case.input_f64::<Ix4>("bias")?;
            let bias32 = case.input_f32::<Ix4>("bias")?;
            let mods = ScoreMods::new().with_bias(&bias);
            run(
                case,
                tier,
                config,
                &mods,
                &ScoreMods::new().with_bias(&bias32),
            )
        }
        "true_is_attend" => {
            let mask: Array4<bool> = case.input_bool::<Ix4>("mask")?;
            let attends = MaskPolarity::TrueAttends;
            let (mods, mods32) = (
                ScoreMods::new().with_mask(&mask, attends),
                ScoreMods::new().with_mask(&mask, attends),
            );
            run(case, tier, config, &mods, &mods32)
        }
        _ => Err(case.unknown_param("mask", "\"additive\" or \"true_is_attend\"")),
    }
}

fn run(
    case: &Case,
    tier: Tier,
    config: AttentionConfig,
    mods: &ScoreMods<'_, f64>,
    mods32: &ScoreMods<'_, f32>,
) -> Result<(), VectorError> {
    match tier {
        Tier::Reference => {
            let (q, k) = (case.input_f64::<Ix4>("q")?, case.input_f64::<Ix4>("k")?);
            let (v, dout) = (case.input_f64::<Ix4>("v")?, case.input_f64::<Ix4>("dout")?);
            let (out, lse) = reference::score_mods::forward(&q, &k, &v, mods, &config)
                .map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect_if_present("lse", &lse)?;
            let got = reference::score_mods::backward(&dout, &q, &k, &v, mods, &config)
                .map_err(VectorError::op)?;
            expect(case, &got)
        }
        Tier::Cpu => {
            let (q, k) = (case.input_f32::<Ix4>("q")?, case.input_f32::<Ix4>("k")?);
            let (v, dout) = (case.input_f32::<Ix4>("v")?, case.input_f32::<Ix4>("dout")?);
            // The default tiles, and tiles that cut these small cases too.
            for config in [config, config.with_tile(4, 8), config.with_tile(3, 2)] {
                let (out, lse) =
                    score_mods::forward(&q, &k, &v, mods32, &config).map_err(VectorError::op)?;
                case.expect("out", &out)?;
                case.expect_if_present("lse", &lse)?;
                let got = score_mods::backward(&dout, &q, &k, &v, &out, &lse, mods32, &config)
                    .map_err(VectorError::op)?;
                let wide = Gradients {
                    inputs: llm_attention::Gradients {
                        dq: widen(&got.inputs.dq),
                        dk: widen(&got.inputs.dk),
                        dv: widen(&got.inputs.dv),
                    },
                    dbias: got.dbias.as_ref().map(widen),
                    dslopes: got.dslopes.as_ref().map(widen),
                };
                expect(case, &wide)?;
            }
            Ok(())
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => super::device::attention(case, &config, mods32),
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
    }
}

pub(super) fn widen<D: Dimension>(x: &Array<f32, D>) -> Array<f64, D> {
    x.mapv(f64::from)
}

fn expect(case: &Case, got: &Gradients<f64>) -> Result<(), VectorError> {
    case.expect("dq", &got.inputs.dq)?;
    case.expect("dk", &got.inputs.dk)?;
    case.expect("dv", &got.inputs.dv)?;
    if let Some(dbias) = &got.dbias {
        case.expect("dbias", dbias)?;
    }
    if let Some(dslopes) = &got.dslopes {
        let dslopes: &Array1<f64> = dslopes;
        case.expect("dslopes", dslopes)?;
    }
    Ok(())
}
