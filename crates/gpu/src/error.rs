//! Everything this crate can refuse.

use crate::kernel::Access;

/// Everything this crate can refuse, one variant per rule that a caller or a device can break.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// There is no adapter: no driver, no such name, or a browser without WebGPU. Tests may skip on this one.
    #[error("there must be a GPU adapter: {reason}")]
    NoAdapter {
        /// What the drivers said.
        reason: String,
    },
    /// There is an adapter, but it gives no device.
    #[error("the adapter `{adapter}` must give a device: {reason}")]
    DeviceRefused {
        /// Name of the adapter.
        adapter: String,
        /// What it said.
        reason: String,
    },
    /// The device is gone: unplugged, reset, or crashed. Nothing that was on it can be read again.
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// What the driver said.
        reason: String,
    },
    /// The device has no memory for a buffer or a submission.
    #[error("the device is out of memory while it should {task}{}", bytes.map_or_else(String::new, |bytes| format!(" of {bytes} bytes")))]
    OutOfMemory {
        /// What it should have done.
        task: &'static str,
        /// Size of the buffer, if it was for one.
        bytes: Option<u64>,
    },
    /// A tensor is larger than what a kernel can bind. The caller must split it.
    #[error("a tensor must have at most {limit} bytes to be bound by a kernel, got {bytes}")]
    BindingTooLarge {
        /// Size of the tensor.
        bytes: u64,
        /// Largest binding of the device.
        limit: u64,
    },
    /// A tensor is larger than the largest buffer of the device.
    #[error("a buffer must have at most {limit} bytes, got {bytes}")]
    BufferTooLarge {
        /// Size of the tensor.
        bytes: u64,
        /// Largest buffer of the device.
        limit: u64,
    },
    /// The number of elements, or of bytes, of a shape does not fit into a machine word.
    #[error("the elements of a tensor must fit into the address space, got the shape {shape:?}")]
    ShapeOverflow {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The device cannot do it, or the options masked it off.
    #[error("{what} needs the feature `{feature}`, which this device lacks")]
    UnsupportedFeature {
        /// The feature.
        feature: &'static str,
        /// A kernel, or a function of this crate.
        what: &'static str,
    },
    /// The shader or its pipeline was refused.
    #[error("the kernel `{kernel}` must compile on this device: {message}")]
    Kernel {
        /// Name of the kernel.
        kernel: &'static str,
        /// What the compiler said.
        message: String,
    },
    /// A dispatch sets a constant that the kernel does not list.
    #[error("the kernel `{kernel}` has no constant `{constant}`")]
    UnknownConstant {
        /// Name of the kernel.
        kernel: &'static str,
        /// Name of the constant.
        constant: &'static str,
    },
    /// A constant of a dispatch is infinite or NaN.
    #[error("the constant `{constant}` of the kernel `{kernel}` must be finite")]
    ConstantNotFinite {
        /// Name of the kernel.
        kernel: &'static str,
        /// Name of the constant.
        constant: &'static str,
    },
    /// The parameters do not have the size that the kernel states, or that size is above what the ring holds.
    #[error("the parameters of the kernel `{kernel}` must have {expected} bytes (and at most {max}), got {got}", max = crate::kernel::MAX_PARAMS)]
    ParamsSize {
        /// Name of the kernel.
        kernel: &'static str,
        /// The kernel's `params_size`.
        expected: usize,
        /// Size of what was passed.
        got: usize,
    },
    /// A dispatch brings too few or too many tensors.
    #[error("the kernel `{kernel}` must get {expected} bindings, got {got}")]
    BindingCount {
        /// Name of the kernel.
        kernel: &'static str,
        /// Length of the kernel's `bindings`.
        expected: usize,
        /// Number of tensors.
        got: usize,
    },
    /// A kernel has more storage bindings than the device allows.
    #[error(
        "the kernel `{kernel}` must have at most {limit} storage bindings on this device, got {got}"
    )]
    TooManyBindings {
        /// Name of the kernel.
        kernel: &'static str,
        /// Limit of the device.
        limit: u32,
        /// Length of the kernel's `bindings`.
        got: usize,
    },
    /// A tensor is passed as `read` where the kernel writes, or the other way round.
    #[error("binding {binding} of the kernel `{kernel}` must be passed as {expected}")]
    BindingAccess {
        /// Name of the kernel.
        kernel: &'static str,
        /// Number of the binding in the shader (the first tensor is 1).
        binding: usize,
        /// What the kernel does with it.
        expected: Access,
    },
    /// Two bindings of one dispatch share a buffer, and one of them is written.
    #[error(
        "{operation} must not write what it also binds elsewhere: bindings {first} and {second} share a buffer"
    )]
    Aliasing {
        /// Name of the kernel, or `copy`.
        operation: &'static str,
        /// Number of the first binding.
        first: usize,
        /// Number of the second one.
        second: usize,
    },
    /// A tensor, or a recorder, belongs to another device.
    #[error(
        "all tensors of {operation} must be on the device of the recorder; binding {binding} is on another one"
    )]
    OtherDevice {
        /// Name of the kernel, or `copy`.
        operation: &'static str,
        /// Number of the binding.
        binding: usize,
    },
    /// The constant `WORKGROUP_SIZE` is not a number of invocations that the device can run in a workgroup.
    #[error(
        "WORKGROUP_SIZE of the kernel `{kernel}` must be a whole number in 1..={limit} on this device, got {got}"
    )]
    WorkgroupSize {
        /// Name of the kernel.
        kernel: &'static str,
        /// Limit of the device.
        limit: u32,
        /// What was passed.
        got: f64,
    },
    /// A kernel declares more workgroup memory than the device has.
    #[error(
        "the kernel `{kernel}` must use at most {limit} bytes of workgroup memory on this device, got {got}"
    )]
    WorkgroupMemory {
        /// Name of the kernel.
        kernel: &'static str,
        /// Limit of the device.
        limit: u32,
        /// What the kernel declares.
        got: u32,
    },
    /// A grid has too many workgroups in one dimension.
    #[error("a grid must have at most {limit} workgroups in each dimension, got {got:?}")]
    Grid {
        /// The limit.
        limit: u32,
        /// Workgroups in x, y and z.
        got: [usize; 3],
    },
    /// A linear grid has more items than a shader can count, or no items for a workgroup.
    #[error(
        "a linear grid must have at most 2^32 - 1 items and at least 1 item for each workgroup, got {items} items, {items_per_workgroup} for each"
    )]
    GridItems {
        /// Number of items.
        items: usize,
        /// Items that one workgroup does.
        items_per_workgroup: u32,
    },
    /// There are more or fewer elements than the shape says.
    #[error("the shape {shape:?} must hold {got} elements")]
    Len {
        /// The shape.
        shape: Vec<usize>,
        /// The number of elements that are there.
        got: usize,
    },
    /// The two tensors of a copy differ in shape.
    #[error("the target of a copy must have the shape {expected:?}, got {got:?}")]
    CopyShape {
        /// Shape of the source.
        expected: Vec<usize>,
        /// Shape of the target.
        got: Vec<usize>,
    },
    /// The recording was not made by a timed recorder.
    #[error("timings must come from a recording of `timed_recorder`")]
    NotTimed,
    /// A buffer could not be mapped for reading.
    #[error("the buffer must be readable from the host: {reason}")]
    Map {
        /// What the driver said.
        reason: String,
    },
    /// The driver found a mistake that this crate should have found first, or failed inside.
    #[error("the device refused to {task}: {message}")]
    Device {
        /// What it should have done.
        task: &'static str,
        /// What it said.
        message: String,
    },
}

