//! Vector files of `posenc.rope.inv_freq` and `posenc.rope.update_sequence`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use llm_posenc::PosencError;
use llm_posenc::reference;
use llm_posenc::rope::{
    self, LongRopeConfig, RopeConfig, RopePairing, RopeScaling, YarnAttention, YarnConfig,
    YarnDialect,
};
use ndarray::{Array1, Array2, Ix1};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, tier: Tier) -> Result<(), VectorError> {
    match case.op() {
        "posenc.rope.inv_freq" => inv_freq(case, tier),
        "posenc.rope.update_sequence" => update_sequence(case, tier),
        _ => Err(case.unknown_op()),
    }
}

fn inv_freq(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let (config, scaling) = settings(case)?;
    let seq_len = case.param_opt_usize("seq_len")?;
    assert_eq!(
        case.input_i64::<Ix1>("seq_len")?,
        Array1::from_elem(1, seq_len.unwrap_or(0) as i64)
    );
    let (inv_freq, factor) = match tier {
        Tier::Reference => reference::rope::scaling::frequencies(&config, &scaling, seq_len),
        Tier::Cpu => {
            let got = rope::frequencies(&config, &scaling, seq_len).map_err(VectorError::op)?;
            (got.inv_freq, got.attention_factor)
        }
        Tier::Gpu => return Err(case.unsupported("frequencies are made on the CPU")),
    };
    case.expect("inv_freq", &inv_freq)?;
    case.expect("attention_factor_f64", &Array1::from_elem(1, factor))
}

fn update_sequence(case: &Case, tier: Tier) -> Result<(), VectorError> {
    let (config, scaling) = settings(case)?;
    let lengths: Vec<usize> = case.input_usize::<Ix1>("lengths")?.to_vec();
    let passes: Vec<(Array1<f64>, f64)> = match tier {
        Tier::Reference => reference::rope::scaling::update_sequence(&config, &scaling, &lengths),
        Tier::Cpu => rope::update_sequence(&config, &scaling, &lengths)
            .map_err(VectorError::op)?
            .into_iter()
            .map(|pass| (pass.inv_freq, pass.attention_factor))
            .collect(),
        Tier::Gpu => return Err(case.unsupported("frequencies are made on the CPU")),
    };
    let n_planes = passes[0].0.len();
    let frequencies = Array2::from_shape_fn((lengths.len(), n_planes), |(pass, plane)| {
        passes[pass].0[plane]
    });
    case.expect("inv_freq", &frequencies)?;
    // Twice along the row, as half-split pairs have it.
    let cosines = Array2::from_shape_fn((lengths.len(), 2 * n_planes), |(pass, column)| {
        let (inv_freq, factor) = &passes[pass];
        let last = lengths[pass].saturating_sub(1) as f64;
        factor * (last * inv_freq[column % n_planes]).cos()
    });
    case.expect("cos_last_position", &cosines)
}

/// Reads `rope_parameters` as transformers does.
fn settings(case: &Case) -> Result<(RopeConfig, RopeScaling), VectorError> {
    let head_dim = case.param_usize("head_dim")?;
    let max_position_embeddings = case.param_usize("max_position_embeddings")?;
    let expected = "an object of known settings";
    let unknown = || case.unknown_param("rope_parameters", expected);
    let parameters = case.param_value("rope_parameters")?;
    let mut parameters = parameters.as_object().ok_or_else(unknown)?.clone();
    let mut take = |name: &str| parameters.remove(name).filter(|value| !value.is_null());

    let kind = take("rope_type").or_else(|| take("type"));
    let kind = kind.and_then(|kind| kind.as_str().map(str::to_owned));
    let mut number = |name: &str| {
        let value = take(name);
        value
            .map(|value| value.as_f64().ok_or_else(unknown))
            .transpose()
    };
    let base = number("rope_theta")?.unwrap_or(10_000.0);
    let partial = number("partial_rotary_factor")?.unwrap_or(1.0);
    let factor = number("factor")?;
    let attention_factor = number("attention_factor")?;
    let original = number("original_max_position_embeddings")?
        .map_or(max_position_embeddings, |original| original as usize);
    let length_factor = || match factor {
        Some(factor) => Ok::<f64, PosencError>(factor),
        None => rope::length_factor(max_position_embeddings, original),
    };
    let required = |value: Option<f64>| value.ok_or_else(unknown);
    let mut rotary_dim = (head_dim as f64 * partial) as usize;
    let scaling = match kind.as_deref() {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear {
            factor: required(factor)?,
        },
        Some("dynamic") => RopeScaling::DynamicNtk {
            factor: required(factor)?,
            max_position_embeddings,
        },
        Some("yarn") => {
            // Zero counts as absent there.
            let mut present = |name: &str| number(name).map(|x| x.filter(|&x| x != 0.0));
            let betas = (present("beta_fast")?, present("beta_slow")?);
            let mscales = (present("mscale")?, present("mscale_all_dim")?);
            let attention = match (attention_factor, mscales) {
                (Some(given), _) => YarnAttention::Given(given),
                (None, (Some(mscale), Some(mscale_all_dim))) => YarnAttention::Mscale {
                    mscale,
                    mscale_all_dim,
                },
                _ => YarnAttention::Recommended,
            };
            let truncate = take("truncate");
            let truncate = truncate.map_or(Some(true), |value| value.as_bool());
            let truncate = truncate.ok_or_else(unknown)?;
            let factor = length_factor().map_err(VectorError::op)?;
            let yarn = YarnConfig::hugging_face(factor, original)
                .with_betas(betas.0.unwrap_or(32.0), betas.1.unwrap_or(1.0))
                .with_dialect(YarnDialect::HuggingFace {
                    truncate,
                    attention,
                });
            RopeScaling::Yarn(yarn)
        }
        Some("longrope") => {
            let mut factors = |name: &str| {
                let list = take(name)?.as_array()?.clone();
                list.iter().map(|value| value.as_f64()).collect()
            };
            let short: Option<Vec<f64>> = factors("short_factor");
            let long: Option<Vec<f64>> = factors("long_factor");
            let (short, long) = short.zip(long).ok_or_else(unknown)?;
            let factor = length_factor().map_err(VectorError::op)?;
            let mut long_rope = LongRopeConfig::new(short, long, original, factor);
            long_rope.attention_factor = attention_factor;
            RopeScaling::LongRope(long_rope)
        }
        Some("llama3") => RopeScaling::Llama3 {
            factor: required(factor)?,
            low_freq_factor: required(number("low_freq_factor")?)?,
            high_freq_factor: required(number("high_freq_factor")?)?,
            original_max_position_embeddings: original,
        },
        Some("proportional") => {
            rotary_dim = 2 * (partial * head_dim as f64 / 2.0).floor() as usize;
            let factor = factor.unwrap_or(1.0);
            RopeScaling::Proportional { head_dim, factor }
        }
        Some(_) => return Err(unknown()),
    };
    if !parameters.is_empty() {
        return Err(unknown());
    }
    // The pairing does not matter here.
    let config = RopeConfig::new(rotary_dim, RopePairing::HalfSplit).with_base(base);
    Ok((config, scaling))
}
