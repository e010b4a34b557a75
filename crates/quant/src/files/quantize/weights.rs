//! One weight, from the bytes of a file to the tensors that it becomes.

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use ndarray::Array2;

use super::Method;
use crate::files::four_bit_state::{self, FourBitTensor};
use crate::files::{FileError, Tensor, WeightType, int8_state};
use crate::four_bit::blocks::filled;
use crate::report::Sums;
use crate::{QuantError, double, four_bit, vector_wise};

/// The tensors that a weight becomes.
pub(super) fn quantize(
    name: &str,
    dtype: WeightType,
    shape: &[usize],
    bytes: Vec<u8>,
    method: Method,
    sums: Option<&mut Sums>,
) -> Result<Vec<Tensor>, FileError> {
    match dtype {
        WeightType::F32 => {
            let x = matrix(name, shape, bytes, f32::from_le_bytes)?;
            weights(name, dtype, x, method, f16::from_f32, sums)
        }
        WeightType::F16 => {
            let x = matrix(name, shape, bytes, f16::from_le_bytes)?;
            weights(name, dtype, x, method, |x| x, sums)
        }
        WeightType::Bf16 => {
            let x = matrix(name, shape, bytes, bf16::from_le_bytes)?;
            weights(name, dtype, x, method, |x| f16::from_f32(x.to_f32()), sums)
        }
    }
}

fn matrix<S: Storage, const N: usize>(
    name: &str,
    shape: &[usize],
    bytes: Vec<u8>,
    decode: impl Fn([u8; N]) -> S,
) -> Result<Array2<S>, FileError> {
    let (chunks, _) = bytes.as_chunks();
    let mut numbers = filled(S::from_f32(0.0), chunks.len()).map_err(FileError::quant(name))?;
    for (number, &bytes) in numbers.iter_mut().zip(chunks) {
        *number = decode(bytes);
    }
    Array2::from_shape_vec([shape[0], shape[1]], numbers).map_err(|_| {
        FileError::quant(name)(QuantError::Size {
            shape: shape.to_vec(),
        })
    })
}

fn weights<S: Storage>(
    name: &str,
    dtype: WeightType,
    x: Array2<S>,
    method: Method,
    to_half: impl Fn(S) -> f16,
    sums: Option<&mut Sums>,
) -> Result<Vec<Tensor>, FileError> {
    let quant = |source| FileError::quant(name)(source);
    match method {
        Method::FourBit {
            config,
            nested,
            stored_as,
        } => {
            let mut packed = four_bit::quantize(&x, &config).map_err(quant)?;
            if let Some(search) = nested {
                packed = double::compress(packed, search).map_err(quant)?;
            }
            if let Some(sums) = sums {
                let back = four_bit::dequantize::<f32>(&packed).map_err(quant)?;
                sums.add_all(&x, &back);
            }
            drop(x);
            let tensor = FourBitTensor::new(packed, dtype).with_stored_as(stored_as);
            four_bit_state::tensors(name, &tensor)
        }
        Method::EightBit { non_finite, .. } => {
            let half = halves(name, &x, to_half)?;
            let rows = vector_wise::quantize(&half, non_finite).map_err(quant)?;
            drop(half);
            if let Some(sums) = sums {
                let back = vector_wise::dequantize::<f32>(&rows).map_err(quant)?;
                sums.add_all(&x, &back);
            }
            int8_state::tensors(name, &rows)
        }
    }
}

/// Weights rounded to `f16`. What is not finite stays so: the policy is for it, and for nothing else.
fn halves<S: Storage>(
    name: &str,
    x: &Array2<S>,
    to_half: impl Fn(S) -> f16,
) -> Result<Array2<f16>, FileError> {
    let half = x.mapv(to_half);
    let mut pairs = x.iter().zip(&half).enumerate();
    match pairs.find(|(_, (x, half))| !half.is_finite() && x.to_f32().is_finite()) {
        None => Ok(half),
        Some((index, (value, _))) => Err(FileError::HalfOverflow {
            name: name.to_owned(),
            index,
            value: value.to_f32(),
        }),
    }
}
