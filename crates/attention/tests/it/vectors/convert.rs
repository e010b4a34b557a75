//! Vector files of `attention.convert.mha_to_gqa`.

use llm_attention::{convert, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Ix1, Ix2};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let (heads, kv_heads) = (case.param_usize("heads")?, case.param_usize("kv_heads")?);
    let rows = heads * case.param_usize("head_dim")?;
    if case.input_shape("k_bias") != Some(&[rows]) {
        return Err(case.unknown_param("head_dim", "the length of k_bias over heads"));
    }
    let layout = "[heads*head_dim, hidden]";
    if case.param_str("weight")? != layout {
        return Err(case.unknown_param("weight", layout));
    }
    match tier {
        Tier::Reference => {
            for name in ["k_weight", "v_weight"] {
                let weight = case.input_f64::<Ix2>(name)?;
                let pooled = reference::convert::mean_pool_kv_heads(&weight, heads, kv_heads);
                case.expect(name, &pooled.map_err(VectorError::op)?)?;
            }
            let bias = case.input_f64::<Ix1>("k_bias")?;
            let pooled = reference::convert::mean_pool_kv_bias(&bias, heads, kv_heads);
            case.expect("k_bias", &pooled.map_err(VectorError::op)?)
        }
        Tier::Cpu => {
            for name in ["k_weight", "v_weight"] {
                let weight = case.input_f32::<Ix2>(name)?;
                let pooled = convert::mean_pool_kv_heads(&weight, heads, kv_heads);
                case.expect(name, &pooled.map_err(VectorError::op)?)?;
            }
            let bias = case.input_f32::<Ix1>("k_bias")?;
            let pooled = convert::mean_pool_kv_bias(&bias, heads, kv_heads);
            case.expect("k_bias", &pooled.map_err(VectorError::op)?)
        }
        Tier::Gpu => Err(case.unsupported("a checkpoint is converted once, on the CPU")),
    }
}
