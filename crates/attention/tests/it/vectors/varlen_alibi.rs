//! The files of `attention.varlen_alibi`: ALiBi in packed sequences.

use llm_attention::varlen::{Gradients as Inputs, score_mods};
use llm_attention::{AttentionConfig, ScoreMods, reference};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Ix1, Ix3};

use super::score_mods::{origin, widen};
use super::starts;

pub(super) fn run(case: &Case, tier: Tier, config: AttentionConfig) -> Result<(), VectorError> {
    let mut config = config;
    config.softcap = case.param_opt_f64("softcap")?;
    let (origin, [queries, keys]) = (origin(case)?, starts(case)?);
    match tier {
        Tier::Reference => {
            let (q, k) = (case.input_f64::<Ix3>("q")?, case.input_f64::<Ix3>("k")?);
            let (v, dout) = (case.input_f64::<Ix3>("v")?, case.input_f64::<Ix3>("dout")?);
            let slopes = case.input_f64::<Ix1>("slopes")?;
            let mods = ScoreMods::new().with_alibi(&slopes, origin);
            let forward = reference::varlen::score_mods::forward;
            let (out, lse) =
                forward(&q, &k, &v, &queries, &keys, &mods, &config).map_err(VectorError::op)?;
            case.expect("out", &out)?;
            case.expect_if_present("lse", &lse)?;
            let backward = reference::varlen::score_mods::backward;
            let got = backward(&dout, &q, &k, &v, &queries, &keys, &mods, &config)
                .map_err(VectorError::op)?;
            expect(case, &got)
        }
        Tier::Cpu => {
            let (q, k) = (case.input_f32::<Ix3>("q")?, case.input_f32::<Ix3>("k")?);
            let (v, dout) = (case.input_f32::<Ix3>("v")?, case.input_f32::<Ix3>("dout")?);
            let slopes = case.input_f32::<Ix1>("slopes")?;
            let mods = ScoreMods::new().with_alibi(&slopes, origin);
            // The default tiles, and tiles that cut these small cases too.
            for config in [config, config.with_tile(4, 8), config.with_tile(3, 2)] {
                let (out, lse) = score_mods::forward(&q, &k, &v, &queries, &keys, &mods, &config)
                    .map_err(VectorError::op)?;
                case.expect("out", &out)?;
                case.expect_if_present("lse", &lse)?;
                let got = score_mods::backward(
                    &dout, &q, &k, &v, &out, &lse, &queries, &keys, &mods, &config,
                )
                .map_err(VectorError::op)?;
                let inputs = Inputs {
                    dq: widen(&got.inputs.dq),
                    dk: widen(&got.inputs.dk),
                    dv: widen(&got.inputs.dv),
                };
                let wide = score_mods::Gradients {
                    inputs,
                    dbias: None,
                    dslopes: got.dslopes.as_ref().map(widen),
                };
                expect(case, &wide)?;
            }
            Ok(())
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => super::device::packed_alibi(case, [&queries, &keys], origin, &config),
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
    }
}

fn expect(case: &Case, got: &score_mods::Gradients<f64>) -> Result<(), VectorError> {
    case.expect("dq", &got.inputs.dq)?;
    case.expect("dk", &got.inputs.dk)?;
    case.expect("dv", &got.inputs.dv)?;
    let Some(dslopes) = &got.dslopes else {
        return Err(VectorError::op("no gradient of the slopes"));
    };
    case.expect("dslopes", dslopes)
}
