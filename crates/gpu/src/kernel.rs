//! What the host knows about a shader: its text, its bindings, and what it needs from the device.

use std::fmt;

use crate::snippet::Snippet;

/// Most bytes of a parameter block: one slot of the ring that all dispatches share.
pub const MAX_PARAMS: usize = 256;

/// The constant that, by convention, says how many invocations a workgroup has. The recorder compares it with the device's limit.
pub const WORKGROUP_SIZE: &str = "WORKGROUP_SIZE";

/// A compute shader with everything that the host has to know about it.
///
/// The shader sees, in group 0: binding 0 the parameter block as uniform (left out if `params_size` is 0), then the storage buffers
/// 1, 2, … in the order of `bindings`.
///
/// # Example
///
/// ```
/// use llm_gpu::{Access, Kernel, Needs};
///
/// static DOUBLE: Kernel = Kernel {
///     name: "double",
///     source: "
///         @group(0) @binding(1) var<storage, read_write> x: array<f32>;
///         @compute @workgroup_size(64)
///         fn double(@builtin(global_invocation_id) id: vec3<u32>) {
///             if id.x < arrayLength(&x) { x[id.x] = 2.0 * x[id.x]; }
///         }",
///     snippets: &[],
///     bindings: &[Access::Write],
///     params_size: 0,
///     constants: &[],
///     needs: Needs::CORE,
/// };
/// assert!(DOUBLE.compose(llm_gpu::Target::Native).contains("fn double"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Stem of the file and name of the entry point.
    pub name: &'static str,
    /// The text: `include_str!("rope.wgsl")`.
    pub source: &'static str,
    /// Files that the registry puts in front.
    pub snippets: &'static [Snippet],
    /// What the kernel does with the storage bindings 1, 2, …
    pub bindings: &'static [Access],
    /// Bytes of the parameter block at binding 0, at most [`MAX_PARAMS`]; 0 if there is none.
    pub params_size: usize,
    /// Names of the `override` constants that a dispatch may set.
    pub constants: &'static [&'static str],
    /// What the device must have.
    pub needs: Needs,
}

impl Kernel {
    /// The text as the device gets it: the `enable` lines that the kernel's needs call for, its snippets, its source.
    ///
    /// The files themselves have no `enable` lines: they would have to stand before the snippets, and platforms differ. Browsers require
    /// `enable subgroups;`, wgpu's own compiler refuses it.
    #[must_use]
    pub fn compose(&self, target: Target) -> String {
        let mut text = String::new();
        if self.needs.f16 {
            text.push_str("enable f16;\n");
        }
        if self.needs.subgroups && target == Target::Web {
            text.push_str("enable subgroups;\n");
        }
        if self.needs.cooperative_matrix {
            text.push_str("enable wgpu_cooperative_matrix;\n");
        }
        for snippet in self.snippets {
            text.push_str(snippet.source);
            text.push('\n');
        }
        text.push_str(self.source);
        text
    }
}

/// What a kernel does with a storage binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// Whose compiler reads the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// naga, on Vulkan, Metal and DX12.
    Native,
    /// The compiler of a browser.
    Web,
}

impl Target {
    /// The platform that this is compiled for.
    pub const HERE: Self = if cfg!(target_arch = "wasm32") {
        Self::Web
    } else {
        Self::Native
    };
}

/// What a kernel needs beyond core WebGPU.
///
/// ```
/// use llm_gpu::Needs;
///
/// const NEEDS: Needs = Needs::CORE.with_subgroups().with_workgroup_bytes(4096);
/// assert!(NEEDS.subgroups && !NEEDS.f16);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Operations across a subgroup.
    pub subgroups: bool,
    /// Arithmetic in f16.
    pub f16: bool,
    /// Cooperative matrices (native only, experimental).
    pub cooperative_matrix: bool,
    /// Bytes of workgroup memory that the kernel uses, at the largest of its constants; 0 if it uses none. Drivers do not all check
    /// that limit, so the recorder does.
    pub workgroup_bytes: u32,
}

impl Needs {
    /// Core WebGPU: runs in every browser that has WebGPU, and on software Vulkan.
    pub const CORE: Self = Self {
        subgroups: false,
        f16: false,
        cooperative_matrix: false,
        workgroup_bytes: 0,
    };

    /// The same, with subgroup operations.
    #[must_use]
    pub const fn with_subgroups(self) -> Self {
        Self {
            subgroups: true,
            ..self
        }
    }

    /// The same, with f16 arithmetic.
    #[must_use]
    pub const fn with_f16(self) -> Self {
        Self { f16: true, ..self }
    }

    /// The same, with cooperative matrices.
    #[must_use]
    pub const fn with_cooperative_matrix(self) -> Self {
        Self {
            cooperative_matrix: true,
            ..self
        }
    }

    /// The same, with that many bytes of workgroup memory.
    #[must_use]
    pub const fn with_workgroup_bytes(self, workgroup_bytes: u32) -> Self {
        Self {
            workgroup_bytes,
            ..self
        }
    }

    /// True if every WebGPU device can do it.
    #[must_use]
    pub const fn is_core(&self) -> bool {
        !self.subgroups && !self.f16 && !self.cooperative_matrix
    }
}
