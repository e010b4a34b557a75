//! Small kernels for the tests of this crate.

use llm_gpu::params::Layout;
use llm_gpu::{Access, Kernel, Needs, Snippet, snippet};

llm_gpu::params! {
    /// Parameters of `scale.wgsl`.
    pub struct ScaleParams {
        /// Number of elements.
        n: u32,
        /// What each is multiplied by.
        factor: f32,
    }
}

llm_gpu::params! {
    /// Parameters of `add.wgsl`.
    pub struct AddParams {
        /// Number of elements.
        n: u32,
    }
}

llm_gpu::params! {
    /// Parameters of `index.wgsl`.
    pub struct IndexParams {
        /// Number of elements.
        n: u32,
    }
}

llm_gpu::params! {
    /// Parameters of `linear_probe.wgsl`.
    pub struct LinearProbeParams {
        /// Number of places.
        n: u32,
    }
}

llm_gpu::params! {
    /// Parameters of `round_trip.wgsl`.
    pub struct RoundTripParams {
        /// Number of pairs.
        n_words: u32,
    }
}

llm_gpu::params! {
    /// Parameters of `sum_1_tree.wgsl` and `sum_2_subgroup.wgsl`.
    pub struct SumParams {
        /// Number of elements.
        n: u32,
    }
}

/// The parameters of all kernels here.
pub const LAYOUTS: &[Layout] = &[
    ScaleParams::LAYOUT,
    AddParams::LAYOUT,
    IndexParams::LAYOUT,
    LinearProbeParams::LAYOUT,
    RoundTripParams::LAYOUT,
    SumParams::LAYOUT,
];

/// All kernels here.
pub const KERNELS: &[&Kernel] = &[
    &SCALE,
    &ADD,
    &INDEX,
    &LINEAR_PROBE,
    &ROUND_BF16,
    &ROUND_F16,
    &SUM_1_TREE,
    &SUM_2_SUBGROUP,
    &TREE_SUM_PROBE,
    &WORDS,
];

/// Each element multiplied by a factor, in place.
pub static SCALE: Kernel = Kernel {
    name: "scale",
    source: include_str!("kernels/scale.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Write],
    params_size: size_of::<ScaleParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// The sum of two arrays.
pub static ADD: Kernel = Kernel {
    name: "add",
    source: include_str!("kernels/add.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<AddParams>(),
    constants: &[],
    needs: Needs::CORE,
};

/// Each workgroup counts the visits to its element.
pub static INDEX: Kernel = Kernel {
    name: "index",
    source: include_str!("kernels/index.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Write],
    params_size: size_of::<IndexParams>(),
    constants: &[],
    needs: Needs::CORE,
};

/// The snippet `linear` on places that come as data.
pub static LINEAR_PROBE: Kernel = Kernel {
    name: "linear_probe",
    source: include_str!("kernels/linear_probe.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<LinearProbeParams>(),
    constants: &[],
    needs: Needs::CORE,
};

/// f32 to packed bf16 and back.
pub static ROUND_BF16: Kernel = Kernel {
    name: "round_trip",
    source: include_str!("kernels/round_trip.wgsl"),
    snippets: &[snippet::LINEAR, snippet::BF16, HALF_IS_BF16],
    bindings: &[Access::Read, Access::Write, Access::Write],
    params_size: size_of::<RoundTripParams>(),
    constants: &[],
    needs: Needs::CORE,
};

/// f32 to packed f16 and back.
pub static ROUND_F16: Kernel = Kernel {
    snippets: &[snippet::LINEAR, snippet::F16, HALF_IS_F16],
    ..ROUND_BF16
};

/// The words of a tensor as they are.
pub static WORDS: Kernel = Kernel {
    name: "words",
    source: include_str!("kernels/words.wgsl"),
    snippets: &[],
    bindings: &[Access::Read, Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE,
};

/// Which kind of half `round_trip.wgsl` has.
const HALF_IS_BF16: Snippet = Snippet {
    name: "half_is_bf16",
    source: "
        fn half_pack(pair: vec2<f32>) -> u32 { return bf16_pack(pair); }
        fn half_unpack(word: u32) -> vec2<f32> { return bf16_unpack(word); }",
};

const HALF_IS_F16: Snippet = Snippet {
    name: "half_is_f16",
    source: "
        fn half_pack(pair: vec2<f32>) -> u32 { return f16_pack(pair); }
        fn half_unpack(word: u32) -> vec2<f32> { return f16_unpack(word); }",
};

/// The snippet `tree_sum`, as each invocation sees it.
pub static TREE_SUM_PROBE: Kernel = Kernel {
    name: "tree_sum_probe",
    source: include_str!("kernels/tree_sum_probe.wgsl"),
    snippets: &[snippet::TREE_SUM],
    bindings: &[Access::Read, Access::Write],
    params_size: 0,
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// The sum of an array, by a tree in workgroup memory.
pub static SUM_1_TREE: Kernel = Kernel {
    name: "sum_1_tree",
    source: include_str!("kernels/sum_1_tree.wgsl"),
    snippets: &[snippet::TREE_SUM],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<SumParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(snippet::TREE_BYTES),
};

/// The sum of an array, by subgroups.
pub static SUM_2_SUBGROUP: Kernel = Kernel {
    name: "sum_2_subgroup",
    source: include_str!("kernels/sum_2_subgroup.wgsl"),
    snippets: &[],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<SumParams>(),
    constants: &[],
    needs: Needs::CORE.with_subgroups().with_workgroup_bytes(256),
};
