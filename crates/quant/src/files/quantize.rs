//! Whole checkpoints, quantized one tensor at a time.

use std::collections::BTreeMap;
use std::path::Path;

use llm_numerics::Storage;
use llm_numerics::half::{bf16, f16};
use ndarray::Array2;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::json;

use super::checkpoint::{CONFIG, Checkpoint, INDEX, SINGLE};
use super::four_bit_state::{self, FourBitTensor, packed_shape};
use super::source::info;
use super::{
    FileError, LoadIn, PackedType, QuantizationConfig, Tensor, TensorSource, TensorWriter,
    WeightType, int8_state, writer,
};
use crate::double::{self, NESTED_BLOCK};
use crate::eight_bit::EightBitSearch;
use crate::four_bit::blocks::filled;
use crate::four_bit::{self, FourBitConfig, NonFinite, check_block};
use crate::{QuantError, vector_wise};

/// How weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// Four bits in blocks.
    FourBit {
        /// Which sixteen values, in which blocks.
        config: FourBitConfig,
        /// The search for nested scales, or plain ones.
        nested: Option<EightBitSearch>,
        /// What packed bytes are declared as.
        stored_as: PackedType,
    },
    /// Eight bits, a scale for each row. Weights are rounded to `f16` first, as bitsandbytes does.
    EightBit {
        /// Magnitude of an input from which on its column is an outlier: a wish for whoever loads the checkpoint.
        threshold: f32,
    },
}

/// Settings of [`checkpoint`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CheckpointConfig {
    /// How weights are quantized.
    pub method: Method,
    /// The type that products should be computed in: a wish for whoever loads the checkpoint.
    pub compute_type: WeightType,
    /// Modules that are left as they are, as [`is_linear`] has them; none: the head.
    pub skip_modules: Option<Vec<String>>,
}

impl CheckpointConfig {
    /// A method, with products in 32 bits.
    #[must_use]
    pub const fn new(method: Method) -> Self {
        Self {
            method,
            compute_type: WeightType::F32,
            skip_modules: None,
        }
    }

    /// Sets [`compute_type`](Self::compute_type).
    #[must_use]
    pub const fn with_compute_type(mut self, compute_type: WeightType) -> Self {
        self.compute_type = compute_type;
        self
    }

    /// Sets [`skip_modules`](Self::skip_modules).
    #[must_use]
    pub fn with_skip_modules(mut self, skip_modules: Vec<String>) -> Self {
        self.skip_modules = Some(skip_modules);
        self
    }

    /// What `config.json` says about such a checkpoint.
    #[must_use]
    pub fn section(&self) -> QuantizationConfig {
        let section = match self.method {
            Method::FourBit {
                config,
                nested,
                stored_as,
            } => QuantizationConfig::new(LoadIn::FourBit)
                .with_code(config.code)
                .with_nested(nested.is_some())
                .with_stored_as(stored_as),
            Method::EightBit { threshold } => {
                QuantizationConfig::new(LoadIn::EightBit).with_threshold(threshold.into())
            }
        };
        section
            .with_compute_type(self.compute_type)
            .with_skip_modules(self.skip_modules.clone())
    }
}

/// How far [`checkpoint`] is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The tensor that was written last.
    pub name: &'a str,
    /// Whether it was quantized.
    pub is_quantized: bool,
    /// Bytes of the old checkpoint that are done.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// What came out of [`checkpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Tensors that were quantized.
    pub n_quantized: usize,
    /// Tensors that were copied.
    pub n_copied: usize,
    /// Bytes of all tensors before.
    pub before: u64,
    /// Bytes of all tensors after.
    pub after: u64,
}

/// Whether a tensor looks like the weight of a linear layer that transformers would quantize.
///
/// It is a matrix of `F32`, `F16` or `BF16` named `….weight`, no part of its name says that it embeds (as `relative_attention_bias` in T5 does), it is no
/// router (a module `gate`) and no expert (a part `experts` before a number), and it is in none of the modules that are skipped (without a list: `lm_head`).
/// Routers and experts are no linear layers in transformers 5.23: it keeps experts in arrays of three axes. A module is skipped if its name ends with an entry of the list, or
/// if the entry is the name of it or of a module that it is in. (transformers takes entries for patterns besides.) Names are all that a file has: where they are others (as `wte`
/// in GPT-2, whose linear layers are transposed besides), choose by a closure of your own.
#[must_use]
pub fn is_linear(name: &str, info: &TensorInfo, skip_modules: Option<&[String]>) -> bool {
    let Some(module) = name.strip_suffix(".weight") else {
        return false;
    };
    let is_in = |skip: &String| {
        let rest = module.strip_prefix(&skip[..]);
        let is_whole = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        is_whole || module.ends_with(&skip[..])
    };
    let is_skipped = match skip_modules {
        None => module.ends_with("lm_head"),
        Some(skip) => skip.iter().any(is_in),
    };
    let embeds = |part: &str| {
        part.contains("embed")
            || matches!(part, "wte" | "wpe" | "shared" | "relative_attention_bias")
    };
    let parts: Vec<&str> = module.split('.').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|x| x.is_ascii_digit());
    let is_expert = { parts.windows(2) }.any(|two| two[0] == "experts" && is_number(two[1]));
    let is_router = parts.last() == Some(&"gate");
    info.shape.len() == 2
        && WeightType::from_dtype(info.dtype).is_some()
        && !is_skipped
        && !is_router
        && !is_expert
        && !parts.into_iter().any(embeds)
}

