//! Collects dispatches of any crate's kernels into one submission.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytemuck::Pod;

use crate::device::RING_SLOTS;
use crate::element::GpuElement;
use crate::grid::Grid;
use crate::kernel::{self, Access, Kernel, MAX_PARAMS};
use crate::pipeline::{self, Pipeline};
use crate::storage::{Storage, size_class};
use crate::sync::lock;
use crate::tensor::Binding;
use crate::timing::Stopwatch;
use crate::{Gpu, GpuError, GpuTensor, Submission, scope};

/// A recording: dispatches in order, which run when [`submit`](Recorder::submit) is called. Each sees what the ones before it wrote.
///
/// Ops of all crates take `&mut Recorder` and record, so that a whole model runs without a round trip to the host. A recording that
/// is dropped does not run, but for the part that was already sent: after each 1024 dispatches the recorder submits by itself.
#[must_use = "nothing runs before `submit`"]
pub struct Recorder {
    gpu: Gpu,
    // The pass before its encoder: dropped in this order.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    /// Parameter blocks of the dispatches since the last submission, one slot each.
    params: Vec<u8>,
    /// Every buffer that a dispatch since the last submission uses: none of them may go back to the pool before (see `storage`). The
    /// key is the address of the handle, which stays while the handle is here.
    held: HashMap<usize, Arc<Storage>>,
    stopwatch: Option<Stopwatch>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("gpu", &self.gpu.capabilities().name)
            .field("dispatches", &(self.params.len() / MAX_PARAMS))
            .field("timed", &self.stopwatch.is_some())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    pub(crate) fn new(gpu: Gpu, timed: bool) -> Self {
        Self {
            gpu,
            pass: None,
            encoder: None,
            params: Vec::new(),
            held: HashMap::new(),
            stopwatch: timed.then(Stopwatch::default),
        }
    }

    /// The device that it records for.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// A fresh tensor for a result. Its contents are undefined until a kernel has written them, all of them.
    ///
    /// # Errors
    ///
    /// As [`Gpu::zeros`].
    pub fn output<T: GpuElement>(&self, shape: &[usize]) -> Result<GpuTensor<T>, GpuError> {
        let storage = self.gpu.storage(self.gpu.buffer_bytes::<T>(shape)?)?;
        Ok(GpuTensor::new(storage, shape))
    }

    /// A tensor for an intermediate result, with undefined contents. Its buffer may have served before, and serves again when the last
    /// handle on it is dropped: within this recording at once, in others after this one was submitted.
    ///
    /// # Errors
    ///
    /// As [`Gpu::zeros`].
    ///
    /// # Example
    ///
    /// ```
    /// # use llm_gpu::{Gpu, GpuError, GpuOptions};
    /// # let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
    /// #     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
    /// #     gpu => gpu?,
    /// # };
    /// let mut recorder = gpu.recorder();
    /// let scores = recorder.scratch::<f32>(&[4, 1000])?; // filled by one kernel, read by the next
    /// assert_eq!(scores.shape(), [4, 1000]);
    /// drop(scores); // the next scratch tensor of about this size may have its buffer
    /// let weights = recorder.scratch::<f32>(&[4, 1000])?;
    /// # let _ = weights;
    /// # Ok::<(), GpuError>(())
    /// ```
    pub fn scratch<T: GpuElement>(&mut self, shape: &[usize]) -> Result<GpuTensor<T>, GpuError> {
        let bytes = self.gpu.buffer_bytes::<T>(shape)?;
        let class = size_class(bytes, self.gpu.capabilities().limits.buffer_bytes);
        // Held by nobody but us: no tensor is left, no other recording has it. It stays so while we look: `&mut self`.
        let own = self.held.values().find(|storage| {
            storage.is_pooled() && storage.buffer.size() == class && Arc::strong_count(storage) == 1
        });
        let storage = match own {
            Some(storage) => Arc::clone(storage),
            None => self.gpu.scratch(bytes)?,
        };
        Ok(GpuTensor::new(storage, shape))
    }

