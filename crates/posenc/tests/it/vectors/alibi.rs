//! Vector files of `posenc.alibi.*`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::alibi::{self, AlibiOrigin, AlibiRounding};
use llm_posenc::reference;
use ndarray::{Array2, Axis, Ix2};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.alibi.bias" => bias(case, tier),
        "posenc.alibi.distances" => distances(case, tier),
        "posenc.alibi.slopes" => slopes(case, tier),
        _ => Err(case.unknown_op()),
    }
}

fn slopes(case: &Case, tier: Tier) -> Result<(), VectorError> {
    // Both dialects are one rule.
    if !matches!(case.param_str("dialect")?, "bloom" | "mpt") {
        return Err(case.unknown_param("dialect", "\"bloom\" or \"mpt\""));
    }
    let (heads, max_bias) = sizes(case)?;
    match tier {
        Tier::Reference => case.expect("slopes", &reference::alibi::slopes(heads, max_bias)),
        Tier::Cpu => {
            let slopes = alibi::slopes(heads, max_bias).map_err(VectorError::op)?;
            case.expect("slopes", &slopes)
        }
        Tier::Gpu => Err(case.unsupported("slopes are made on the CPU")),
    }
}

fn distances(case: &Case, tier: Tier) -> Result<(), VectorError> {
    if case.param_str("origin")? != "past_distance" {
        return Err(case.unknown_param("origin", "\"past_distance\""));
    }
    let origin = AlibiOrigin::PastDistance;
    let (seq, kv_seq) = (case.param_usize("seq")?, case.param_usize("kv_seq")?);
    match tier {
        Tier::Reference => {
            let distances = reference::alibi::distances(seq, kv_seq, origin);
            case.expect("distances", &distances)
        }
        Tier::Cpu => {
            let distances = alibi::distances(seq, kv_seq, origin).map_err(VectorError::op)?;
            case.expect("distances", &distances)
        }
        // There, as the bias of a head of slope 1.
        #[cfg(feature = "gpu")]
        Tier::Gpu => {
            let bias = super::device::run(|gpu, recorder| {
                let one = gpu.upload_slice(&[1], &[1.0_f32])?;
                llm_posenc::gpu::alibi::bias(recorder, &one, seq, kv_seq, origin)
            })?;
            case.expect("distances", &bias.index_axis(Axis(0), 0))
        }
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
    }
}

fn bias(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let dialect = case.param_str("dialect")?;
    if !matches!(dialect, "bloom" | "falcon" | "mpt") {
        return Err(case.unknown_param("dialect", "\"bloom\", \"falcon\" or \"mpt\""));
    }
    let rounding = match case.param_opt_str("rounding")? {
        None => AlibiRounding::Product,
        Some("slopes to bfloat16, product in bfloat16") => AlibiRounding::Bfloat16,
        Some(_) => {
            let expected = "\"slopes to bfloat16, product in bfloat16\" or nothing";
            return Err(case.unknown_param("rounding", expected));
        }
    };
    if (dialect == "falcon") != (rounding == AlibiRounding::Bfloat16) {
        return Err(case.unknown_param("rounding", "given with \"falcon\" and only there"));
    }
    let (heads, max_bias) = sizes(case)?;
    let slopes = alibi::slopes(heads, max_bias).map_err(VectorError::op)?;
    let exact_slopes = reference::alibi::slopes(heads, max_bias);
    let kv_seq = case.param_opt_usize("kv_seq")?;
    match case.param_str("origin")? {
        "key_index_from_attention_mask" => {
            let mask: Array2<bool> = case.input_i64::<Ix2>("attention_mask")?.mapv(|x| x != 0);
            assert_eq!(kv_seq.unwrap_or(mask.ncols()), mask.ncols());
            match tier {
                Tier::Reference => {
                    let positions = reference::alibi::key_positions(&mask);
                    let bias = reference::alibi::bias_at(&exact_slopes, &positions, rounding);
                    case.expect("bias", &bias)
                }
                Tier::Cpu => {
                    let positions = alibi::key_positions(&mask).map_err(VectorError::op)?;
                    let bias = alibi::bias_at(&slopes, &positions, rounding);
                    case.expect("bias", &bias.map_err(VectorError::op)?)
                }
                #[cfg(feature = "gpu")]
                Tier::Gpu => {
                    let positions = alibi::key_positions(&mask).map_err(VectorError::op)?;
                    let bias = super::device::run(|gpu, recorder| {
                        let slopes = gpu.upload(&slopes)?;
                        let positions = gpu.upload(&positions.mapv(|p| p as u32))?;
                        llm_posenc::gpu::alibi::bias_at(recorder, &slopes, &positions, rounding)
                    })?;
                    case.expect("bias", &bias)
                }
                #[cfg(not(feature = "gpu"))]
                Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
            }
        }
        "last_key_zero" if rounding == AlibiRounding::Product => {
            let origin = AlibiOrigin::LastKeyZero;
            let kv_seq = case.param_usize("kv_seq")?;
            match tier {
                Tier::Reference => {
                    let bias = reference::alibi::bias(&exact_slopes, 1, kv_seq, origin);
                    case.expect("bias", &bias.insert_axis(Axis(0)))
                }
                Tier::Cpu => {
                    let bias = alibi::bias(&slopes, 1, kv_seq, origin).map_err(VectorError::op)?;
                    case.expect("bias", &bias.insert_axis(Axis(0)))
                }
                #[cfg(feature = "gpu")]
                Tier::Gpu => {
                    let bias = super::device::run(|gpu, recorder| {
                        let slopes = gpu.upload(&slopes)?;
                        llm_posenc::gpu::alibi::bias(recorder, &slopes, 1, kv_seq, origin)
                    })?;
                    case.expect("bias", &bias.insert_axis(Axis(0)))
                }
                #[cfg(not(feature = "gpu"))]
                Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
            }
        }
        _ => {
            let expected = "\"key_index_from_attention_mask\", or \"last_key_zero\" unrounded";
            Err(case.unknown_param("origin", expected))
        }
    }
}

fn sizes(case: &Case) -> Result<(usize, f64), VectorError> {
    let max_bias = case.param_opt_f64("max_bias")?;
    Ok((
        case.param_usize("heads")?,
        max_bias.unwrap_or(alibi::MAX_BIAS),
    ))
}
