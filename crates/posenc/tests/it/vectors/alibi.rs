//! Vector files of `posenc.alibi.*`.

use llm_numerics::testing::vectors::{Case, Tier, VectorError};

/// Runs one case on one tier.
pub(super) fn run(case: &Case, _tier: Tier) -> Result<(), VectorError> {
    Err(case.unknown_op())
}
