//! The vector files, on every tier.

mod alibi;
#[cfg(feature = "gpu")]
mod device;
mod learned;
mod rope;
mod rope_axes;
mod rope_scaling;
mod sinusoidal;
mod t5;

use llm_numerics::Float;
use llm_numerics::testing::vectors::{Case, VectorError, VectorRun, run_crate};
use llm_numerics::testing::{Tolerance, compare};
use ndarray::{ArrayRef, Dimension};

#[test]
fn vectors_agree() {
    let files = VectorRun::new("posenc", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    #[cfg(feature = "gpu")]
    let files = files.with_tiers(&device::tiers());
    run_crate(&files, |case, tier| {
        let op = case.op();
        let method = op.split('.').nth(1).unwrap_or_default();
        match method {
            "alibi" => alibi::run(case, tier),
            "learned" => learned::run(case, tier),
            "mrope" | "vision2d" => rope_axes::run(case, tier),
            "rope" => rope::run(case, tier),
            "sinusoidal" => sinusoidal::run(case, tier),
            "t5" => t5::run(case, tier),
            _ => Err(case.unknown_op()),
        }
    });
}

/// Compares an output whose numbers are copied from an input: equal, whatever the tolerance for the sums of the file.
fn expect_copy<F: Float, D: Dimension>(
    case: &Case,
    name: &str,
    got: &ArrayRef<F, D>,
) -> Result<(), VectorError> {
    let want = case.output_f64(name)?;
    compare(got, &want, Tolerance::exact())
        .map(drop)
        .map_err(|mismatch| VectorError::Mismatch {
            name: name.to_owned(),
            mismatch: Box::new(mismatch),
        })
}
