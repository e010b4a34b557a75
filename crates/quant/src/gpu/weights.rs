//! Packed weights on a device.

use llm_gpu::{Binding, Gpu, GpuTensor};
use ndarray::ArrayD;

use super::{GpuQuantError, check_elements};
use crate::QuantError;
use crate::double::NestedScales;
use crate::dynamic_map;
use crate::four_bit::{FourBit, FourBitCode, Scales};

/// Packed weights on a device: codes, scales, and what the codes stand for.
///
/// Nested scales stay nested: kernels decode them on the way.
#[derive(Clone, Debug)]
pub struct GpuFourBit {
    pub(super) code: FourBitCode,
    pub(super) block: usize,
    pub(super) shape: Vec<usize>,
    pub(super) packed: GpuTensor<u32>, // [ceil(len / 8)], eight codes a word
    pub(super) scales: GpuTensor<u32>, // [n_blocks] bits, or [ceil(n_blocks / 4)], four codes a word
    pub(super) nested: Option<GpuNested>,
    pub(super) table: GpuTensor<f32>, // [272]
    /// The place of the first number that was not finite and its bits, where such are refused.
    pub(super) status: Option<GpuTensor<u32>>, // [2]
}

/// What scales of scales need.
#[derive(Clone, Debug)]
pub(super) struct GpuNested {
    pub(super) values: GpuTensor<f32>, // [1 + ceil(n_blocks / 256)]: the offset, then the scale of each 256 codes
    /// The place of the first scale that could not be quantized and its bits, where they were quantized here.
    pub(super) status: Option<GpuTensor<u32>>, // [2]
}

impl GpuFourBit {
    /// Copies packed weights to the device.
    ///
    /// # Errors
    ///
    /// - [`GpuQuantError::Elements`] if there are more than [`MAX_ELEMENTS`](super::MAX_ELEMENTS) weights.
    /// - [`GpuQuantError::Gpu`] if the device has no room.
    pub fn upload(gpu: &Gpu, weights: &FourBit) -> Result<Self, GpuQuantError> {
        check_elements(weights.len())?;
        let packed = words(weights.packed());
        let (scales, nested) = match weights.scales() {
            Scales::Plain(scales) => (scales.iter().map(|x| x.to_bits()).collect(), None),
            Scales::Nested(nested) => {
                let mut values = vec![nested.offset()];
                values.extend(nested.absmax());
                let values = gpu.upload_slice(&[values.len()], &values)?;
                let status = None;
                (words(nested.codes()), Some(GpuNested { values, status }))
            }
        };
        Ok(Self {
            code: weights.code(),
            block: weights.block(),
            shape: weights.shape().to_vec(),
            packed: gpu.upload_slice(&[packed.len()], &packed)?,
            scales: gpu.upload_slice(&[scales.len()], &scales)?,
            nested,
            table: table(gpu, weights.code())?,
            status: None,
        })
    }

    /// Copies packed weights to the host, after everything that was submitted before.
    ///
    /// # Errors
    ///
    /// - [`QuantError::NonFinite`] if they were made from numbers that were not all finite, and such are refused; or if their scales were
    ///   quantized on the device, and a scale or its difference from the mean was not finite.
    /// - [`GpuQuantError::Gpu`] as [`GpuTensor::download`].
    pub async fn download(&self) -> Result<FourBit, GpuQuantError> {
        if let Some(status) = &self.status {
            check_status(&status.download().await?, 0.0)?;
        }
        let nested = match &self.nested {
            Some(nested) => {
                let values = nested.values.download().await?;
                if let Some(status) = &nested.status {
                    check_status(&status.download().await?, offset(&values))?;
                }
                Some(values)
            }
            None => None,
        };
        let packed = self.packed.download().await?;
        self.on_host(&packed, &self.scales.download().await?, nested)
    }

    /// [`GpuFourBit::download`], and waits for it.
    ///
    /// # Errors
    ///
    /// As [`GpuFourBit::download`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn download_blocking(&self) -> Result<FourBit, GpuQuantError> {
        if let Some(status) = &self.status {
            check_status(&status.download_blocking()?, 0.0)?;
        }
        let nested = match &self.nested {
            Some(nested) => {
                let values = nested.values.download_blocking()?;
                if let Some(status) = &nested.status {
                    check_status(&status.download_blocking()?, offset(&values))?;
                }
                Some(values)
            }
            None => None,
        };
        let packed = self.packed.download_blocking()?;
        self.on_host(&packed, &self.scales.download_blocking()?, nested)
    }

    fn on_host(
        &self,
        packed: &ArrayD<u32>,
        scales: &ArrayD<u32>,
        nested: Option<ArrayD<f32>>,
    ) -> Result<FourBit, GpuQuantError> {
        let packed = bytes(packed, self.len().div_ceil(2));
        let scales = match nested {
            Some(values) => {
                let codes = bytes(scales, self.len().div_ceil(self.block));
                let offset = offset(&values);
                let absmax = values.into_iter().skip(1).collect();
                Scales::Nested(NestedScales::from_parts(codes, absmax, offset)?)
            }
            None => Scales::Plain(scales.iter().map(|&bits| f32::from_bits(bits)).collect()),
        };
        let weights = FourBit::from_parts(self.code, self.block, &self.shape, packed, scales)?;
        Ok(weights)
    }

    /// Which sixteen values the codes stand for.
    #[must_use]
    pub fn code(&self) -> FourBitCode {
        self.code
    }

    /// Elements that share a scale.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// Shape of the weights.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of weights.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product() // fits: it was checked
    }

    /// True if there are no weights.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the scales are nested.
    pub(super) fn is_nested(&self) -> u32 {
        u32::from(self.nested.is_some())
    }

    /// What `four_bit.wgsl` binds.
    pub(super) fn bindings(&self) -> [Binding<'_>; 4] {
        // Plain scales have no others; something has to be bound.
        let nested = (self.nested.as_ref()).map_or(&self.table, |nested| &nested.values);
        [
            self.packed.read(),
            self.scales.read(),
            nested.read(),
            self.table.read(),
        ]
    }
}

/// The values of the codes, and of the codes of nested scales.
pub(super) fn table(gpu: &Gpu, code: FourBitCode) -> Result<GpuTensor<f32>, GpuQuantError> {
    let values: Vec<f32> = { code.values() }
        .into_iter()
        .chain(dynamic_map::signed8())
        .collect();
    Ok(gpu.upload_slice(&[values.len()], &values)?)
}

/// What was subtracted from nested scales.
fn offset(values: &ArrayD<f32>) -> f32 {
    values.first().copied().unwrap_or_default()
}

/// A number that was found, less what was subtracted from it.
fn check_status(status: &ArrayD<u32>, offset: f32) -> Result<(), QuantError> {
    match status.as_slice() {
        Some(&[index, bits]) if index != u32::MAX => Err(QuantError::NonFinite {
            index: index as usize,
            value: f32::from_bits(bits) - offset,
        }),
        _ => Ok(()),
    }
}

/// Bytes as words, the first in the lowest bits; zeros follow the last.
fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |bytes: &[u8]| {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(padded)
    };
    bytes.chunks(4).map(word).collect()
}

fn bytes(words: &ArrayD<u32>, n: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.truncate(n);
    bytes
}
