//! What was submitted, and how long each kernel of it took.

use futures_channel::oneshot;

use crate::device::RING_SLOTS;
use crate::tensor::{Mapped, finish_mapping, host_buffer, map_on_submit};
use crate::{Gpu, GpuError, scope};

/// Work that is on its way.
#[derive(Debug)]
pub struct Submission {
    gpu: Gpu,
    laps: Option<Vec<Laps>>,
}

/// How long one dispatch took on the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Nanoseconds between the begin and the end of the dispatch. Browsers round them.
    pub nanoseconds: f64,
}

impl Submission {
    pub(crate) fn new(gpu: Gpu, laps: Option<Vec<Laps>>) -> Self {
        Self { gpu, laps }
    }

    /// Waits until the device has done the work.
    ///
    /// # Errors
    ///
    /// [`GpuError::DeviceLost`], or an error of the work that no call could return.
    pub async fn wait(&self) -> Result<(), GpuError> {
        let (sender, receiver) = oneshot::channel();
        self.gpu.queue().on_submitted_work_done(move || {
            // Nobody may be waiting any more.
            let _ = sender.send(());
        });
        scope::poll(&self.gpu, wgpu::PollType::wait_indefinitely())?;
        let done = receiver.await;
        self.gpu.check()?;
        done.map_err(|_| GpuError::Device {
            task: "wait",
            message: "it dropped the request".to_owned(),
        })
    }

    /// [`Submission::wait`], and waits for that.
    ///
    /// # Errors
    ///
    /// As [`Submission::wait`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait_blocking(&self) -> Result<(), GpuError> {
        pollster::block_on(self.wait())
    }

    /// The time of each dispatch, in order. Empty grids were not dispatched and have none.
    ///
    /// # Errors
    ///
    /// [`GpuError::NotTimed`] unless [`Gpu::timed_recorder`] made the recording, else as [`GpuTensor::download`](crate::GpuTensor::download).
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
    ///     let times = recorder.submit()?.timings_blocking()?; // or `timings().await?`
    ///     assert_eq!((times.len(), times[0].kernel), (1, "double"));
    /// }
    /// # Ok::<(), GpuError>(())
    /// ```
    pub async fn timings(self) -> Result<Vec<KernelTime>, GpuError> {
        let laps = self.laps.ok_or(GpuError::NotTimed)?;
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        let mut times = Vec::new();
        for lap in laps {
            let bytes = finish_mapping(&self.gpu, &lap.buffer, lap.mapped).await?;
            let stamps: Vec<u64> = bytes
                .chunks_exact(8)
                .map(bytemuck::pod_read_unaligned)
                .collect();
            for (kernel, stamps) in lap.kernels.into_iter().zip(stamps.chunks_exact(2)) {
                // A clock that was set back between the two would give nonsense; zero says "not measurable".
                let ticks = stamps[1].saturating_sub(stamps[0]);
                times.push(KernelTime {
                    kernel,
                    nanoseconds: ticks as f64 * period,
                });
            }
        }
        Ok(times)
    }

    /// [`Submission::timings`], and waits for them.
    ///
    /// # Errors
    ///
    /// As [`Submission::timings`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn timings_blocking(self) -> Result<Vec<KernelTime>, GpuError> {
        pollster::block_on(self.timings())
    }
}

/// The timestamps of one submission on their way to the host.
#[derive(Debug)]
pub(crate) struct Laps {
    kernels: Vec<&'static str>,
    buffer: wgpu::Buffer,
    mapped: Mapped,
}

/// Takes two timestamps for each dispatch of a recording.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    /// Dispatches since the last submission; dispatch i has the timestamps 2 i and 2 i + 1.
    kernels: Vec<&'static str>,
    set: Option<wgpu::QuerySet>,
    laps: Vec<Laps>,
}

impl Stopwatch {
    /// Where the next dispatch has its timestamps. The set has room for all dispatches between two submissions.
    pub(crate) fn begin(&mut self, gpu: &Gpu, kernel: &'static str) -> (wgpu::QuerySet, u32) {
        let set = self.set.get_or_insert_with(|| {
            gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * RING_SLOTS as u32,
            })
        });
        let first = 2 * self.kernels.len() as u32;
        self.kernels.push(kernel);
        (set.clone(), first)
    }

    /// Records that the timestamps so far go to the host.
    pub(crate) fn resolve(&mut self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        let Some(set) = self.set.take() else {
            return;
        };
        let kernels = std::mem::take(&mut self.kernels);
        let n = 2 * kernels.len() as u32;
        let bytes = 8 * u64::from(n);
        let resolved = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&set, 0..n, &resolved, 0);
        let buffer = host_buffer(gpu, bytes);
        encoder.copy_buffer_to_buffer(&resolved, 0, &buffer, 0, bytes);
        let mapped = map_on_submit(encoder, &buffer);
        self.laps.push(Laps {
            kernels,
            buffer,
            mapped,
        });
    }

    /// What goes to the host.
    pub(crate) fn stop(self) -> Vec<Laps> {
        self.laps
    }
}
