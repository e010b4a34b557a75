//! Vector files of `posenc.t5.*`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::reference;
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Axis, Ix1, Ix2, Ix4};

use super::expect_copy;

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.t5.bias" => bias(case, tier),
        "posenc.t5.bucket" => bucket(case, tier),
        _ => Err(case.unknown_op()),
    }
}

fn bucket(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    let relative = case.input_i64::<Ix1>("relative_position")?;
    let bucket = match tier {
        Tier::Reference => reference::t5::bucket,
        Tier::Cpu => t5::bucket,
        Tier::Gpu => return Err(case.unsupported("buckets are found on the CPU")),
    };
    case.expect_int("bucket", &relative.mapv(|x| bucket(x, &config)))
}

fn bias(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let config = config(case)?;
    let seq = case.param_usize("query_len")?;
    let kv_seq = case.param_usize("key_len")?;
    let past = case.param_opt_usize("past")?.unwrap_or(0);
    // Files have a batch of 1 in front.
    match tier {
        Tier::Reference => {
            let table = case.input_f64::<Ix2>("table")?;
            let bias = reference::t5::bias(&table, seq, kv_seq, past, &config);
            expect_copy(case, "bias", &bias.insert_axis(Axis(0)))?;
            if case.has_input("dout") {
                let dout = case.input_f64::<Ix4>("dout")?.sum_axis(Axis(0));
                case.expect("dtable", &reference::t5::backward(&dout, past, &config))?;
            }
        }
        Tier::Cpu => {
            let table = case.input_f32::<Ix2>("table")?;
            let bias = t5::bias(&table, seq, kv_seq, past, &config);
            expect_copy(
                case,
                "bias",
                &bias.map_err(VectorError::op)?.insert_axis(Axis(0)),
            )?;
            if case.has_input("dout") {
                let dout = case.input_f32::<Ix4>("dout")?.sum_axis(Axis(0));
                let dtable = t5::backward(&dout, past, &config).map_err(VectorError::op)?;
                case.expect("dtable", &dtable)?;
            }
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => {
            use llm_posenc::gpu::t5 as gpu_t5;
            let table = case.input_f32::<Ix2>("table")?;
            let bias = super::device::run(|gpu, recorder| {
                let table = gpu.upload(&table)?;
                gpu_t5::bias(recorder, &table, seq, kv_seq, past, &config)
            })?;
            expect_copy(case, "bias", &bias.insert_axis(Axis(0)))?;
            if case.has_input("dout") {
                let dout = case.input_f32::<Ix4>("dout")?.sum_axis(Axis(0));
                let dtable = super::device::run(|gpu, recorder| {
                    let dout = gpu.upload(&dout)?;
                    gpu_t5::backward(recorder, &dout, past, &config)
                })?;
                case.expect("dtable", &dtable)?;
            }
        }
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => return Err(case.unsupported("built without the feature `gpu`")),
    }
    Ok(())
}

fn config(case: &Case) -> Result<T5Config, VectorError> {
    let direction = match case.param_bool("bidirectional")? {
        true => T5Direction::Bidirectional,
        false => T5Direction::Causal,
    };
    let n_buckets = case.param_usize("num_buckets")?;
    let max_distance = case.param_usize("max_distance")?;
    T5Config::new(n_buckets, max_distance, direction).map_err(VectorError::op)
}
