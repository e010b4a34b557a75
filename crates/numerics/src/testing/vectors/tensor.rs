//! One tensor of a file: its bytes, and exact conversions out of them.

use std::cell::Cell;

use half::{bf16, f16};
use ndarray::{Array, ArrayD, Dimension, IxDyn};
use safetensors::Dtype;

use super::VectorError;

const FLOATS: &str = "F16, BF16, F32 or F64";
const INTEGERS: &str = "BOOL or an integer type";

/// A tensor and whether the op has used it.
#[derive(Debug)]
pub(super) struct Tensor {
    /// Name with its prefix, for messages.
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) used: Cell<bool>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub(super) fn new(name: &str, view: &safetensors::tensor::TensorView<'_>) -> Self {
        Self {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            used: Cell::new(false),
            bytes: view.data().to_vec(),
        }
    }

    pub(super) fn is_integer(&self) -> bool {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(
            self.dtype,
            BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64
        )
    }

    /// f16, bf16 and f32 exactly, f64 rounded to nearest.
    pub(super) fn to_f32(&self) -> Result<ArrayD<f32>, VectorError> {
        let values = match self.dtype {
            Dtype::F16 => self.decode(f16::from_le_bytes).map(f32::from).collect(),
            Dtype::BF16 => self.decode(bf16::from_le_bytes).map(f32::from).collect(),
            Dtype::F32 => self.decode(f32::from_le_bytes).collect(),
            Dtype::F64 => self
                .decode(f64::from_le_bytes)
                .map(|value| value as f32)
                .collect(),
            _ => return Err(self.wrong_type(FLOATS)),
        };
        self.shaped(values)
    }

    /// Every float type exactly.
    pub(super) fn to_f64(&self) -> Result<ArrayD<f64>, VectorError> {
        let values = match self.dtype {
            Dtype::F16 => self.decode(f16::from_le_bytes).map(f64::from).collect(),
            Dtype::BF16 => self.decode(bf16::from_le_bytes).map(f64::from).collect(),
            Dtype::F32 => self.decode(f32::from_le_bytes).map(f64::from).collect(),
            Dtype::F64 => self.decode(f64::from_le_bytes).collect(),
            _ => return Err(self.wrong_type(FLOATS)),
        };
        self.shaped(values)
    }

    /// Every integer type exactly; BOOL as 0 and 1.
    pub(super) fn to_i64(&self) -> Result<ArrayD<i64>, VectorError> {
        let values = match self.dtype {
            Dtype::BOOL => return Ok(self.to_bool()?.mapv(i64::from)),
            Dtype::I8 => self.decode(i8::from_le_bytes).map(i64::from).collect(),
            Dtype::U8 => self.decode(u8::from_le_bytes).map(i64::from).collect(),
            Dtype::I16 => self.decode(i16::from_le_bytes).map(i64::from).collect(),
            Dtype::U16 => self.decode(u16::from_le_bytes).map(i64::from).collect(),
            Dtype::I32 => self.decode(i32::from_le_bytes).map(i64::from).collect(),
            Dtype::U32 => self.decode(u32::from_le_bytes).map(i64::from).collect(),
            Dtype::I64 => self.decode(i64::from_le_bytes).collect(),
            Dtype::U64 => self.converted(
                self.decode(u64::from_le_bytes),
                "integers below 2^63",
                |value| i64::try_from(value).ok(),
            )?,
            _ => return Err(self.wrong_type(INTEGERS)),
        };
        self.shaped(values)
    }

    /// Every integer type, none of them negative.
    pub(super) fn to_usize(&self) -> Result<ArrayD<usize>, VectorError> {
        let values = self.to_i64()?.into_iter();
        self.shaped(
            self.converted(values, "integers that are not negative", |value| {
                usize::try_from(value).ok()
            })?,
        )
    }

    pub(super) fn to_u8(&self) -> Result<ArrayD<u8>, VectorError> {
        self.plain(Dtype::U8, "U8", u8::from_le_bytes)
    }

    pub(super) fn to_i8(&self) -> Result<ArrayD<i8>, VectorError> {
        self.plain(Dtype::I8, "I8", i8::from_le_bytes)
    }

    pub(super) fn to_f16(&self) -> Result<ArrayD<f16>, VectorError> {
        self.plain(Dtype::F16, "F16", f16::from_le_bytes)
    }

    pub(super) fn to_bf16(&self) -> Result<ArrayD<bf16>, VectorError> {
        self.plain(Dtype::BF16, "BF16", bf16::from_le_bytes)
    }

    pub(super) fn to_bool(&self) -> Result<ArrayD<bool>, VectorError> {
        if self.dtype != Dtype::BOOL {
            return Err(self.wrong_type("BOOL"));
        }
        let bytes = self.bytes.iter().copied();
        self.shaped(self.converted(bytes, "the bytes 0 and 1", |byte| {
            (byte < 2).then_some(byte == 1)
        })?)
    }

    /// The array with a fixed number of axes.
    pub(super) fn ranked<T, D: Dimension>(
        &self,
        array: ArrayD<T>,
    ) -> Result<Array<T, D>, VectorError> {
        array.into_dimensionality().map_err(|_| VectorError::Rank {
            name: self.name.clone(),
            expected: D::NDIM.unwrap_or(0),
            got: self.shape.clone(),
        })
    }

    /// The only element of a tensor of any rank.
    pub(super) fn single<T: Copy>(&self, array: &ArrayD<T>) -> Result<T, VectorError> {
        let mut elements = array.iter();
        match (elements.next(), elements.next()) {
            (Some(&element), None) => Ok(element),
            _ => Err(VectorError::Value {
                name: self.name.clone(),
                expected: "one element",
                got: format!("shape {:?}", self.shape),
            }),
        }
    }

    fn plain<T, const N: usize>(
        &self,
        dtype: Dtype,
        expected: &'static str,
        read: fn([u8; N]) -> T,
    ) -> Result<ArrayD<T>, VectorError> {
        if self.dtype != dtype {
            return Err(self.wrong_type(expected));
        }
        self.shaped(self.decode(read).collect())
    }

    fn decode<T, const N: usize>(&self, read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
        self.bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(move |&chunk| read(chunk))
    }

    fn converted<T: Copy + ToString, U>(
        &self,
        values: impl Iterator<Item = T>,
        expected: &'static str,
        convert: fn(T) -> Option<U>,
    ) -> Result<Vec<U>, VectorError> {
        let refuse = |value: T| VectorError::Value {
            name: self.name.clone(),
            expected,
            got: value.to_string(),
        };
        values
            .map(|value| convert(value).ok_or_else(|| refuse(value)))
            .collect()
    }

    fn shaped<T>(&self, values: Vec<T>) -> Result<ArrayD<T>, VectorError> {
        let count = values.len();
        ArrayD::from_shape_vec(IxDyn(&self.shape), values).map_err(|_| VectorError::Value {
            name: self.name.clone(),
            expected: "as many elements as its shape says",
            got: format!("{count} for shape {:?}", self.shape),
        })
    }

    fn wrong_type(&self, expected: &'static str) -> VectorError {
        VectorError::ElementType {
            name: self.name.clone(),
            expected,
            got: self.dtype.to_string(),
        }
    }
}