/// Quantizes the checkpoint in the folder `from` and writes it to the folder `to`.
///
/// Weights for which `choose` is true are quantized, all other tensors are copied; [`is_linear`] chooses as transformers does. Each file of the old
/// checkpoint becomes one of the same name. `progress` is called after each tensor. What else is in the folder, as the tokenizer, is not copied.
///
/// # Errors
///
/// - Those of [`Checkpoint::open`].
/// - [`FileError::AlreadyQuantized`] if the checkpoint is quantized.
/// - [`FileError::NotWeight`] if a tensor is chosen that is no matrix of floating-point numbers.
/// - [`FileError::NoColumns`] if a weight is chosen for eight bits that has rows without columns.
/// - [`FileError::Occupied`] if `to` has a `config.json`, an index or a file of a name that is needed, or gets one from another run
///   meanwhile: nothing is overwritten.
/// - [`FileError::Quant`] if a weight cannot be quantized (as with NaN), [`FileError::Storage`] if its bytes cannot be declared so.
/// - [`FileError::Io`] if something cannot be read or written.
///
/// Files appear when they are whole, and `config.json` last: without it the folder is not a checkpoint. What a run left that was stopped must be
/// removed before the next one; temporary files end in `.tmp`.
///
/// # Precision
///
/// Those of [`four_bit::quantize`] and [`double::compress`]. Tensors lie in the order of the format's library; states of nested scales come last, because
/// their length is known only after their offset. Memory: the largest tensor twice, and what it is quantized to.
///
/// # References
///
/// transformers 5.23.0, `save_pretrained` of a model loaded with `BitsAndBytesConfig`.
pub fn checkpoint(
    from: &Path,
    to: &Path,
    config: &CheckpointConfig,
    choose: impl Fn(&str, &TensorInfo) -> bool,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Summary, FileError> {
    check_method(config.method).map_err(FileError::quant(CONFIG))?;
    let mut source = Checkpoint::open(from)?;
    check_plain(&source)?;
    let files: Vec<String> = source.file_names().map(str::to_owned).collect();
    let parts = files.iter().map(|file| &file[..]);
    check_vacant(to, [CONFIG, SINGLE, INDEX].into_iter().chain(parts))?;
    // What another run writes meanwhile, in one file or in several, would hide ours or be hidden.
    let other = if source.is_sharded() { SINGLE } else { INDEX };
    let names = source.names();
    let infos = names.iter().filter_map(|name| source.info(name));
    let total = infos.map(|info| n_bytes(info) as u64).sum();
    let mut done = 0;
    let mut summary = Summary {
        before: total,
        ..Summary::default()
    };
    let mut weight_map = BTreeMap::new();
    for file in files {
        let Some(old) = source.file(&file) else {
            continue;
        };
        let metadata = old.metadata().clone();
        let mut announced = Vec::new();
        let mut late = Vec::new();
        let mut plan = Vec::new();
        for name in old.names() {
            let info = info(&source, &name)?;
            let dtype = match choose(&name, info) {
                true => Some(check_weight(&name, info, config.method)?),
                false => None,
            };
            match dtype {
                Some(dtype) => {
                    announce(&name, info, dtype, config.method, &mut announced, &mut late)?
                }
                None => announced.push((name.clone(), info.dtype, info.shape.clone())),
            }
            plan.push((name, dtype));
        }
        for name in announced.iter().map(|tensor| &tensor.0).chain(&late) {
            weight_map.insert(name.clone(), file.clone());
        }
        let mut writer = TensorWriter::create(&to.join(&file), &metadata, announced, late)?;
        for (name, dtype) in plan {
            let info = info(&source, &name)?;
            let (shape, n_bytes) = (info.shape.clone(), n_bytes(info));
            let bytes = source.read(&name)?;
            if let Some(dtype) = dtype {
                for tensor in quantize(&name, dtype, &shape, bytes, config.method)? {
                    writer.write(&tensor.name, &tensor.bytes)?;
                }
                summary.n_quantized += 1;
            } else {
                writer.write(&name, &bytes)?;
                summary.n_copied += 1;
            }
            done += n_bytes as u64;
            progress(Progress {
                name: &name,
                is_quantized: dtype.is_some(),
                done,
                total,
            });
        }
        summary.after += writer.n_bytes() as u64;
        check_vacant(to, [other])?;
        writer.finish_new()?;
    }
    if source.is_sharded() {
        let index_json =
            json!({"metadata": {"total_size": summary.after}, "weight_map": weight_map});
        writer::write_new(&to.join(INDEX), format!("{index_json:#}\n").as_bytes())?;
    }
    check_vacant(to, [other])?;
    let config_json = config.section().write(source.config_json())?;
    writer::write_new(&to.join(CONFIG), config_json.as_bytes())?;
    Ok(summary)
}

/// That a folder has none of these files.
fn check_vacant<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = &'a str>,
) -> Result<(), FileError> {
    for file in files {
        let path = folder.join(file);
        if path.symlink_metadata().is_ok() {
            return Err(FileError::Occupied { path });
        }
    }
    Ok(())
}