    /// Records one run of a kernel. `bindings` are the tensors in the order of the kernel's `bindings`.
    ///
    /// If it returns an error, nothing was recorded, and the recorder can go on.
    ///
    /// # Errors
    ///
    /// What the kernel does not allow: [`GpuError::BindingCount`], [`GpuError::BindingAccess`], [`GpuError::Aliasing`],
    /// [`GpuError::ParamsSize`], [`GpuError::UnknownConstant`], [`GpuError::ConstantNotFinite`]; what the device does not:
    /// [`GpuError::UnsupportedFeature`], [`GpuError::TooManyBindings`], [`GpuError::WorkgroupSize`], [`GpuError::WorkgroupMemory`], [`GpuError::Grid`],
    /// [`GpuError::OtherDevice`]; [`GpuError::Kernel`] if it does not compile; and when the ring of parameters is full, the errors of
    /// [`Recorder::submit`].
    ///
    /// # Example
    ///
    /// ```
    /// use llm_gpu::{Access, Grid, Kernel, Needs};
    /// # use llm_gpu::{Gpu, GpuError, GpuOptions};
    ///
    /// static DOUBLE: Kernel = Kernel {
    ///     name: "double", // the entry point
    ///     source: "
    ///         @group(0) @binding(1) var<storage, read_write> x: array<f32>;
    ///         @compute @workgroup_size(64)
    ///         fn double(@builtin(global_invocation_id) id: vec3<u32>) {
    ///             if id.x < arrayLength(&x) { x[id.x] = 2.0 * x[id.x]; }
    ///         }",
    ///     snippets: &[],
    ///     bindings: &[Access::Write],
    ///     params_size: 0, // no parameters
    ///     constants: &[],
    ///     needs: Needs::CORE,
    /// };
    ///
    /// # let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
    /// #     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
    /// #     gpu => gpu?,
    /// # };
    /// let x = gpu.upload(&ndarray::array![1.0_f32, 2.0, 3.0])?;
    /// let mut recorder = gpu.recorder();
    /// recorder.dispatch(&DOUBLE, &[], &(), &[x.write()], Grid::linear(3, 64)?)?;
    /// recorder.submit()?;
    /// assert_eq!(x.download_blocking()?, ndarray::array![2.0, 4.0, 6.0].into_dyn());
    /// # Ok::<(), GpuError>(())
    /// ```
    pub fn dispatch<P: Pod>(
        &mut self,
        kernel: &'static Kernel,
        constants: &[(&'static str, f64)],
        params: &P,
        bindings: &[Binding<'_>],
        grid: Grid,
    ) -> Result<(), GpuError> {
        self.check_bindings(kernel, bindings)?;
        self.check_device(kernel, grid)?;
        self.check_constants(kernel, constants)?;
        let params = bytemuck::bytes_of(params);
        if params.len() != kernel.params_size || params.len() > MAX_PARAMS {
            return Err(GpuError::ParamsSize {
                kernel: kernel.name,
                expected: kernel.params_size,
                got: params.len(),
            });
        }
        if grid.is_empty() {
            return Ok(());
        }
        self.gpu.faults().check()?;
        let pipeline = pipeline::get(&self.gpu, kernel, constants)?;
        if self.params.len() == RING_SLOTS * MAX_PARAMS {
            self.flush()?;
        }
        let bind_group = self.bind_group(kernel, &pipeline, bindings);
        let offset = self.params.len();
        self.params.extend_from_slice(params);
        self.params.resize(offset + MAX_PARAMS, 0);
        for binding in bindings {
            self.hold(binding.storage);
        }
        let pass = self.pass(kernel.name);
        pass.set_pipeline(&pipeline.pipeline);
        // The ring is far below 4 GiB.
        pass.set_bind_group(0, &bind_group, &[offset as u32]);
        let [x, y, z] = grid.workgroups();
        pass.dispatch_workgroups(x, y, z);
        if self.stopwatch.is_some() {
            // One pass for each dispatch: timestamps are taken where a pass begins and ends.
            self.pass = None;
        }
        Ok(())
    }

    /// Records a copy of all elements.
    ///
    /// # Errors
    ///
    /// [`GpuError::CopyShape`] if the shapes differ, [`GpuError::Aliasing`] if both share a buffer, [`GpuError::OtherDevice`].
    ///
    /// # Example
    ///
    /// ```
    /// # use llm_gpu::{Gpu, GpuError, GpuOptions};
    /// # let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
    /// #     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
    /// #     gpu => gpu?,
    /// # };
    /// let x = gpu.upload(&ndarray::array![1_u32, 2])?;
    /// let kept = gpu.zeros::<u32>(&[2])?;
    /// let mut recorder = gpu.recorder();
    /// recorder.copy(&x, &kept)?; // before later kernels of this recording write to x
    /// recorder.submit()?;
    /// assert_eq!(kept.download_blocking()?, ndarray::array![1, 2].into_dyn());
    /// # Ok::<(), GpuError>(())
    /// ```
    pub fn copy<T: GpuElement>(
        &mut self,
        source: &GpuTensor<T>,
        target: &GpuTensor<T>,
    ) -> Result<(), GpuError> {
        let operation = "copy";
        for (tensor, binding) in [(source, 1), (target, 2)] {
            if !tensor.gpu().same_device(&self.gpu) {
                return Err(GpuError::OtherDevice { operation, binding });
            }
        }
        if source.shape() != target.shape() {
            return Err(GpuError::CopyShape {
                expected: source.shape().to_vec(),
                got: target.shape().to_vec(),
            });
        }
        if Arc::ptr_eq(source.storage(), target.storage()) {
            return Err(GpuError::Aliasing {
                operation,
                first: 1,
                second: 2,
            });
        }
        if source.is_empty() {
            return Ok(());
        }
        self.gpu.faults().check()?;
        self.hold(source.storage());
        self.hold(target.storage());
        self.pass = None;
        let (from, to) = (&source.storage().buffer, &target.storage().buffer);
        self.encoder()
            .copy_buffer_to_buffer(from, 0, to, 0, source.bytes());
        Ok(())
    }

    /// Sends everything off. The device works while the host goes on; `download` waits for it.
    ///
    /// # Errors
    ///
    /// [`GpuError::DeviceLost`], [`GpuError::OutOfMemory`], or [`GpuError::Device`] if the driver refuses the recording.
    pub fn submit(mut self) -> Result<Submission, GpuError> {
        self.flush()?;
        Ok(Submission::new(
            self.gpu.clone(),
            self.stopwatch.take().map(Stopwatch::stop),
        ))
    }

    /// Submits what was recorded since the last submission.
    fn flush(&mut self) -> Result<(), GpuError> {
        self.pass = None;
        self.gpu.faults().check()?;
        let Some(mut encoder) = self.encoder.take() else {
            return Ok(());
        };
        let gpu = &self.gpu;
        let (params, stopwatch) = (&self.params, &mut self.stopwatch);
        let submitted = scope::run(gpu, "run a recording", None, || {
            if let Some(stopwatch) = stopwatch {
                stopwatch.resolve(gpu, &mut encoder);
            }
            let commands = encoder.finish();
            // Writes to the ring take effect before the next submission, whoever makes it: ours has to be the next that reads it.
            let _turn = lock(gpu.ring_turn());
            if !params.is_empty() {
                gpu.queue().write_buffer(gpu.ring(), 0, params);
            }
            gpu.queue().submit([commands]);
        });
        self.params.clear();
        self.held.clear();
        submitted
    }

    /// Number, access, device, limits and aliasing of the tensors.
    fn check_bindings(&self, kernel: &Kernel, bindings: &[Binding<'_>]) -> Result<(), GpuError> {
        let name = kernel.name;
        if bindings.len() != kernel.bindings.len() {
            return Err(GpuError::BindingCount {
                kernel: name,
                expected: kernel.bindings.len(),
                got: bindings.len(),
            });
        }
        for (i, (binding, expected)) in bindings.iter().zip(kernel.bindings).enumerate() {
            if !binding.storage.gpu.same_device(&self.gpu) {
                return Err(GpuError::OtherDevice {
                    operation: name,
                    binding: i + 1,
                });
            }
            if binding.access != *expected {
                return Err(GpuError::BindingAccess {
                    kernel: name,
                    binding: i + 1,
                    expected: *expected,
                });
            }
            for (j, other) in bindings[..i].iter().enumerate() {
                let written = binding.access == Access::Write || other.access == Access::Write;
                if written && Arc::ptr_eq(binding.storage, other.storage) {
                    return Err(GpuError::Aliasing {
                        operation: name,
                        first: j + 1,
                        second: i + 1,
                    });
                }
            }
        }
        Ok(())
    }

    /// What the kernel and the grid ask of the device.
    fn check_device(&self, kernel: &Kernel, grid: Grid) -> Result<(), GpuError> {
        let capabilities = self.gpu.capabilities();
        let limits = &capabilities.limits;
        let name = kernel.name;
        if let Some(feature) = capabilities.lacks(&kernel.needs) {
            return Err(GpuError::UnsupportedFeature {
                feature,
                what: name,
            });
        }
        if kernel.bindings.len() > limits.storage_bindings as usize {
            return Err(GpuError::TooManyBindings {
                kernel: name,
                limit: limits.storage_bindings,
                got: kernel.bindings.len(),
            });
        }
        if kernel.needs.workgroup_bytes > limits.workgroup_bytes {
            return Err(GpuError::WorkgroupMemory {
                kernel: name,
                limit: limits.workgroup_bytes,
                got: kernel.needs.workgroup_bytes,
            });
        }
        let workgroups = grid.workgroups();
        if workgroups.iter().any(|n| *n > limits.workgroups) {
            return Err(GpuError::Grid {
                limit: limits.workgroups,
                got: workgroups.map(|n| n as usize),
            });
        }
        Ok(())
    }

    fn check_constants(
        &self,
        kernel: &Kernel,
        constants: &[(&'static str, f64)],
    ) -> Result<(), GpuError> {
        for &(constant, value) in constants {
            if !kernel.constants.contains(&constant) {
                return Err(GpuError::UnknownConstant {
                    kernel: kernel.name,
                    constant,
                });
            }
            if !value.is_finite() {
                return Err(GpuError::ConstantNotFinite {
                    kernel: kernel.name,
                    constant,
                });
            }
            // wgpu looks at the size before constants are filled in, and a driver may crash on what it lets through.
            let limit = self.gpu.capabilities().limits.workgroup_invocations;
            let whole = value.fract() == 0.0 && value >= 1.0 && value <= f64::from(limit);
            if constant == kernel::WORKGROUP_SIZE && !whole {
                return Err(GpuError::WorkgroupSize {
                    kernel: kernel.name,
                    limit,
                    got: value,
                });
            }
        }
        Ok(())
    }

    fn bind_group(
        &self,
        kernel: &Kernel,
        pipeline: &Pipeline,
        bindings: &[Binding<'_>],
    ) -> wgpu::BindGroup {
        let entry = |binding, buffer, bytes| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: std::num::NonZeroU64::new(bytes),
            }),
        };
        let params = entry(0, self.gpu.ring(), MAX_PARAMS as u64);
        // A scratch buffer may be longer than its tensor: what is bound ends where the tensor ends.
        let tensors = bindings
            .iter()
            .zip(1..)
            .map(|(binding, number)| entry(number, &binding.storage.buffer, binding.bytes));
        let entries: Vec<_> = std::iter::once(params).chain(tensors).collect();
        let device = self.gpu.device();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &pipeline.layout,
            entries: &entries,
        })
    }

    fn hold(&mut self, storage: &Arc<Storage>) {
        self.held
            .entry(Arc::as_ptr(storage).addr())
            .or_insert_with(|| Arc::clone(storage));
    }

    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        let device = self.gpu.device();
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }

    /// The open pass, or a new one.
    fn pass(&mut self, name: &'static str) -> &mut wgpu::ComputePass<'static> {
        let gpu = self.gpu.clone();
        let encoder = self
            .encoder
            .get_or_insert_with(|| gpu.device().create_command_encoder(&Default::default()));
        let stopwatch = &mut self.stopwatch;
        self.pass.get_or_insert_with(|| {
            let timestamp_writes = stopwatch.as_mut().map(|watch| watch.begin(&gpu, name));
            let descriptor = wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: timestamp_writes.as_ref().map(|(set, first)| {
                    wgpu::ComputePassTimestampWrites {
                        query_set: set,
                        beginning_of_pass_write_index: Some(*first),
                        end_of_pass_write_index: Some(first + 1),
                    }
                }),
            };
            encoder.begin_compute_pass(&descriptor).forget_lifetime()
        })
    }
}
