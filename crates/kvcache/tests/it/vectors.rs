//! The vector files: see `tests/data/README.md`.

mod dynamic;
mod quantized;
mod sliding;
mod smooth;

use llm_kvcache::ContiguousCache;
use llm_kvcache::kivi::KiviCache;
use llm_kvcache::reference::contiguous::TokenLists;
use llm_kvcache::reference::quantized::KiviTokens;
use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
use ndarray::{Array4, Ix4};

#[test]
fn vectors() {
    let files = VectorRun::new(
        "kvcache",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"),
    )
    .with_tiers(&[Tier::Reference, Tier::Cpu]);
    run_crate(&files, |case, tier| {
        let op = case.op().to_owned();
        let op = op.strip_prefix("kvcache.").unwrap_or(&op);
        match (op, tier) {
            (_, Tier::Gpu) => Err(case.unsupported("no kernel")),
            ("dynamic.update", Tier::Cpu) => {
                dynamic::update::<ContiguousCache<f32>>(case, &input(case)?)
            }
            ("dynamic.update", _) => dynamic::update::<TokenLists>(case, &input(case)?),
            ("dynamic.edit", Tier::Cpu) => {
                dynamic::edit::<ContiguousCache<f32>>(case, &input(case)?)
            }
            ("dynamic.edit", _) => dynamic::edit::<TokenLists>(case, &input(case)?),
            ("sliding_window.dynamic", _) => sliding::dynamic(case, tier, &input(case)?),
            ("sliding_window.static", _) => sliding::fixed(case, tier, &input(case)?),
            ("sliding_window.rollback", _) => sliding::rollback(case, tier, &input(case)?),
            ("quantised.quanto" | "quantised.hqq", Tier::Cpu) => {
                quantized::update::<KiviCache>(case, &input(case)?)
            }
            ("quantised.quanto" | "quantised.hqq", _) => {
                quantized::update::<Vec<KiviTokens>>(case, &input(case)?)
            }
            ("smooth", _) => smooth::run(case, tier),
            ("quanto.max_optimizer", Tier::Cpu) => quantized::groups::<KiviCache>(case),
            ("quanto.max_optimizer", _) => quantized::groups::<Vec<KiviTokens>>(case),
            _ => Err(case.unknown_op()),
        }
    });
}

/// `in.k` and `in.v`; all types that a cache is fed with are exact in `f32`.
fn input(case: &Case) -> Result<[Array4<f32>; 2], VectorError> {
    Ok([case.input_f32::<Ix4>("k")?, case.input_f32::<Ix4>("v")?])
}