impl GpuError {
    /// What an error of wgpu means, when it came while the device should do `task`.
    pub(crate) fn from_wgpu(error: &wgpu::Error, task: &'static str, bytes: Option<u64>) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory { task, bytes },
            wgpu::Error::Validation { description, .. }
            | wgpu::Error::Internal { description, .. } => Self::Device {
                task,
                message: description.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Software Vulkan has memory without end until it is touched, so the mapping is tested instead of the event.
    #[test]
    fn out_of_memory_keeps_its_kind_and_its_size() {
        let error = wgpu::Error::OutOfMemory {
            source: "no memory".into(),
        };
        let error = GpuError::from_wgpu(&error, "make a buffer", Some(12));
        let want = GpuError::OutOfMemory {
            task: "make a buffer",
            bytes: Some(12),
        };
        assert_eq!(error, want);
        assert_eq!(
            error.to_string(),
            "the device is out of memory while it should make a buffer of 12 bytes"
        );
    }

    #[test]
    fn other_errors_keep_their_text() {
        for error in [
            wgpu::Error::Validation {
                source: "x".into(),
                description: "said".to_owned(),
            },
            wgpu::Error::Internal {
                source: "x".into(),
                description: "said".to_owned(),
            },
        ] {
            let want = GpuError::Device {
                task: "submit",
                message: "said".to_owned(),
            };
            assert_eq!(GpuError::from_wgpu(&error, "submit", None), want);
        }
    }
}
