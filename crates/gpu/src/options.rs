//! Which adapter to take, and what not to use of it.

/// How to choose the adapter, and which of its features to leave alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Which kind of adapter to prefer where there are several.
    pub power: Power,
    /// Take the first adapter whose name contains this, in any case of letters. Ignored in browsers, which do not list adapters.
    pub adapter: Option<String>,
    /// Features to leave alone although the adapter has them.
    pub mask: Mask,
    /// Ask for cooperative matrices (tensor cores). Off by default: wgpu calls them experimental and does not promise that shaders
    /// which use them cannot go wrong.
    pub cooperative_matrices: bool,
}

/// Which kind of adapter to prefer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// The faster one.
    #[default]
    High,
    /// The one that uses less energy.
    Low,
}

/// Features that are not used although the adapter has them, as if it were a lesser one. `true` leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// No subgroup operations.
    pub subgroups: bool,
    /// No f16 arithmetic.
    pub f16: bool,
    /// No timestamp queries.
    pub timestamps: bool,
    /// No more than the limits that every WebGPU device has to have: 128 MiB a binding, 256 MiB a buffer, 8 storage buffers, 16 KiB of
    /// workgroup memory, 256 invocations a workgroup.
    pub limits: bool,
}
