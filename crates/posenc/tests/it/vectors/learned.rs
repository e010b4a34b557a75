//! Vector files of `posenc.learned.*`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::learned::{self, PositionConvention};
use llm_posenc::reference;
use ndarray::{Array2, Axis, Ix2, Ix3, concatenate};

use super::expect_copy;

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.learned.embed" => embed(case, tier),
        "posenc.learned.position_ids" => position_ids(case, tier),
        _ => Err(case.unknown_op()),
    }
}

fn embed(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let mask = case.input_i64::<Ix2>("attention_mask")?.mapv(|m| m != 0);
    if !case.param_str("convention")?.starts_with("opt") {
        return Err(case.unknown_param("convention", "\"opt: cumsum(mask)*mask - 1 + 2\""));
    }
    let offset = case.param_usize("offset")?;
    let past = case.param_opt_usize("past")?.unwrap_or(0);
    let convention = PositionConvention::Opt { offset };
    match tier {
        Tier::Reference => {
            let table = case.input_f64::<Ix2>("table")?;
            let positions = reference::learned::positions(&mask, past, convention);
            let out = reference::learned::embed(&table, &positions).map_err(VectorError::op)?;
            expect_copy(case, "out", &out)?;
            if case.has_input("dout") {
                let dout = case.input_f64::<Ix3>("dout")?;
                let dtable = reference::learned::backward(&dout, &positions, table.nrows());
                case.expect("dtable", &dtable.map_err(VectorError::op)?)?;
            }
        }
        Tier::Cpu => {
            let table = case.input_f32::<Ix2>("table")?;
            let positions = learned::positions(&mask, past, convention).map_err(VectorError::op)?;
            let out = learned::embed(&table, &positions).map_err(VectorError::op)?;
            expect_copy(case, "out", &out)?;
            if case.has_input("dout") {
                let dout = case.input_f32::<Ix3>("dout")?;
                let dtable = learned::backward(&dout, &positions, table.nrows());
                case.expect("dtable", &dtable.map_err(VectorError::op)?)?;
            }
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => {
            use llm_posenc::gpu::learned as gpu_learned;
            let table = case.input_f32::<Ix2>("table")?;
            let positions = learned::positions(&mask, past, convention).map_err(VectorError::op)?;
            let positions = positions.mapv(|p| p as u32);
            let out = super::device::run(|gpu, recorder| {
                let (table, positions) = (gpu.upload(&table)?, gpu.upload(&positions)?);
                gpu_learned::embed(recorder, &table, &positions)
            })?;
            expect_copy(case, "out", &out)?;
            if case.has_input("dout") {
                let dout = case.input_f32::<Ix3>("dout")?;
                let dtable = super::device::run(|gpu, recorder| {
                    let (dout, positions) = (gpu.upload(&dout)?, gpu.upload(&positions)?);
                    gpu_learned::backward(recorder, &dout, &positions, table.nrows())
                })?;
                case.expect("dtable", &dtable)?;
            }
        }
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => return Err(case.unsupported("built without the feature `gpu`")),
    }
    Ok(())
}

fn position_ids(case: &Case, tier: Tier) -> Result<(), VectorError> {
    if !case.param_str("convention")?.starts_with("roberta") {
        let known = "\"roberta: padding_idx + count of non-pad tokens\"";
        return Err(case.unknown_param("convention", known));
    }
    let padding_idx = case.param_usize("padding_idx")?;
    let past = case.param_opt_usize("past")?.unwrap_or(0);
    let ids = case.input_i64::<Ix2>("input_ids")?;
    let convention = PositionConvention::Roberta { padding_idx };
    // The file has the new tokens only; what is in the cache counts whatever it is.
    let cached = Array2::from_elem((ids.nrows(), past), true);
    let new = ids.mapv(|id| usize::try_from(id) != Ok(padding_idx));
    let mask = concatenate(Axis(1), &[cached.view(), new.view()]).map_err(VectorError::op)?;
    let got = match tier {
        Tier::Reference => reference::learned::positions(&mask, past, convention),
        Tier::Cpu => learned::positions(&mask, past, convention).map_err(VectorError::op)?,
        Tier::Gpu => return Err(case.unsupported("integers are counted on the host")),
    };
    case.expect_int("positions", &got.mapv(|p| p as i64))
}
