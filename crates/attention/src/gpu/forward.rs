//! The kernels of the forward pass for many queries, and which of them is taken.

use llm_gpu::{Access, GpuTensor, Kernel, Needs, Recorder, Snippet, snippet};

use super::Variant;
use super::flash::{HIDDEN, INPUTS, MASK, PARAMS, PHILOX, SCORE, TANH, TILE_BYTES, TILES};
use super::plan::{FlashParams, Plan};
use super::variant::Choice;
use crate::AttentionError;

pub(super) const TEAMS: Snippet = Snippet {
    name: "teams",
    source: include_str!("teams.wgsl"),
};
const TEAM_MAX: Snippet = Snippet {
    name: "team_max",
    source: include_str!("team_max.wgsl"),
};
const WIDE_INPUTS: Snippet = Snippet {
    name: "flash_wide_inputs",
    source: include_str!("flash_wide_inputs.wgsl"),
};
const WIDE: Snippet = Snippet {
    name: "flash_wide",
    source: include_str!("flash_wide.wgsl"),
};
const MATRIX_8: Snippet = Snippet {
    name: "matrix_8",
    source: include_str!("matrix_8.wgsl"),
};
const MATRIX_16: Snippet = Snippet {
    name: "matrix_16",
    source: include_str!("matrix_16.wgsl"),
};

/// Two numbers of 8 invocations for each of 32 rows.
const PARTIAL_BYTES: u32 = 2 * 32 * 8 * 4;
/// Two tiles of 32 rows of 9 vectors; for 32 keys 9 vectors of weights; what says whether a tile is hidden.
const WIDE_BYTES: u32 = 2 * 32 * 9 * 16 + 32 * 9 * 16 + 64 * 4 + 16;
/// The same with tiles of f16.
const F16_BYTES: u32 = 2 * 32 * 9 * 8 + 32 * 9 * 16 + 64 * 4 + 16;
/// 32 queries, 64 keys and 32 rows of weights, each 18 vectors of f16; 32 rows of 68 products; what says whether a tile is hidden.
const MATRICES_BYTES: u32 = (32 + 64 + 32) * 18 * 8 + 32 * 68 * 4 + 128 * 4 + 16;

const R: Access = Access::Read;
const W: Access = Access::Write;

pub(super) static FLASH_FORWARD: Kernel = kernel(
    "flash_forward",
    include_str!("flash_forward.wgsl"),
    &[
        snippet::LINEAR,
        PARAMS,
        INPUTS,
        MASK,
        PHILOX,
        TANH,
        SCORE,
        TILES,
        HIDDEN,
    ],
    Needs::CORE.with_workgroup_bytes(TILE_BYTES + PARTIAL_BYTES),
);

pub(super) static FLASH_FORWARD_1_SUBGROUPS: Kernel = kernel(
    "flash_forward_1_subgroups",
    include_str!("flash_forward_1_subgroups.wgsl"),
    WIDE_SNIPPETS,
    Needs::CORE
        .with_subgroups()
        .with_workgroup_bytes(WIDE_BYTES),
);

pub(super) static FLASH_FORWARD_2_F16: Kernel = kernel(
    "flash_forward_2_f16",
    include_str!("flash_forward_2_f16.wgsl"),
    WIDE_SNIPPETS,
    Needs::CORE
        .with_subgroups()
        .with_f16()
        .with_workgroup_bytes(F16_BYTES),
);

pub(super) static FLASH_FORWARD_3_MATRICES_8: Kernel = kernel(
    "flash_forward_3_matrices",
    include_str!("flash_forward_3_matrices.wgsl"),
    &matrix_snippets(MATRIX_8),
    MATRICES_NEEDS,
);

pub(super) static FLASH_FORWARD_3_MATRICES_16: Kernel = kernel(
    "flash_forward_3_matrices",
    include_str!("flash_forward_3_matrices.wgsl"),
    &matrix_snippets(MATRIX_16),
    MATRICES_NEEDS,
);

const WIDE_SNIPPETS: &[Snippet] = &[
    snippet::LINEAR,
    PARAMS,
    WIDE_INPUTS,
    MASK,
    PHILOX,
    TANH,
    SCORE,
    TEAMS,
    TEAM_MAX,
    HIDDEN,
    WIDE,
];

const fn matrix_snippets(matrix: Snippet) -> [Snippet; 11] {
    [
        snippet::LINEAR,
        PARAMS,
        WIDE_INPUTS,
        MASK,
        PHILOX,
        TANH,
        SCORE,
        TEAMS,
        TEAM_MAX,
        HIDDEN,
        matrix,
    ]
}

const MATRICES_NEEDS: Needs = Needs::CORE
    .with_subgroups()
    .with_f16()
    .with_cooperative_matrix()
    .with_workgroup_bytes(MATRICES_BYTES);

const fn kernel(
    name: &'static str,
    source: &'static str,
    snippets: &'static [Snippet],
    needs: Needs,
) -> Kernel {
    Kernel {
        name,
        source,
        snippets,
        bindings: &[R, R, R, R, R, W, W],
        params_size: size_of::<FlashParams>(),
        constants: &["COLUMN_VECTORS"],
        needs,
    }
}

/// Records the forward pass of a plan.
pub(super) fn record(
    recorder: &mut Recorder,
    plan: &Plan<'_>,
    variant: Variant,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
) -> Result<(), AttentionError> {
    let capabilities = recorder.gpu().capabilities();
    let kernel = match variant.choice(capabilities, &plan.sizes)? {
        Choice::Base => &FLASH_FORWARD,
        Choice::Subgroups => &FLASH_FORWARD_1_SUBGROUPS,
        Choice::F16 => &FLASH_FORWARD_2_F16,
        Choice::Matrices8 => &FLASH_FORWARD_3_MATRICES_8,
        Choice::Matrices16 => &FLASH_FORWARD_3_MATRICES_16,
    };
    let more = [out.write(), lse.write()];
    plan.over_queries(recorder, kernel, plan.sizes.value_dim, &more)
}
