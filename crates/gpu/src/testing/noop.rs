//! Devices that do everything but compute: wgpu checks each call, and no driver is needed.

use super::fault::{Fault, Rule};
use crate::{Gpu, GpuError, GpuOptions, Kernel, pipeline};

/// A kind of device that kernels are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// What every WebGPU device has to have, and nothing more.
    WebMinimum,
    /// Mesa's software Vulkan (lavapipe 25): subgroups of 8, f16, 128 MiB a binding.
    SoftwareVulkan,
    /// A large NVIDIA card: subgroups of 32, f16, cooperative matrices 16 × 16 × 16, 2 GiB a binding.
    LargeNvidia,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebMinimum, Self::SoftwareVulkan, Self::LargeNvidia];

    fn features(self) -> wgpu::Features {
        use wgpu::Features as F;
        match self {
            Self::WebMinimum => F::empty(),
            Self::SoftwareVulkan => F::SUBGROUP | F::SHADER_F16 | F::TIMESTAMP_QUERY,
            Self::LargeNvidia => {
                F::SUBGROUP
                    | F::SHADER_F16
                    | F::TIMESTAMP_QUERY
                    | F::EXPERIMENTAL_COOPERATIVE_MATRIX
            }
        }
    }

    fn subgroup_size(self) -> Option<u32> {
        match self {
            Self::WebMinimum => None,
            Self::SoftwareVulkan => Some(8),
            Self::LargeNvidia => Some(32),
        }
    }

    fn limits(self) -> wgpu::Limits {
        let web = wgpu::Limits::defaults();
        match self {
            Self::WebMinimum => web,
            Self::SoftwareVulkan => wgpu::Limits {
                max_storage_buffers_per_shader_stage: 32,
                max_buffer_size: (2 << 30) - 1,
                max_compute_workgroup_storage_size: 32 << 10,
                max_compute_invocations_per_workgroup: 1024,
                max_compute_workgroup_size_x: 1024,
                max_compute_workgroup_size_y: 1024,
                max_compute_workgroup_size_z: 1024,
                ..web
            },
            Self::LargeNvidia => wgpu::Limits {
                max_storage_buffers_per_shader_stage: 1024,
                max_storage_buffer_binding_size: (2 << 30) - 4,
                max_buffer_size: 1 << 40,
                max_compute_workgroup_storage_size: 48 << 10,
                max_compute_invocations_per_workgroup: 1024,
                max_compute_workgroup_size_x: 1024,
                max_compute_workgroup_size_y: 1024,
                max_compute_workgroup_size_z: 64,
                ..web
            },
        }
    }
}

/// A device that checks every call and computes nothing: downloads give zeros, or what was uploaded.
///
/// # Errors
///
/// [`GpuError::NoAdapter`] or [`GpuError::DeviceRefused`] if wgpu cannot imitate the profile.
pub fn noop(profile: Profile) -> Result<Gpu, GpuError> {
    let noop = wgpu::NoopBackendOptions {
        enable: true,
        limits: Some(profile.limits()),
        features: Some(profile.features()),
        device_type: (profile == Profile::SoftwareVulkan).then_some(wgpu::DeviceType::Cpu),
        subgroup_min_size: profile.subgroup_size(),
        subgroup_max_size: profile.subgroup_size(),
    };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::NOOP,
        backend_options: wgpu::BackendOptions {
            noop,
            ..Default::default()
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let options = GpuOptions {
        cooperative_matrices: true,
        ..GpuOptions::default()
    };
    pollster::block_on(async {
        let request = wgpu::RequestAdapterOptions::default();
        let adapter = instance.request_adapter(&request).await;
        let adapter = adapter.map_err(|error| GpuError::NoAdapter {
            reason: error.to_string(),
        })?;
        Gpu::from_adapter(&adapter, &options).await
    })
}

/// Builds each kernel, with the defaults of its constants, under every profile that has what it needs. A core kernel is built under all.
#[must_use]
pub fn build_on_noop(kernels: &[&'static Kernel]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |kernel: &Kernel, message| {
        faults.push(Fault {
            kernel: kernel.name,
            rule: Rule::Build,
            message,
        });
    };
    let mut built = vec![false; kernels.len()];
    for profile in Profile::ALL {
        let gpu = match noop(profile) {
            Ok(gpu) => gpu,
            Err(error) => {
                for kernel in kernels {
                    add(kernel, format!("{profile:?}: {error}"));
                }
                continue;
            }
        };
        for (kernel, built) in kernels.iter().zip(&mut built) {
            let capabilities = gpu.capabilities();
            if !kernel.needs.is_core() && !capabilities.meets(&kernel.needs) {
                continue;
            }
            *built = true;
            let limits = &capabilities.limits;
            if kernel.bindings.len() > limits.storage_bindings as usize {
                add(
                    kernel,
                    format!(
                        "{profile:?}: at most {} storage bindings, got {}",
                        limits.storage_bindings,
                        kernel.bindings.len()
                    ),
                );
            } else if kernel.needs.workgroup_bytes > limits.workgroup_bytes {
                add(
                    kernel,
                    format!(
                        "{profile:?}: at most {} bytes of workgroup memory, got {}",
                        limits.workgroup_bytes, kernel.needs.workgroup_bytes
                    ),
                );
            } else if let Err(error) = pipeline::get(&gpu, kernel, &[]) {
                add(kernel, format!("{profile:?}: {error}"));
            }
        }
    }
    for (kernel, built) in kernels.iter().zip(built) {
        if !built {
            add(
                kernel,
                "it needs more than any profile has, so nothing was checked".to_owned(),
            );
        }
    }
    faults
}
