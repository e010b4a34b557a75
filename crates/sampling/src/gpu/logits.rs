//! Logits on a device with the status of each row.

use llm_gpu::{GpuTensor, Recorder};
use ndarray::ArrayD;

use super::{GROUP_TOKENS, GpuSamplingError, STATUS_WORDS, axes, check_vocab, clear};
use crate::SamplingError;

/// Logits on a device, which the functions of this module change in place, with a status for each row.
///
/// # Example
///
/// ```
/// use llm_sampling::SamplingError;
/// use llm_sampling::gpu::{GpuLogits, temperature};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[3.0_f32, 2.0], [f32::NAN, 1.0]])?; // [batch, vocab]
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// temperature::apply_inplace(&mut recorder, &logits, 0.5)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?[[0, 0]], 6.0);
/// let refused = SamplingError::NanLogits { row: 1, token: 0 };
/// assert_eq!(logits.check_blocking(), Err(refused.into()));
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GpuLogits {
    tensor: GpuTensor<f32>,
    status: GpuTensor<u32>,
}

impl GpuLogits {
    /// Records that no row has been refused. The logits themselves are not looked at yet, and not copied.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, vocab]`
    ///
    /// # Errors
    ///
    /// - [`GpuSamplingError::Rank`] if `logits` has not two axes.
    /// - [`SamplingError::Vocab`] if `vocab` is 0, [`GpuSamplingError::Vocab`] if it is above [`MAX_VOCAB`](super::MAX_VOCAB).
    /// - [`GpuSamplingError::Gpu`] if the tensor is of another device.
    pub fn new(recorder: &mut Recorder, logits: &GpuTensor<f32>) -> Result<Self, GpuSamplingError> {
        let [batch, vocab] = axes("logits", logits)?;
        check_vocab(vocab)?;
        if !logits.gpu().same_device(recorder.gpu()) {
            return Err(llm_gpu::GpuError::OtherDevice {
                operation: "logits",
                binding: 1,
            }
            .into());
        }
        let status = clear::zeros(recorder, &[batch, STATUS_WORDS])?;
        Ok(Self {
            tensor: logits.clone(),
            status,
        })
    }

    /// The logits, `[batch, vocab]`: a handle on the tensor that came in.
    #[must_use]
    pub const fn tensor(&self) -> &GpuTensor<f32> {
        &self.tensor
    }

    /// Number of rows.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.tensor.shape()[0]
    }

    /// Number of token ids.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.tensor.shape()[1]
    }

    pub(super) const fn status(&self) -> &GpuTensor<u32> {
        &self.status
    }

    /// Workgroups that look at a row together.
    pub(super) fn n_groups(&self) -> usize {
        self.vocab().div_ceil(GROUP_TOKENS)
    }

    /// Waits for the status of the rows; the first row that was refused is the error.
    ///
    /// # Errors
    ///
    /// - [`SamplingError::NanLogits`], [`SamplingError::InfiniteLogits`], [`SamplingError::MaskedRow`],
    ///   [`SamplingError::TemperatureOverflow`] with the row, as the CPU has them.
    /// - [`GpuSamplingError::Gpu`] as [`GpuTensor::download`].
    pub async fn check(&self) -> Result<(), GpuSamplingError> {
        refusal(&self.status.download().await?)
    }

    /// [`check`](Self::check), and waits for it.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn check_blocking(&self) -> Result<(), GpuSamplingError> {
        refusal(&self.status.download_blocking()?)
    }
}

/// The error of the first row that was refused.
pub(super) fn refusal(status: &ArrayD<u32>) -> Result<(), GpuSamplingError> {
    for (row, words) in status.rows().into_iter().enumerate() {
        let token = words[1] as usize;
        let error = match words[0] {
            0 => continue,
            1 => SamplingError::NanLogits { row, token },
            2 => SamplingError::InfiniteLogits { row, token },
            3 => SamplingError::MaskedRow { row },
            _ => SamplingError::TemperatureOverflow {
                row,
                token,
                logit: f64::from(f32::from_bits(words[2])),
                temperature: f64::from_bits(u64::from(words[4]) << 32 | u64::from(words[3])),
            },
        };
        return Err(error.into());
    }
    Ok(())
}
