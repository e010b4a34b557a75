//! Compiled kernels, kept for the life of the device.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use crate::kernel::{Access, MAX_PARAMS};
use crate::sync::lock;
use crate::{Gpu, GpuError, Kernel, Target, scope};

/// A kernel that is compiled with certain constants.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// The compiled kernels of a device.
#[derive(Debug, Default)]
pub(crate) struct Pipelines(Mutex<HashMap<Key, Arc<Pipeline>>>);

/// The address of the kernel and the bits of its constants.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    kernel: usize,
    constants: Vec<(&'static str, u64)>,
}

/// The kernel compiled with these constants, now or earlier.
pub(crate) fn get(
    gpu: &Gpu,
    kernel: &'static Kernel,
    constants: &[(&'static str, f64)],
) -> Result<Arc<Pipeline>, GpuError> {
    let key = Key {
        kernel: std::ptr::from_ref(kernel).addr(),
        constants: constants
            .iter()
            .map(|(name, value)| (*name, value.to_bits()))
            .collect(),
    };
    if let Some(pipeline) = lock(&gpu.pipelines().0).get(&key) {
        return Ok(Arc::clone(pipeline));
    }
    // Without the lock: other threads compile theirs meanwhile. If two compile the same one, the first stays.
    let pipeline = compile(gpu, kernel, constants)?;
    let mut pipelines = lock(&gpu.pipelines().0);
    Ok(Arc::clone(
        pipelines.entry(key).or_insert_with(|| Arc::new(pipeline)),
    ))
}

fn compile(
    gpu: &Gpu,
    kernel: &'static Kernel,
    constants: &[(&'static str, f64)],
) -> Result<Pipeline, GpuError> {
    let device = gpu.device();
    let label = Some(kernel.name);
    let compiled = scope::run(gpu, "compile a kernel", None, || {
        // Explicit: a layout that wgpu derives would leave out what a variant does not use.
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &layout_entries(kernel),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(Cow::Owned(kernel.compose(Target::HERE))),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Kernels write workgroup memory before they read it; clearing it would cost time in each workgroup.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    });
    compiled.map_err(|error| match error {
        GpuError::Device { message, .. } => GpuError::Kernel {
            kernel: kernel.name,
            message,
        },
        other => other,
    })
}

/// Binding 0 the parameters, a slot of the ring; then the tensors.
fn layout_entries(kernel: &Kernel) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding, ty, has_dynamic_offset, min| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset,
            min_binding_size: NonZeroU64::new(min),
        },
        count: None,
    };
    let params = entry(
        0,
        wgpu::BufferBindingType::Uniform,
        true,
        kernel.params_size.min(MAX_PARAMS) as u64,
    );
    let tensors = kernel.bindings.iter().zip(1..).map(|(access, binding)| {
        let read_only = *access == Access::Read;
        let ty = wgpu::BufferBindingType::Storage { read_only };
        entry(binding, ty, false, 0)
    });
    std::iter::once(params).chain(tensors).collect()
}
