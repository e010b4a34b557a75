//! What a device can do.

use crate::Needs;

/// What a device can do. Faster variants of kernels are chosen by it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Name of the adapter.
    pub name: String,
    /// Name and version of the driver, as far as it tells.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12`, `webgpu`, or `noop` in tests.
    pub backend: &'static str,
    /// True if it computes on the CPU. Its times say nothing about real devices.
    pub software: bool,
    /// Smallest and largest size of a subgroup, if subgroup operations can be used.
    pub subgroups: Option<(u32, u32)>,
    /// True if shaders may compute in f16.
    pub f16: bool,
    /// True if timestamp queries can be made.
    pub timestamps: bool,
    /// The shapes of cooperative matrices, if they were asked for.
    pub cooperative_matrices: Vec<CooperativeMatrix>,
    /// Sizes that must not be exceeded.
    pub limits: Limits,
}

impl Capabilities {
    /// True if a kernel with these needs can run: features and workgroup memory.
    #[must_use]
    pub fn meets(&self, needs: &Needs) -> bool {
        self.lacks(needs).is_none() && needs.workgroup_bytes <= self.limits.workgroup_bytes
    }

    /// The first feature that is needed and not there.
    pub(crate) fn lacks(&self, needs: &Needs) -> Option<&'static str> {
        [
            (needs.subgroups && self.subgroups.is_none(), "subgroups"),
            (needs.f16 && !self.f16, "f16"),
            (
                needs.cooperative_matrix && self.cooperative_matrices.is_empty(),
                "cooperative matrices",
            ),
        ]
        .into_iter()
        .find_map(|(lacks, feature)| lacks.then_some(feature))
    }
}

/// Sizes that must not be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one storage binding, and so of one tensor.
    pub binding_bytes: u64,
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Storage bindings of one kernel.
    pub storage_bindings: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of one workgroup.
    pub workgroup_invocations: u32,
    /// Workgroups in each dimension of a grid.
    pub workgroups: u32,
}

/// One shape of a cooperative matrix product, `[m, k] · [k, n] + [m, n]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CooperativeMatrix {
    /// Rows of the left factor.
    pub m: u32,
    /// Columns of the right factor.
    pub n: u32,
    /// Columns of the left factor.
    pub k: u32,
    /// Element type of the factors, as `F16`.
    pub factors: String,
    /// Element type of the sum, as `F32`.
    pub sum: String,
}

/// What a device with these features and limits can do.
pub(crate) fn of(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    limits: &wgpu::Limits,
) -> Capabilities {
    let info = adapter.get_info();
    let matrices = match features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // wgpu's device without a driver has nobody to ask: the shape that NVIDIA's cards have.
        true if info.backend == wgpu::Backend::Noop => {
            vec![wgpu::CooperativeMatrixProperties {
                m_size: 16,
                n_size: 16,
                k_size: 16,
                ab_type: wgpu::CooperativeScalarType::F16,
                cr_type: wgpu::CooperativeScalarType::F32,
                saturating_accumulation: false,
            }]
        }
        true => adapter.cooperative_matrix_properties(),
        false => Vec::new(),
    };
    Capabilities {
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        backend: match info.backend {
            wgpu::Backend::Noop => "noop",
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            wgpu::Backend::Gl => "gl",
            wgpu::Backend::BrowserWebGpu => "webgpu",
        },
        software: info.device_type == wgpu::DeviceType::Cpu,
        subgroups: features
            .contains(wgpu::Features::SUBGROUP)
            .then_some((info.subgroup_min_size, info.subgroup_max_size)),
        f16: features.contains(wgpu::Features::SHADER_F16),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        cooperative_matrices: matrices
            .iter()
            .map(|matrix| CooperativeMatrix {
                m: matrix.m_size,
                n: matrix.n_size,
                k: matrix.k_size,
                factors: format!("{:?}", matrix.ab_type),
                sum: format!("{:?}", matrix.cr_type),
            })
            .collect(),
        limits: Limits {
            // Shaders count words in u32.
            binding_bytes: limits
                .max_storage_buffer_binding_size
                .min(u64::from(u32::MAX) & !3),
            buffer_bytes: limits.max_buffer_size,
            storage_bindings: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            workgroups: limits.max_compute_workgroups_per_dimension,
        },
    }
}
