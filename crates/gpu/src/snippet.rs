//! Whole WGSL files that kernels share. A kernel lists them, and the registry puts them in front of its source.

/// A WGSL file without entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Stem of the file.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
}

/// The place of a workgroup or an invocation in a grid that [`Grid::linear`](crate::Grid::linear) may have folded: `linear_workgroup`,
/// `linear_invocation`.
pub const LINEAR: Snippet = Snippet {
    name: "linear",
    source: include_str!("snippets/linear.wgsl"),
};

/// The sum over the 64 invocations of a workgroup, in a fixed order: `tree_sum`, and `TREE_INVOCATIONS` for
/// `@workgroup_size`. It takes [`TREE_BYTES`] of workgroup memory, however often it is called.
pub const TREE_SUM: Snippet = Snippet {
    name: "tree_sum",
    source: include_str!("snippets/tree_sum.wgsl"),
};

/// The workgroup memory of [`TREE_SUM`], for [`Needs::with_workgroup_bytes`](crate::Needs::with_workgroup_bytes).
pub const TREE_BYTES: u32 = 256;

/// Two f16 in a word, without the optional f16 feature: `f16_unpack`, `f16_pack`.
pub const F16: Snippet = Snippet {
    name: "f16",
    source: include_str!("snippets/f16.wgsl"),
};

/// Two bf16 in a word: `bf16_unpack`, `bf16_pack`.
pub const BF16: Snippet = Snippet {
    name: "bf16",
    source: include_str!("snippets/bf16.wgsl"),
};

/// The random numbers of `llm_numerics::philox` by their counter: `philox_block`, `philox_word`.
pub const PHILOX: Snippet = Snippet {
    name: "philox",
    source: include_str!("snippets/philox.wgsl"),
};

/// Sums, products and quotients of positive `f32` by their bits, with the rounding of the CPU: `single_sum`, `single_distance`,
/// `single_product`, `single_quotient`, `single_integer`. Shaders may round divisions as they like, take small numbers for zero, and fuse.
pub const SINGLE: Snippet = Snippet {
    name: "single",
    source: include_str!("snippets/single.wgsl"),
};
