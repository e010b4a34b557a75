//! The device: made once, shared by all tensors and recorders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ndarray::{ArrayRef, Dimension};

use crate::adapters::instance;
use crate::capabilities::{self, Capabilities};
use crate::element::{GpuElement, padded_bytes};
use crate::faults::Faults;
use crate::kernel::MAX_PARAMS;
use crate::options::{GpuOptions, Power};
use crate::pipeline::Pipelines;
use crate::storage::{Pool, Storage, size_class};
use crate::{GpuError, GpuTensor, Recorder, experimental, scope};

/// Parameter blocks in the ring: a recorder submits by itself when it has so many dispatches.
pub(crate) const RING_SLOTS: usize = 1024;

/// Bytes that may wait in staging memory before they are sent off: while weights are loaded, memory would be needed twice.
const MOST_STAGED: u64 = 256 << 20;

/// A GPU device with everything that is made once: queue, compiled kernels, parameter ring, scratch buffers.
///
/// Cloning is cheap and gives the same device. Tensors and recorders hold on to theirs.
///
/// # Example
///
/// ```no_run
/// use llm_gpu::{Gpu, GpuOptions};
///
/// let gpu = Gpu::new_blocking(&GpuOptions::default())?;
/// println!("{} by {}", gpu.capabilities().name, gpu.capabilities().backend);
/// # Ok::<(), llm_gpu::GpuError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    capabilities: Capabilities,
    faults: Arc<Faults>,
    pipelines: Pipelines,
    pool: Pool,
    ring: wgpu::Buffer,
    /// Held from the writing of the ring to the submission that reads it: two recorders must not mix.
    ring_turn: Mutex<()>,
    staged: AtomicU64,
}

impl Gpu {
    /// Asks for an adapter and its device.
    ///
    /// # Errors
    ///
    /// [`GpuError::NoAdapter`] without driver, without an adapter of that name, or in a browser without WebGPU;
    /// [`GpuError::DeviceRefused`] if the adapter gives no device.
    pub async fn new(options: &GpuOptions) -> Result<Self, GpuError> {
        let instance = instance();
        let adapter = match &options.adapter {
            Some(name) if !cfg!(target_arch = "wasm32") => named(&instance, name).await?,
            _ => {
                let power_preference = match options.power {
                    Power::High => wgpu::PowerPreference::HighPerformance,
                    Power::Low => wgpu::PowerPreference::LowPower,
                };
                let request = wgpu::RequestAdapterOptions {
                    power_preference,
                    ..Default::default()
                };
                let adapter = instance.request_adapter(&request).await;
                adapter.map_err(|error| GpuError::NoAdapter {
                    reason: error.to_string(),
                })?
            }
        };
        Self::from_adapter(&adapter, options).await
    }

