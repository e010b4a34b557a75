//! Typed arrays on the device.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_channel::oneshot;
use ndarray::ArrayD;

use crate::device::n_elements;
use crate::element::{GpuElement, padded_bytes};
use crate::kernel::Access;
use crate::storage::Storage;
use crate::{Gpu, GpuError, scope};

/// An array on the device: a buffer and a shape, the last axis fastest, without gaps.
///
/// Cloning gives another handle on the same buffer; dropping the last handle frees it. Axes of length zero are fine.
pub struct GpuTensor<T> {
    storage: Arc<Storage>,
    shape: Vec<usize>,
    element: PhantomData<T>,
}

impl<T> Clone for GpuTensor<T> {
    fn clone(&self) -> Self {
        Self {
            storage: Arc::clone(&self.storage),
            shape: self.shape.clone(),
            element: PhantomData,
        }
    }
}

impl<T: GpuElement> fmt::Debug for GpuTensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuTensor<{}> {:?}", T::NAME, self.shape)
    }
}

impl<T: GpuElement> GpuTensor<T> {
    pub(crate) fn new(storage: Arc<Storage>, shape: &[usize]) -> Self {
        Self {
            storage,
            shape: shape.to_vec(),
            element: PhantomData,
        }
    }

    /// The length of each axis, slowest first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        // Checked when the tensor was made.
        n_elements(&self.shape).unwrap_or(0)
    }

    /// True if there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device that it is on.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.storage.gpu
    }

    /// The same elements in another shape; the same buffer, so that writing to one is seen in the other.
    ///
    /// # Errors
    ///
    /// [`GpuError::Len`] if the shape holds another number of elements, [`GpuError::ShapeOverflow`] if they cannot be counted.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self, GpuError> {
        if n_elements(shape)? != self.len() {
            return Err(GpuError::Len {
                shape: shape.to_vec(),
                got: self.len(),
            });
        }
        Ok(Self::new(Arc::clone(&self.storage), shape))
    }

    /// The tensor as a dispatch that reads it binds it.
    #[must_use]
    pub fn read(&self) -> Binding<'_> {
        self.bind(Access::Read)
    }

    /// The tensor as a dispatch that writes it, or reads and writes it, binds it.
    #[must_use]
    pub fn write(&self) -> Binding<'_> {
        self.bind(Access::Write)
    }

    fn bind(&self, access: Access) -> Binding<'_> {
        Binding {
            storage: &self.storage,
            bytes: self.bytes(),
            access,
        }
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Bytes in whole words, at least one word.
    pub(crate) fn bytes(&self) -> u64 {
        // Checked when the tensor was made.
        padded_bytes::<T>(self.len()).unwrap_or(4)
    }

    /// Copies the elements to the host, after everything that was submitted before.
    ///
    /// On native platforms the first poll of the future waits for the device. In browsers it yields until the device is ready.
    ///
    /// # Errors
    ///
    /// [`GpuError::DeviceLost`], [`GpuError::OutOfMemory`], [`GpuError::Map`], or an error of earlier work that no call could
    /// return.
    pub async fn download(&self) -> Result<ArrayD<T>, GpuError> {
        let gpu = self.gpu();
        gpu.check()?;
        let data: Vec<T> = if self.is_empty() {
            Vec::new()
        } else {
            let (buffer, mapped) = self.copy_out()?;
            let bytes = finish_mapping(gpu, &buffer, mapped).await?;
            // The bytes lie anywhere, so they are copied to where a T may lie.
            let mut data = vec![T::zeroed(); self.len()];
            let target: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
            target.copy_from_slice(&bytes[..target.len()]);
            data
        };
        ArrayD::from_shape_vec(self.shape.clone(), data).map_err(|_| GpuError::ShapeOverflow {
            shape: self.shape.clone(),
        })
    }

    /// [`GpuTensor::download`], and waits for it.
    ///
    /// # Errors
    ///
    /// As [`GpuTensor::download`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn download_blocking(&self) -> Result<ArrayD<T>, GpuError> {
        pollster::block_on(self.download())
    }

    /// Submits a copy into a buffer that the host can map.
    fn copy_out(&self) -> Result<(wgpu::Buffer, Mapped), GpuError> {
        let gpu = self.gpu();
        let bytes = self.bytes();
        scope::run(gpu, "copy a tensor to the host", Some(bytes), || {
            let buffer = host_buffer(gpu, bytes);
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&self.storage.buffer, 0, &buffer, 0, bytes);
            let mapped = map_on_submit(&encoder, &buffer);
            gpu.queue().submit([encoder.finish()]);
            (buffer, mapped)
        })
    }
}

/// How a dispatch uses a tensor: made by [`GpuTensor::read`] and [`GpuTensor::write`].
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub(crate) storage: &'a Arc<Storage>,
    pub(crate) bytes: u64,
    pub(crate) access: Access,
}

/// Tells when a buffer is mapped.
pub(crate) type Mapped = oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>;

/// A buffer that the device writes and the host reads.
pub(crate) fn host_buffer(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("read back"),
        size: bytes,
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    })
}

/// Maps the buffer as soon as what is recorded here was done.
pub(crate) fn map_on_submit(encoder: &wgpu::CommandEncoder, buffer: &wgpu::Buffer) -> Mapped {
    let (sender, receiver) = oneshot::channel();
    encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., move |outcome| {
        // Nobody may be waiting any more.
        let _ = sender.send(outcome);
    });
    receiver
}

/// Waits until the buffer is mapped, and hands out its bytes.
pub(crate) async fn finish_mapping(
    gpu: &Gpu,
    buffer: &wgpu::Buffer,
    mapped: Mapped,
) -> Result<wgpu::BufferView, GpuError> {
    scope::poll(gpu, wgpu::PollType::wait_indefinitely())?;
    let outcome = mapped.await;
    // What went wrong on the device says more than that the buffer could not be mapped.
    gpu.check()?;
    let refused = |reason: String| GpuError::Map { reason };
    outcome
        .map_err(|_| refused("the device dropped the request".to_owned()))?
        .map_err(|error| refused(error.to_string()))?;
    buffer
        .get_mapped_range(..)
        .map_err(|error| refused(error.to_string()))
}