fn check_method(method: Method) -> Result<(), QuantError> {
    match method {
        Method::FourBit { config, .. } => check_block(config.block),
        Method::EightBit { threshold } if threshold >= 0.0 && threshold.is_finite() => Ok(()),
        Method::EightBit { threshold } => Err(QuantError::Threshold { got: threshold }),
    }
}

fn n_bytes(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

fn check_plain(source: &Checkpoint) -> Result<(), FileError> {
    let (four, eight) = (four_bit_state::names(source), int8_state::names(source));
    let found = four.first().or(eight.first());
    let found = match source.config() {
        Some(_) => Some(CONFIG.to_owned()),
        None => found.cloned(),
    };
    match found {
        Some(name) => Err(FileError::AlreadyQuantized { name }),
        None => Ok(()),
    }
}

fn check_weight(name: &str, info: &TensorInfo, method: Method) -> Result<WeightType, FileError> {
    // Four bits have a scale for so many numbers, eight for each row: a tiny file could ask for any number of scales.
    if let (Method::EightBit { .. }, &[rows, 0]) = (method, &info.shape[..])
        && rows > 0
    {
        let name = name.to_owned();
        return Err(FileError::NoColumns { name, rows });
    }
    let is_weight = name.ends_with(".weight") && info.shape.len() == 2;
    let dtype = WeightType::from_dtype(info.dtype).filter(|_| is_weight);
    dtype.ok_or_else(|| FileError::NotWeight {
        name: name.to_owned(),
        dtype: info.dtype,
        shape: info.shape.clone(),
    })
}

type Announced = (String, Dtype, Vec<usize>);

/// The tensors that a weight will become.
fn announce(
    name: &str,
    info: &TensorInfo,
    dtype: WeightType,
    method: Method,
    announced: &mut Vec<Announced>,
    late: &mut Vec<String>,
) -> Result<(), FileError> {
    let Method::FourBit {
        config,
        nested,
        stored_as,
    } = method
    else {
        let [scales, format] = int8_state::companions(name, &info.shape)?;
        announced.push((name.to_owned(), Dtype::I8, info.shape.clone()));
        announced.push((scales, Dtype::F32, vec![info.shape[0]]));
        announced.push((format, Dtype::U8, Vec::new()));
        return Ok(());
    };
    let len: usize = info.shape.iter().product(); // fits: the header was checked
    let n_blocks = len.div_ceil(config.block);
    let [absmax, map, nested_absmax, nested_map] = four_bit_state::companions(name);
    let shape = packed_shape(len.div_ceil(2), stored_as)?;
    announced.push((name.to_owned(), stored_as.dtype(), shape));
    announced.push((map, Dtype::F32, vec![16]));
    let state = four_bit_state::state_name(name, config.code);
    if nested.is_some() {
        announced.push((absmax, Dtype::U8, vec![n_blocks]));
        announced.push((
            nested_absmax,
            Dtype::F32,
            vec![n_blocks.div_ceil(NESTED_BLOCK)],
        ));
        announced.push((nested_map, Dtype::F32, vec![256]));
        late.push(state);
    } else {
        announced.push((absmax, Dtype::F32, vec![n_blocks]));
        let json = four_bit_state::json(config.code, config.block, dtype, &info.shape, None);
        announced.push((state, Dtype::U8, vec![json.len()]));
    }
    Ok(())
}

/// The tensors that a weight becomes.
fn quantize(
    name: &str,
    dtype: WeightType,
    shape: &[usize],
    bytes: Vec<u8>,
    method: Method,
) -> Result<Vec<Tensor>, FileError> {
    match dtype {
        WeightType::F32 => {
            let x = matrix(name, shape, bytes, f32::from_le_bytes)?;
            weights(name, dtype, x, method, f16::from_f32)
        }
        WeightType::F16 => {
            let x = matrix(name, shape, bytes, f16::from_le_bytes)?;
            weights(name, dtype, x, method, |x| x)
        }
        WeightType::Bf16 => {
            let x = matrix(name, shape, bytes, bf16::from_le_bytes)?;
            weights(name, dtype, x, method, |x| f16::from_f32(x.to_f32()))
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
) -> Result<Vec<Tensor>, FileError> {
    let Method::FourBit {
        config,
        nested,
        stored_as,
    } = method
    else {
        let rows = vector_wise::quantize(&x.mapv(to_half), NonFinite::Refuse);
        return int8_state::tensors(name, &rows.map_err(FileError::quant(name))?);
    };
    let mut packed = four_bit::quantize(&x, &config).map_err(FileError::quant(name))?;
    drop(x);
    if let Some(search) = nested {
        packed = double::compress(packed, search).map_err(FileError::quant(name))?;
    }
    let tensor = FourBitTensor::new(packed, dtype).with_stored_as(stored_as);
    four_bit_state::tensors(name, &tensor)
}
