//! Vector files: reader and runner.
//!
//! A vector file is `<crate>/<op>/<case>.safetensors` (crate as a Rust identifier). Its metadata has `op`
//! (`<crate>.<op>`), `params` (a JSON object), `source` (library, version, function), `rtol` and `atol`; its tensors are
//! `in.<name>` and `out.<name>`. A value passes if `|got - want| <= atol + rtol * |want|`; where both are 0, values must be
//! equal (`0.0` equals `-0.0`, `-inf` equals `-inf`, NaN equals nothing).
//!
//! [`run_crate`] runs every file of a crate on every tier. What a test does not read or compare fails it, so a file can
//! never pass because its content was overlooked.
//!
//! # Which files run
//!
//! - `<folder>/<op>/*.safetensors` of the committed folder, sorted by path, at least one.
//! - `$LLM_VECTORS/<crate>/<op>/*.safetensors`, if that variable is set.
//! - A folder that holds `config.json` or `adapter_config.json` is a checkpoint, not an op, and is left to its own test. Deeper
//!   folders and other file types are not looked at.
//! - Ops that another crate's tests run are named with [`VectorRun::with_elsewhere`] and counted in the table.
//!
//! # Example
//!
//! ```no_run
//! use llm_numerics::testing::vectors::{Case, Tier, VectorError, VectorRun, run_crate};
//! use ndarray::Ix1;
//!
//! fn double(case: &Case, tier: Tier) -> Result<(), VectorError> {
//!     let factor = case.param_f64("factor")?;
//!     match tier {
//!         Tier::Reference => case.expect("y", &(case.input_f64::<Ix1>("x")? * factor)),
//!         Tier::Cpu => case.expect("y", &(case.input_f32::<Ix1>("x")? * factor as f32)),
//!         Tier::Gpu => Err(case.unsupported("no kernel yet")),
//!     }
//! }
//!
//! // #[test]
//! fn vectors() {
//!     let files = VectorRun::new("posenc", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
//!     run_crate(&files, |case, tier| match case.op() {
//!         "posenc.double" => double(case, tier),
//!         _ => Err(case.unknown_op()),
//!     });
//! }
//! ```

mod case;
mod error;
mod expect;
mod params;
mod report;
mod run;
mod tensor;

pub use case::Case;
pub use error::VectorError;
pub use report::{Failure, OpLine, VectorReport};
pub use run::{VectorRun, collect, run_crate};
pub use safetensors::Dtype;

use super::Tolerance;

/// Which implementation of an op is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// The textbook form in f64.
    Reference,
    /// The fast path on the CPU.
    Cpu,
    /// The compute shader.
    Gpu,
}

impl Tier {
    /// The word in the table: `reference`, `cpu`, `gpu`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// The tolerance of this tier where a file states `file`.
    ///
    /// The reference and the CPU use it as it is. The GPU may use ten times it, and never less than `1e-6 + 1e-5 |want|`. An
    /// exact tolerance stays exact.
    #[must_use]
    pub fn tolerance(self, file: Tolerance) -> Tolerance {
        if self != Self::Gpu || file == Tolerance::exact() {
            return file;
        }
        Tolerance::new((10.0 * file.abs).max(1e-6), (10.0 * file.rel).max(1e-5))
    }
}
