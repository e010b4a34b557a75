//! Vector files of `attention.merge_lse`.

use llm_attention::{merge, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{ArrayRef3, ArrayRef4, Ix4, Ix5};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let parts = case.param_usize("parts")?;
    for name in ["outs", "lses"] {
        if case.input_shape(name).map(|shape| shape[0]) != Some(parts) {
            return Err(case.unknown_param("parts", "the length of outs and of lses"));
        }
    }
    match tier {
        Tier::Reference => {
            let outs = case.input_f64::<Ix5>("outs")?;
            let lses = case.input_f64::<Ix4>("lses")?;
            let (outs, lses): (Vec<_>, Vec<_>) =
                (outs.outer_iter().collect(), lses.outer_iter().collect());
            let outs: Vec<&ArrayRef4<f64>> = outs.iter().map(|out| &**out).collect();
            let lses: Vec<&ArrayRef3<f64>> = lses.iter().map(|lse| &**lse).collect();
            let (out, lse) = reference::merge::forward(&outs, &lses).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect("lse", &lse)
        }
        Tier::Cpu => {
            let outs = case.input_f32::<Ix5>("outs")?;
            let lses = case.input_f32::<Ix4>("lses")?;
            let (outs, lses): (Vec<_>, Vec<_>) =
                (outs.outer_iter().collect(), lses.outer_iter().collect());
            let outs: Vec<&ArrayRef4<f32>> = outs.iter().map(|out| &**out).collect();
            let lses: Vec<&ArrayRef3<f32>> = lses.iter().map(|lse| &**lse).collect();
            let (out, lse) = merge::forward(&outs, &lses).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect("lse", &lse)
        }
        Tier::Gpu => Err(case.unsupported("no kernel yet")),
    }
}
