//! Where tensors come from, by name.

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::FileError;

/// Tensors that can be read by name, one at a time: a file, or all files of a checkpoint.
pub trait TensorSource {
    /// The names, ascending.
    fn names(&self) -> Vec<String>;

    /// Type and shape of a tensor, or nothing if there is none of that name.
    fn info(&self, name: &str) -> Option<&TensorInfo>;

    /// The bytes of a tensor: row-major, little-endian.
    ///
    /// # Errors
    ///
    /// - [`FileError::MissingTensor`] if there is none of that name.
    /// - [`FileError::Io`] if it cannot be read, [`FileError::Quant`] if there is no memory for it.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, FileError>;
}

/// A tensor in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// The type of the elements.
    pub dtype: Dtype,
    /// The shape, slowest axis first.
    pub shape: Vec<usize>,
    /// Row-major, little-endian.
    pub bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn f32s(name: String, values: &[f32]) -> Self {
        Self {
            name,
            dtype: Dtype::F32,
            shape: vec![values.len()],
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    pub(crate) fn u8s(name: String, bytes: &[u8]) -> Self {
        Self {
            name,
            dtype: Dtype::U8,
            shape: vec![bytes.len()],
            bytes: bytes.to_vec(),
        }
    }
}

/// Information on a tensor that must be there.
pub(crate) fn info<'a>(
    source: &'a (impl TensorSource + ?Sized),
    name: &str,
) -> Result<&'a TensorInfo, FileError> {
    source.info(name).ok_or_else(|| FileError::MissingTensor {
        name: name.to_owned(),
    })
}

/// The bytes of a list whose type and length are known beforehand.
pub(crate) fn read_list(
    source: &mut (impl TensorSource + ?Sized),
    name: &str,
    dtype: Dtype,
    len: usize,
) -> Result<Vec<u8>, FileError> {
    let info = info(source, name)?;
    if info.dtype != dtype {
        return Err(FileError::TensorType {
            name: name.to_owned(),
            expected: if dtype == Dtype::F32 { "F32" } else { "U8" },
            got: info.dtype,
        });
    }
    if info.shape != [len] {
        return Err(FileError::TensorShape {
            name: name.to_owned(),
            expected: vec![len],
            got: info.shape.clone(),
        });
    }
    source.read(name)
}

/// [`read_list`] of `f32`.
pub(crate) fn read_f32s(
    source: &mut (impl TensorSource + ?Sized),
    name: &str,
    len: usize,
) -> Result<Vec<f32>, FileError> {
    let bytes = read_list(source, name, Dtype::F32, len)?;
    let (chunks, _) = bytes.as_chunks();
    Ok(chunks
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect())
}
