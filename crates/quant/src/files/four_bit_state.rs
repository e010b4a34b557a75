//! Weights in four bits as bitsandbytes stores them: up to six tensors for each.

use safetensors::Dtype;
use serde::Deserialize;

use super::json::Object;
use super::source::{info, read_f32s, read_list};
use super::{FileError, PackedType, Tensor, TensorSource, WeightType, python};
use crate::double::{NESTED_BLOCK, NestedScales};
use crate::four_bit::blocks::zeros;
use crate::four_bit::check_block;
use crate::four_bit::{FourBit, FourBitCode, Scales, elements};
use crate::{QuantError, dynamic_map};

/// What the name of a weight is followed by for its state, up to the code.
const STATE: &str = ".quant_state.bitsandbytes__";
/// The longest JSON of a state that is looked at: a shape of a thousand axes fits.
const MAX_JSON: usize = 1 << 14;
const CODES: [(FourBitCode, &str); 2] = [(FourBitCode::Nf4, "nf4"), (FourBitCode::Fp4, "fp4")];

/// Packed weights with what a file says beside them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FourBitTensor {
    /// The weights.
    pub weights: FourBit,
    /// The type that they had, and come back in.
    pub dtype: WeightType,
    /// What the packed bytes are declared as.
    pub stored_as: PackedType,
}

impl FourBitTensor {
    /// Weights that had the type `dtype`, stored as bytes.
    #[must_use]
    pub const fn new(weights: FourBit, dtype: WeightType) -> Self {
        Self {
            weights,
            dtype,
            stored_as: PackedType::U8,
        }
    }

    /// Sets [`stored_as`](Self::stored_as).
    #[must_use]
    pub const fn with_stored_as(mut self, stored_as: PackedType) -> Self {
        self.stored_as = stored_as;
        self
    }
}

