//! Vector files of whole attention modules: they need projections, norms and positions beside attention.

mod blocks;
mod differential;
mod latent;

use llm_blocks::numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use llm_blocks::posenc::rope::{
    self, RopeConfig, RopeFrequencies, RopePairing, RopeScaling, YarnAttention, YarnConfig,
    YarnDialect,
};

use blocks::{Fast, Reference};

const OPS: [&str; 2] = ["attention.mla.module", "attention.differential.module"];

#[test]
fn vectors_agree() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../attention/tests/data");
    let files = VectorRun::new("attention", folder).with_only(&OPS);
    run_crate(&files, |case, tier| match (case.op(), tier) {
        (_, Tier::Gpu) => Err(case.unsupported("no kernel yet")),
        ("attention.mla.module", Tier::Reference) => latent::run::<Reference>(case),
        ("attention.mla.module", Tier::Cpu) => latent::run::<Fast>(case),
        ("attention.differential.module", Tier::Reference) => differential::run::<Reference>(case),
        ("attention.differential.module", Tier::Cpu) => differential::run::<Fast>(case),
        _ => Err(case.unknown_op()),
    });
}

/// The frequencies of `rope_parameters`: plain, linear or YaRN.
fn frequencies(case: &Case, rotary_dim: usize) -> Result<RopeFrequencies, VectorError> {
    let longest = case.param_usize("max_position_embeddings")?;
    let parameters = case.param_value("rope_parameters")?;
    let unknown = || case.unknown_param("rope_parameters", "those of plain, linear or YaRN RoPE");
    let number = |name: &str| parameters.get(name).and_then(|value| value.as_f64());
    let known: &[&str] = &[
        "rope_theta",
        "rope_type",
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
    ];
    let names = parameters.as_object().ok_or_else(unknown)?.keys();
    if names.into_iter().any(|name| !known.contains(&&**name)) {
        return Err(unknown());
    }
    let scaling = match parameters.get("rope_type").and_then(|kind| kind.as_str()) {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear {
            factor: number("factor").ok_or_else(unknown)?,
        },
        Some("yarn") => {
            let factor = number("factor").ok_or_else(unknown)?;
            let original = number("original_max_position_embeddings");
            let original = original.map_or(longest, |original| original as usize);
            let attention = match (number("mscale"), number("mscale_all_dim")) {
                (Some(mscale), Some(mscale_all_dim)) => YarnAttention::Mscale {
                    mscale,
                    mscale_all_dim,
                },
                _ => YarnAttention::Recommended,
            };
            let betas = (number("beta_fast"), number("beta_slow"));
            RopeScaling::Yarn(
                YarnConfig::hugging_face(factor, original)
                    .with_betas(betas.0.unwrap_or(32.0), betas.1.unwrap_or(1.0))
                    .with_dialect(YarnDialect::HuggingFace {
                        truncate: true,
                        attention,
                    }),
            )
        }
        Some(_) => return Err(unknown()),
    };
    let base = number("rope_theta").unwrap_or(10_000.0);
    // The pairing does not matter for frequencies.
    let config = RopeConfig::new(rotary_dim, RopePairing::HalfSplit).with_base(base);
    rope::frequencies(&config, &scaling, None).map_err(VectorError::op)
}