    /// [`Gpu::new`], and waits for it.
    ///
    /// # Errors
    ///
    /// As [`Gpu::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new_blocking(options: &GpuOptions) -> Result<Self, GpuError> {
        pollster::block_on(Self::new(options))
    }

    pub(crate) async fn from_adapter(
        adapter: &wgpu::Adapter,
        options: &GpuOptions,
    ) -> Result<Self, GpuError> {
        use wgpu::Features as F;
        let mut features = adapter.features() & (F::SUBGROUP | F::SHADER_F16 | F::TIMESTAMP_QUERY);
        features.set(
            F::SUBGROUP,
            features.contains(F::SUBGROUP) && !options.mask.subgroups,
        );
        features.set(
            F::SHADER_F16,
            features.contains(F::SHADER_F16) && !options.mask.f16,
        );
        features.set(
            F::TIMESTAMP_QUERY,
            features.contains(F::TIMESTAMP_QUERY) && !options.mask.timestamps,
        );
        if options.cooperative_matrices {
            features |= adapter.features() & F::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let mut limits = adapter.limits();
        if options.mask.limits {
            limits = wgpu::Limits::defaults().or_worse_values_from(&limits);
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("llm-gpu"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: experimental::features(options.cooperative_matrices),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) =
            adapter
                .request_device(&descriptor)
                .await
                .map_err(|error| GpuError::DeviceRefused {
                    adapter: adapter.get_info().name,
                    reason: error.to_string(),
                })?;

        let faults = Arc::new(Faults::default());
        let lost = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            lost.lose(format!("{reason:?}: {message}"));
        });
        let late = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            late.add(GpuError::from_wgpu(&error, "do earlier work", None));
        }));
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameter ring"),
            size: (RING_SLOTS * MAX_PARAMS) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Ok(Self(Arc::new(Inner {
            capabilities: capabilities::of(adapter, features, &limits),
            device,
            queue,
            faults,
            pipelines: Pipelines::default(),
            pool: Pool::default(),
            ring,
            ring_turn: Mutex::default(),
            staged: AtomicU64::new(0),
        })))
    }

    /// What the device can do, after the mask of the options.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// True if both are the same device, not just two devices of one adapter.
    #[must_use]
    pub fn same_device(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Copies an array of any strides to the device, in the order of its indices.
    ///
    /// # Errors
    ///
    /// As [`Gpu::zeros`].
    ///
    /// # Example
    ///
    /// ```
    /// # use llm_gpu::GpuError;
    /// # fn on_a_device(gpu: &llm_gpu::Gpu) -> Result<(), GpuError> {
    /// let x = ndarray::array![[1.0_f32, 2.0], [3.0, 4.0]]; // [2, 2]
    /// let transposed = gpu.upload(&x.t())?.download_blocking()?;
    /// assert_eq!(transposed, x.t().into_dyn());
    /// # Ok(())
    /// # }
    /// ```
    pub fn upload<T: GpuElement, D: Dimension>(
        &self,
        array: &ArrayRef<T, D>,
    ) -> Result<GpuTensor<T>, GpuError> {
        if let Some(data) = array.as_slice() {
            return self.upload_slice(array.shape(), data);
        }
        // Before the copy on the host: a broadcast array may be larger than any memory.
        self.buffer_bytes::<T>(array.shape())?;
        let data: Vec<T> = array.iter().copied().collect();
        self.upload_slice(array.shape(), &data)
    }

    /// Copies elements to the device, the last axis fastest.
    ///
    /// # Errors
    ///
    /// [`GpuError::Len`] if the shape holds another number of elements, else as [`Gpu::zeros`].
    pub fn upload_slice<T: GpuElement>(
        &self,
        shape: &[usize],
        data: &[T],
    ) -> Result<GpuTensor<T>, GpuError> {
        let bytes = self.buffer_bytes::<T>(shape)?;
        if n_elements(shape)? != data.len() {
            return Err(GpuError::Len {
                shape: shape.to_vec(),
                got: data.len(),
            });
        }
        let storage = self.storage(bytes)?;
        let data: &[u8] = bytemuck::cast_slice(data);
        let (words, rest) = data.split_at(data.len() / 4 * 4);
        let task = "take the data of a tensor";
        scope::run(self, task, Some(bytes), || {
            // In pieces, so that staging memory stays bounded.
            for (i, piece) in words.chunks(MOST_STAGED as usize / 4).enumerate() {
                let offset = (i * (MOST_STAGED as usize / 4)) as u64;
                self.0.queue.write_buffer(&storage.buffer, offset, piece);
                self.stage(piece.len() as u64);
            }
            if !rest.is_empty() {
                let mut word = [0; 4];
                word[..rest.len()].copy_from_slice(rest);
                let offset = words.len() as u64;
                self.0.queue.write_buffer(&storage.buffer, offset, &word);
            }
        })?;
        Ok(GpuTensor::new(storage, shape))
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    ///
    /// [`GpuError::ShapeOverflow`] if the elements cannot be counted, [`GpuError::BufferTooLarge`] or
    /// [`GpuError::BindingTooLarge`] if the device cannot hold or bind them, [`GpuError::OutOfMemory`], [`GpuError::DeviceLost`].
    pub fn zeros<T: GpuElement>(&self, shape: &[usize]) -> Result<GpuTensor<T>, GpuError> {
        // A fresh buffer is all zeros by the rules of WebGPU.
        let storage = self.storage(self.buffer_bytes::<T>(shape)?)?;
        Ok(GpuTensor::new(storage, shape))
    }

    /// Begins a recording.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.clone(), false)
    }

    /// Begins a recording that measures each dispatch on the device. The dispatches do not overlap, so the whole takes longer.
    ///
    /// # Errors
    ///
    /// [`GpuError::UnsupportedFeature`] where there are no timestamp queries.
    ///
    /// # Example
    ///
    /// ```
    /// # use llm_gpu::{Access, Grid, Kernel, Needs};
    /// # use llm_gpu::{Gpu, GpuError, GpuOptions};
    /// # static DOUBLE: Kernel = Kernel {
    /// #     name: "double", // the entry point
    /// #     source: "
    /// #         @group(0) @binding(1) var<storage, read_write> x: array<f32>;
    /// #         @compute @workgroup_size(64)
    /// #         fn double(@builtin(global_invocation_id) id: vec3<u32>) {
    /// #             if id.x < arrayLength(&x) { x[id.x] = 2.0 * x[id.x]; }
    /// #         }",
    /// #     snippets: &[],
    /// #     bindings: &[Access::Write],
    /// #     params_size: 0, // no parameters
    /// #     constants: &[],
    /// #     needs: Needs::CORE,
    /// # };
    /// # let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
    /// #     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
    /// #     gpu => gpu?,
    /// # };
    /// if gpu.capabilities().timestamps {
    ///     let x = gpu.zeros::<f32>(&[1 << 16])?;
    ///     let mut recorder = gpu.timed_recorder()?;
    ///     recorder.dispatch(&DOUBLE, &[], &(), &[x.write()], Grid::linear(1 << 16, 64)?)?;
    ///     for time in recorder.submit()?.timings_blocking()? {
    ///         println!("{}: {} ns", time.kernel, time.nanoseconds);
    ///     }
    /// }
    /// # Ok::<(), GpuError>(())
    /// ```
    pub fn timed_recorder(&self) -> Result<Recorder, GpuError> {
        if self.0.capabilities.timestamps {
            Ok(Recorder::new(self.clone(), true))
        } else {
            Err(GpuError::UnsupportedFeature {
                feature: "timestamp queries",
                what: "timed_recorder",
            })
        }
    }

    /// Returns errors that came when no call waited for them: the loss of the device each time, any other once, the oldest first.
    ///
    /// On native platforms most errors are returned by the call that caused them. In browsers those of the compiler and of memory come
    /// later; `download` asks for them too.
    ///
    /// # Errors
    ///
    /// The late error.
    pub fn check(&self) -> Result<(), GpuError> {
        // Gives the driver a chance to report.
        scope::poll(self, wgpu::PollType::Poll)?;
        self.0.faults.check()
    }

    /// Frees the scratch buffers that no recording uses at the moment. They are kept for the next recordings otherwise, up to 256 MiB.
    pub fn free_scratch(&self) {
        self.0.pool.clear();
    }

    /// Number and bytes of the scratch buffers that no recording uses at the moment.
    #[must_use]
    pub fn idle_scratch(&self) -> (usize, u64) {
        self.0.pool.idle()
    }

    /// Gives the device up: everything on it is lost, and every later call returns [`GpuError::DeviceLost`]. Tests use it to see what a
    /// loss does; elsewhere dropping the last handle is enough.
    pub fn destroy(&self) {
        self.0.device.destroy();
        // The driver reports it as well, but only when it is asked.
        self.0.faults.lose("destroyed by its owner".to_owned());
    }

    /// A buffer of its own for a tensor; fresh ones are zero.
    pub(crate) fn storage(&self, bytes: u64) -> Result<Arc<Storage>, GpuError> {
        let buffer = self.buffer(bytes)?;
        Ok(Storage::new(self.clone(), buffer, false))
    }

    /// A buffer out of the pool, or a new one that will go there.
    pub(crate) fn scratch(&self, bytes: u64) -> Result<Arc<Storage>, GpuError> {
        self.0.faults.check()?;
        let class = size_class(bytes, self.0.capabilities.limits.buffer_bytes);
        let buffer = match self.0.pool.take(class) {
            Some(buffer) => buffer,
            None => self.buffer(class)?,
        };
        Ok(Storage::new(self.clone(), buffer, true))
    }

    fn buffer(&self, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        self.0.faults.check()?;
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        scope::run(self, "make a buffer", Some(bytes), || {
            self.0.device.create_buffer(&descriptor)
        })
    }

    /// Bytes of the buffer for a tensor, checked against the limits of the device.
    pub(crate) fn buffer_bytes<T: GpuElement>(&self, shape: &[usize]) -> Result<u64, GpuError> {
        let limits = &self.0.capabilities.limits;
        let bytes =
            padded_bytes::<T>(n_elements(shape)?).ok_or_else(|| GpuError::ShapeOverflow {
                shape: shape.to_vec(),
            })?;
        if bytes > limits.buffer_bytes {
            let limit = limits.buffer_bytes;
            return Err(GpuError::BufferTooLarge { bytes, limit });
        }
        if bytes > limits.binding_bytes {
            let limit = limits.binding_bytes;
            return Err(GpuError::BindingTooLarge { bytes, limit });
        }
        Ok(bytes)
    }

    /// Counts bytes that wait in staging memory, and sends them off when they are many.
    fn stage(&self, bytes: u64) {
        let staged = self.0.staged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if staged > MOST_STAGED {
            self.0.staged.store(0, Ordering::Relaxed);
            self.0.queue.submit([]);
        }
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.0.pipelines
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn ring(&self) -> &wgpu::Buffer {
        &self.0.ring
    }

    pub(crate) fn ring_turn(&self) -> &Mutex<()> {
        &self.0.ring_turn
    }
}

/// Elements of a shape.
pub(crate) fn n_elements(shape: &[usize]) -> Result<usize, GpuError> {
    // A zero anywhere makes it empty, however large the others are.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1_usize, |n, axis| n.checked_mul(*axis))
        .ok_or_else(|| GpuError::ShapeOverflow {
            shape: shape.to_vec(),
        })
}

/// The first adapter whose name contains the words.
async fn named(instance: &wgpu::Instance, name: &str) -> Result<wgpu::Adapter, GpuError> {
    let adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    let names: Vec<_> = adapters
        .iter()
        .map(|adapter| adapter.get_info().name)
        .collect();
    let wanted = name.to_lowercase();
    adapters
        .into_iter()
        .find(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted))
        .ok_or_else(|| GpuError::NoAdapter {
            reason: format!("no adapter is called `{name}`, there are {names:?}"),
        })
}