/// The names of all weights in four bits, ascending.
///
/// # Example
///
/// ```
/// use llm_quant::files::{Checkpoint, four_bit_state};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_dir/nf4_nested_shards");
/// # let folder = std::path::Path::new(folder);
///
/// let checkpoint = Checkpoint::open(folder)?;
/// assert_eq!(four_bit_state::names(&checkpoint)[0], "model.layers.0.mlp.down_proj.weight");
/// # Ok::<(), llm_quant::files::FileError>(())
/// ```
#[must_use]
pub fn names(source: &(impl TensorSource + ?Sized)) -> Vec<String> {
    let all = source.names();
    let mut names: Vec<String> = { all.iter() }
        .filter_map(|name| Some(name.split_once(STATE)?.0.to_owned()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Names of the tensors that belong to the weight `name`, whether they are there or not, without its state.
///
/// # Example
///
/// ```
/// let names = llm_quant::files::four_bit_state::companions("up.weight");
/// assert_eq!(names[0], "up.weight.absmax");
/// assert_eq!(names[3], "up.weight.nested_quant_map");
/// ```
#[must_use]
pub fn companions(name: &str) -> [String; 4] {
    ["absmax", "quant_map", "nested_absmax", "nested_quant_map"]
        .map(|part| format!("{name}.{part}"))
}

/// Reads the weight `name` (as `model.layers.0.mlp.up_proj.weight`).
///
/// # Errors
///
/// - [`FileError::MissingTensor`] if one of its tensors is not there, [`FileError::UnexpectedTensor`] if it has two states, or nested scales
///   that its state does not know.
/// - [`FileError::StateJson`] or [`FileError::StateField`] if its state is not that of bitsandbytes.
/// - [`FileError::TensorType`] or [`FileError::TensorShape`] if a tensor does not fit the state.
/// - [`FileError::CodeValue`] if the map is not that of the code.
/// - [`FileError::Quant`] with [`QuantError::Block`], [`QuantError::Size`] or [`QuantError::PackedLen`] if block size, shape or packed bytes do not
///   fit, or with [`QuantError::TooLarge`] if there is no memory.
/// - [`FileError::Io`] if it cannot be read.
///
/// All of it is compared before a byte of the weights is read.
///
/// # Precision
///
/// The bits of the file. Files in which the map of nested scales is another than [`dynamic_map::signed8`] exist: there the scales are
/// unpacked with it, as bitsandbytes does, and come back plain.
///
/// # Example
///
/// ```
/// use llm_quant::files::four_bit_state::{self, FourBitTensor};
/// use llm_quant::files::{self, TensorFile, WeightType};
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use ndarray::array;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("x.safetensors");
/// let x = array![[0.5_f32, -0.25], [0.0, 1.0]];
/// let weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Fp4, 64)).unwrap();
/// let weights = FourBitTensor::new(weights, WeightType::F32);
/// files::write_tensors(&path, &files::torch_metadata(), &four_bit_state::tensors("w", &weights)?)?;
///
/// let mut file = TensorFile::open(&path)?;
/// assert_eq!(four_bit_state::names(&file), ["w"]);
/// assert_eq!(four_bit_state::read(&mut file, "w")?, weights);
/// # Ok::<(), files::FileError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `QuantState.from_dict`.
pub fn read(
    source: &mut (impl TensorSource + ?Sized),
    name: &str,
) -> Result<FourBitTensor, FileError> {
    let (code, state_name) = find_state(source, name)?;
    let state = State::read(source, &state_name, code)?;
    let quant = |source| FileError::Quant {
        name: name.to_owned(),
        source,
    };
    check_block(state.block).map_err(quant)?;
    let len = elements(&state.shape).map_err(quant)?;
    let stored_as = check_packed(info(source, name)?, name, &state.shape, len)?;
    let n_blocks = len.div_ceil(state.block);
    check_map(source, &format!("{name}.quant_map"), &code.values())?;
    let [absmax, _, nested_absmax, nested_map] = companions(name);
    let scales = match state.nested_offset {
        None => {
            let unknown = [nested_absmax, nested_map].into_iter();
            if let Some(name) = { unknown }.find(|name| source.info(name).is_some()) {
                return Err(FileError::UnexpectedTensor { name });
            }
            Scales::Plain(read_f32s(source, &absmax, n_blocks)?)
        }
        Some(offset) => {
            let n_nested = n_blocks.div_ceil(NESTED_BLOCK);
            let map = read_f32s(source, &nested_map, 256)?;
            let scales = read_f32s(source, &nested_absmax, n_nested)?;
            let codes = read_list(source, &absmax, Dtype::U8, n_blocks)?;
            nested(codes, scales, offset, &map).map_err(quant)?
        }
    };
    let packed = source.read(name)?;
    let weights = FourBit::from_parts(code, state.block, &state.shape, packed, scales);
    Ok(FourBitTensor {
        weights: weights.map_err(quant)?,
        dtype: state.dtype,
        stored_as,
    })
}

/// The tensors of the weight `name`, as bitsandbytes stores them.
///
/// # Errors
///
/// - [`FileError::Storage`] if the packed bytes are no whole number of what they should be stored as.
/// - [`FileError::StateField`] if an offset of nested scales is not finite: JSON has no such numbers.
///
/// # Precision
///
/// The bits of packed codes and scales; an offset is written with the digits that say it exactly.
///
/// # Example
///
/// ```
/// use llm_quant::files::WeightType;
/// use llm_quant::files::four_bit_state::{self, FourBitTensor};
/// use llm_quant::four_bit::{self, FourBitCode, FourBitConfig};
/// use ndarray::array;
///
/// let x = array![[0.5_f32, -0.25], [0.0, 1.0]];
/// let weights = four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Nf4, 64)).unwrap();
/// let tensors = four_bit_state::tensors("w", &FourBitTensor::new(weights, WeightType::Bf16))?;
/// let state = &tensors[3];
/// assert_eq!(state.name, "w.quant_state.bitsandbytes__nf4");
/// let json = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2, 2]}"#;
/// assert_eq!(state.bytes, json.as_bytes());
/// # Ok::<(), llm_quant::files::FileError>(())
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `QuantState.as_dict(packed=True)`.
pub fn tensors(name: &str, tensor: &FourBitTensor) -> Result<Vec<Tensor>, FileError> {
    let FourBitTensor {
        weights,
        dtype,
        stored_as,
    } = tensor;
    let [absmax, map, nested_absmax, nested_map] = companions(name);
    let packed = weights.packed();
    let mut all = vec![
        Tensor {
            name: name.to_owned(),
            dtype: stored_as.dtype(),
            shape: packed_shape(packed.len(), *stored_as)?,
            bytes: packed.to_vec(),
        },
        // The library stores the zero of FP4 that has a sign without it.
        Tensor::f32s(map, &weights.code().values().map(|x| x + 0.0)),
    ];
    let state_name = state_name(name, weights.code());
    let mut offset = None;
    match weights.scales() {
        Scales::Plain(scales) => all.push(Tensor::f32s(absmax, scales)),
        Scales::Nested(nested) => {
            if !nested.offset().is_finite() {
                return Err(FileError::StateField {
                    name: state_name,
                    field: "nested_offset",
                    expected: "a finite number".to_owned(),
                    got: nested.offset().to_string(),
                });
            }
            offset = Some(nested.offset());
            all.push(Tensor::u8s(absmax, nested.codes()));
            all.push(Tensor::f32s(nested_absmax, nested.absmax()));
            all.push(Tensor::f32s(nested_map, &dynamic_map::signed8()));
        }
    }
    let state = json(
        weights.code(),
        weights.block(),
        *dtype,
        weights.shape(),
        offset,
    );
    all.push(Tensor::u8s(state_name, state.as_bytes()));
    Ok(all)
}

/// The JSON of a state, as Python writes it.
pub(crate) fn json(
    code: FourBitCode,
    block: usize,
    dtype: WeightType,
    shape: &[usize],
    nested_offset: Option<f32>,
) -> String {
    let nested = nested_offset.map_or(String::new(), |offset| {
        let offset = python::number(offset.into());
        format!(
            r#", "nested_blocksize": {NESTED_BLOCK}, "nested_dtype": "float32", "nested_offset": {offset}"#
        )
    });
    format!(
        r#"{{"quant_type": "{}", "blocksize": {block}, "dtype": "{}", "shape": {}{nested}}}"#,
        code_name(code),
        dtype.name(),
        python::sizes(shape),
    )
}

/// The name of the state of the weight `name`.
pub(crate) fn state_name(name: &str, code: FourBitCode) -> String {
    format!("{name}{STATE}{}", code_name(code))
}

/// Shape of packed bytes in a file.
pub(crate) fn packed_shape(n_bytes: usize, stored_as: PackedType) -> Result<Vec<usize>, FileError> {
    let storage = stored_as.dtype();
    let size = storage.bitsize() / 8;
    if n_bytes.is_multiple_of(size) {
        return Ok(vec![n_bytes / size, 1]);
    }
    Err(FileError::Storage { n_bytes, storage })
}

fn code_name(code: FourBitCode) -> &'static str {
    CODES
        .iter()
        .find(|known| known.0 == code)
        .map_or("", |known| known.1)
}

/// The one state of a weight.
fn find_state(
    source: &(impl TensorSource + ?Sized),
    name: &str,
) -> Result<(FourBitCode, String), FileError> {
    let mut found = CODES
        .iter()
        .map(|&(code, _)| (code, state_name(name, code)))
        .filter(|(_, state)| source.info(state).is_some());
    let state = found.next().ok_or_else(|| FileError::MissingTensor {
        name: state_name(name, FourBitCode::Nf4),
    })?;
    match found.next() {
        Some((_, name)) => Err(FileError::UnexpectedTensor { name }),
        None => Ok(state),
    }
}

/// That packed bytes have a type of bitsandbytes and are as many as the shape needs.
fn check_packed(
    info: &super::TensorInfo,
    name: &str,
    shape: &[usize],
    len: usize,
) -> Result<PackedType, FileError> {
    let stored_as = PackedType::from_dtype(info.dtype).ok_or_else(|| FileError::TensorType {
        name: name.to_owned(),
        expected: "U8, I8, F16, BF16, F32 or F64",
        got: info.dtype,
    })?;
    let (expected, got) = (len.div_ceil(2), info.data_offsets.1 - info.data_offsets.0);
    if expected == got {
        return Ok(stored_as);
    }
    Err(FileError::Quant {
        name: name.to_owned(),
        source: QuantError::PackedLen {
            shape: shape.to_vec(),
            expected,
            got,
        },
    })
}

fn check_map(
    source: &mut (impl TensorSource + ?Sized),
    name: &str,
    values: &[f32],
) -> Result<(), FileError> {
    let got = read_f32s(source, name, values.len())?;
    let mut both = values.iter().zip(got).enumerate();
    match both.find(|(_, (expected, got))| *expected != got) {
        Some((index, (&expected, got))) => Err(FileError::CodeValue {
            name: name.to_owned(),
            index,
            expected,
            got,
        }),
        None => Ok(()),
    }
}

/// Nested scales; plain ones where the map is another than ours.
fn nested(
    codes: Vec<u8>,
    absmax: Vec<f32>,
    offset: f32,
    map: &[f32],
) -> Result<Scales, QuantError> {
    if map == dynamic_map::signed8() {
        return Ok(Scales::Nested(NestedScales::from_parts(
            codes, absmax, offset,
        )?));
    }
    let mut scales = zeros::<f32>(codes.len())?;
    for ((scale, code), i) in scales.iter_mut().zip(codes).zip(0..) {
        *scale = map[usize::from(code)] * absmax[i / NESTED_BLOCK] + offset;
    }
    Ok(Scales::Plain(scales))
}

/// What the JSON of a state says.
struct State {
    block: usize,
    dtype: WeightType,
    shape: Vec<usize>,
    nested_offset: Option<f32>,
}

/// The JSON of a state, as it stands there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Option<Vec<usize>>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

impl State {
    fn read(
        source: &mut (impl TensorSource + ?Sized),
        name: &str,
        code: FourBitCode,
    ) -> Result<Self, FileError> {
        let json_error = |message: String| FileError::StateJson {
            name: name.to_owned(),
            message,
        };
        let [len] = info(source, name)?.shape[..] else {
            return Err(json_error("it must be a list of bytes".to_owned()));
        };
        if len > MAX_JSON {
            return Err(json_error(format!(
                "it has {len} bytes, more than {MAX_JSON}"
            )));
        }
        let json = read_list(source, name, Dtype::U8, len)?;
        let Object(raw) = serde_json::from_slice::<Object<Raw>>(&json)
            .map_err(|error| json_error(error.to_string()))?;
        let field = |field, expected: &str, got: String| FileError::StateField {
            name: name.to_owned(),
            field,
            expected: expected.to_owned(),
            got,
        };
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        if raw.quant_type != code_name(code) {
            return Err(field("quant_type", code_name(code), raw.quant_type));
        }
        let dtype = WeightType::from_name(&raw.dtype)
            .ok_or_else(|| field("dtype", "float32, float16 or bfloat16", raw.dtype))?;
        let shape = { raw.shape }.ok_or_else(|| field("shape", "a list of sizes", text(None)))?;
        let is_nested = raw.nested_blocksize.is_some()
            || raw.nested_dtype.is_some()
            || raw.nested_offset.is_some();
        if is_nested {
            if raw.nested_blocksize != Some(NESTED_BLOCK) {
                let got = raw.nested_blocksize.map(|n| n.to_string());
                return Err(field("nested_blocksize", "256", text(got)));
            }
            if raw.nested_dtype.as_deref() != Some("float32") {
                return Err(field("nested_dtype", "float32", text(raw.nested_dtype)));
            }
            let offset = raw.nested_offset.map(|x| x as f32);
            if !offset.is_some_and(f32::is_finite) {
                let got = raw.nested_offset.map(|x| x.to_string());
                return Err(field("nested_offset", "a number within f32", text(got)));
            }
        }
        Ok(Self {
            block: raw.blocksize,
            dtype,
            shape,
            nested_offset: raw.nested_offset.map(|x| x as f32),
        })
    }
}
