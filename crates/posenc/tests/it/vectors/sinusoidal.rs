//! Vector files of `posenc.sinusoidal.*`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::reference;
use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.sinusoidal.table" => table(case, tier),
        _ => Err(case.unknown_op()),
    }
}

fn table(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let layout = match case.param_str("layout")? {
        "half_split" => SinusoidalLayout::HalfSplit,
        "interleaved" => SinusoidalLayout::Interleaved,
        _ => return Err(case.unknown_param("layout", "\"half_split\" or \"interleaved\"")),
    };
    let exponent = match case.param_str("exponent")? {
        "2i/d" => SinusoidalExponent::TwoIOverDim,
        "i/(d/2-1)" => SinusoidalExponent::IOverHalfDimMinusOne,
        _ => return Err(case.unknown_param("exponent", "\"2i/d\" or \"i/(d/2-1)\"")),
    };
    let mut config = SinusoidalConfig::new(case.param_usize("dim")?, layout, exponent)
        .with_base(case.param_opt_f64("base")?.unwrap_or(10_000.0));
    if let Some(padding_idx) = case.param_opt_usize("padding_idx")? {
        config = config.with_padding_idx(padding_idx);
    }
    let n_positions = case.param_usize("positions")?;
    match tier {
        Tier::Reference => {
            sinusoidal::inv_freq(&config).map_err(VectorError::op)?; // the reference checks nothing
            case.expect("table", &reference::sinusoidal::table(n_positions, &config))
        }
        Tier::Cpu => {
            let got = sinusoidal::table(n_positions, &config).map_err(VectorError::op)?;
            case.expect("table", &got)
        }
        #[cfg(feature = "gpu")]
        Tier::Gpu => {
            let positions: Vec<u32> = (0..n_positions as u32).collect();
            let got = super::device::run(|gpu, recorder| {
                let positions = gpu.upload_slice(&[n_positions], &positions)?;
                llm_posenc::gpu::sinusoidal::encode(recorder, &positions, &config)
            })?;
            case.expect("table", &got)
        }
        #[cfg(not(feature = "gpu"))]
        Tier::Gpu => Err(case.unsupported("built without the feature `gpu`")),
    }
}
