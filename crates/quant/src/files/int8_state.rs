//! Weights in eight bits as bitsandbytes stores them: codes, a scale for each row, and the format.

use ndarray::Array2;
use safetensors::Dtype;

use super::source::{info, read_f32s};
use super::{FileError, Tensor, TensorSource};
use crate::QuantError;
use crate::vector_wise::VectorWise;

const SCALES: &str = "SCB";
const FORMAT: &str = "weight_format";

/// The names of all weights in eight bits, ascending: those of modules with an `SCB`.
///
/// # Example
///
/// ```
/// use llm_quant::files::{Checkpoint, int8_state};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_dir/int8");
/// # let folder = std::path::Path::new(folder);
///
/// let checkpoint = Checkpoint::open(folder)?;
/// assert_eq!(int8_state::names(&checkpoint)[0], "model.layers.0.mlp.down_proj.weight");
/// # Ok::<(), llm_quant::files::FileError>(())
/// ```
#[must_use]
pub fn names(source: &(impl TensorSource + ?Sized)) -> Vec<String> {
    let all = source.names();
    let modules = all.iter().filter_map(|name| name.strip_suffix(SCALES));
    let mut names: Vec<String> = { modules }
        .filter(|module| module.is_empty() || module.ends_with('.'))
        .map(|module| format!("{module}weight"))
        .collect();
    names.sort_unstable();
    names
}

/// Reads the weight `name`, which ends in `weight`.
///
/// # Errors
///
/// - [`FileError::MissingTensor`] if codes or scales are not there.
/// - [`FileError::TensorType`] or [`FileError::TensorShape`] if they do not fit each other.
/// - [`FileError::StateField`] if the format is not 0, which stands for rows: bitsandbytes reads no other.
/// - [`FileError::CodesRank`] if codes are no matrix, [`FileError::WeightName`] if the name has another end.
/// - [`FileError::Quant`] if a code is -128 or there is no memory, [`FileError::Io`] if it cannot be read.
///
/// Files of old versions have no format; they are read as rows.
///
/// # Precision
///
/// The bits of the file.
///
/// # Example
///
/// ```
/// use llm_quant::files::{Checkpoint, int8_state};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_dir/int8");
/// # let folder = std::path::Path::new(folder);
///
/// let mut checkpoint = Checkpoint::open(folder)?;
/// for name in int8_state::names(&checkpoint) {
///     let rows = int8_state::read(&mut checkpoint, &name)?;
///     println!("{name}: {:?} in {} bytes", rows.shape(), rows.bytes());
/// }
/// # Ok::<(), llm_quant::files::FileError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `Linear8bitLt`.
pub fn read(
    source: &mut (impl TensorSource + ?Sized),
    name: &str,
) -> Result<VectorWise, FileError> {
    let info = info(source, name)?;
    let [n_rows, n_columns] = info.shape[..] else {
        return Err(FileError::CodesRank {
            name: name.to_owned(),
            shape: info.shape.clone(),
        });
    };
    if info.dtype != Dtype::I8 {
        return Err(FileError::TensorType {
            name: name.to_owned(),
            expected: "I8",
            got: info.dtype,
        });
    }
    let [scales, format] = companions(name)?;
    check_format(source, &format)?;
    let scales = read_f32s(source, &scales, n_rows)?;
    let bytes = source.read(name)?;
    let codes = bytes.into_iter().map(u8::cast_signed).collect();
    let codes = Array2::from_shape_vec([n_rows, n_columns], codes).map_err(|_| {
        FileError::quant(name)(QuantError::Size {
            shape: vec![n_rows, n_columns],
        })
    })?;
    VectorWise::from_parts(codes, scales).map_err(FileError::quant(name))
}

/// The tensors of the weight `name`, which ends in `weight`, as bitsandbytes stores them.
///
/// # Errors
///
/// [`FileError::WeightName`] if the name has another end: scales stand beside it, under the name of the module.
///
/// # Precision
///
/// The bits of codes and scales.
///
/// # Example
///
/// ```
/// use llm_quant::files::int8_state;
/// use llm_quant::four_bit::NonFinite;
/// use llm_quant::vector_wise;
/// use ndarray::array;
///
/// let weights = vector_wise::quantize(&array![[1.0_f32, -0.5], [0.25, 0.0]], NonFinite::Refuse)?;
/// let tensors = int8_state::tensors("up_proj.weight", &weights).unwrap();
/// let names: Vec<&str> = tensors.iter().map(|tensor| &tensor.name[..]).collect();
/// assert_eq!(names, ["up_proj.weight", "up_proj.SCB", "up_proj.weight_format"]);
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
pub fn tensors(name: &str, weights: &VectorWise) -> Result<Vec<Tensor>, FileError> {
    let shape = weights.shape();
    let [scales, format] = companions(name)?;
    let codes = weights.codes().iter();
    let codes = Tensor {
        name: name.to_owned(),
        dtype: Dtype::I8,
        shape: shape.to_vec(),
        bytes: codes.map(|&code| code.cast_unsigned()).collect(),
    };
    let format = Tensor {
        name: format,
        dtype: Dtype::U8,
        shape: Vec::new(),
        bytes: vec![0],
    };
    Ok(vec![codes, Tensor::f32s(scales, weights.scales()), format])
}

/// The names of scales and format.
pub(crate) fn companions(name: &str) -> Result<[String; 2], FileError> {
    match name.strip_suffix("weight") {
        Some(module) => Ok([SCALES, FORMAT].map(|part| format!("{module}{part}"))),
        None => Err(FileError::WeightName {
            name: name.to_owned(),
        }),
    }
}

fn check_format(source: &mut (impl TensorSource + ?Sized), name: &str) -> Result<(), FileError> {
    let Some(info) = source.info(name) else {
        return Ok(());
    };
    if info.dtype != Dtype::U8 {
        return Err(FileError::TensorType {
            name: name.to_owned(),
            expected: "U8",
            got: info.dtype,
        });
    }
    // One number, with an axis or without.
    if info.shape.len() > 1 || info.data_offsets.1 - info.data_offsets.0 != 1 {
        return Err(FileError::TensorShape {
            name: name.to_owned(),
            expected: Vec::new(),
            got: info.shape.clone(),
        });
    }
    let got = source.read(name)?;
    if got == [0] {
        return Ok(());
    }
    Err(FileError::StateField {
        name: name.to_owned(),
        field: FORMAT,
        expected: "0 (rows)".to_owned(),
        got: format!("{got:?}"),
    })
}
