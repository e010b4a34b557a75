//! Hugging Face checkpoints: `config.json` with safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use llm_numerics::Float;
use ndarray::{ArrayViewD, ArrayViewMutD, Axis, Slice};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{Decoder, DecoderConfig, DecoderError, Family, Params};

/// The number type that weights are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// 32 bits: nothing is lost of an `f32` model.
    F32,
    /// 16 bits with 11 significant ones; a weight above 65 504 is refused.
    F16,
    /// 16 bits with 8 significant ones and the range of `F32`.
    Bf16,
}

/// Reads a directory with `config.json` and `model.safetensors` (or shards and
/// `model.safetensors.index.json`).
///
/// Weights may be stored as F32, F16 or BF16.
///
/// # Errors
///
/// - [`DecoderError::Io`] if a file cannot be read.
/// - [`DecoderError::ConfigJson`], [`DecoderError::Unsupported`] or
///   [`DecoderError::Config`] if the configuration is refused.
/// - [`DecoderError::WeightFile`], [`DecoderError::MissingTensor`],
///   [`DecoderError::UnexpectedTensor`], [`DecoderError::TensorShape`],
///   [`DecoderError::TensorType`] or [`DecoderError::NonFinite`] if the weights are.
pub fn load<F: Float>(directory: &Path) -> Result<Decoder<F>, DecoderError> {
    let config = DecoderConfig::from_json(&read_text(&directory.join("config.json"))?)?;
    let index = directory.join("model.safetensors.index.json");
    let names = if index.exists() {
        shard_names(&read_text(&index)?)?
    } else {
        BTreeSet::from(["model.safetensors".to_owned()])
    };
    let files = names
        .iter()
        .map(|name| read(&directory.join(name)))
        .collect::<Result<Vec<_>, _>>()?;
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    from_bytes(config, &files)
}

/// Builds a model from the bytes of its safetensors files.
///
/// # Errors
///
/// As [`load`], but for the files.
pub fn from_bytes<F: Float>(
    config: DecoderConfig,
    files: &[&[u8]],
) -> Result<Decoder<F>, DecoderError> {
    config.check()?;
    let parsed = files
        .iter()
        .map(|bytes| SafeTensors::deserialize(bytes))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| DecoderError::WeightFile(error.to_string()))?;
    let mut stored: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for file in &parsed {
        for (name, view) in file.iter() {
            if stored.insert(name.to_owned(), view).is_some() {
                let message = format!("tensor {name} is in two files");
                return Err(DecoderError::WeightFile(message));
            }
        }
    }
    let places = places(&config);
    // Every shape is compared before anything is allocated by the configuration's sizes.
    for place in &places {
        let view = stored
            .get(&place.name)
            .ok_or_else(|| DecoderError::MissingTensor(place.name.clone()))?;
        if view.shape() != place.shape {
            return Err(DecoderError::TensorShape {
                name: place.name.clone(),
                expected: place.shape.clone(),
                got: view.shape().to_vec(),
            });
        }
    }
    let wanted: BTreeSet<&str> = places.iter().map(|place| place.name.as_str()).collect();
    for name in stored.keys() {
        // A tied head and RoPE's frequencies are written by some tools; they say nothing new.
        let redundant =
            (config.tied_head && name == "lm_head.weight") || name.ends_with("rotary_emb.inv_freq");
        if !redundant && !wanted.contains(name.as_str()) {
            return Err(DecoderError::UnexpectedTensor(name.clone()));
        }
    }
    let mut params = Params::zeros(&config);
    let mut tensors: BTreeMap<String, ArrayViewMutD<'_, F>> =
        params.tensors_mut().into_iter().collect();
    for place in &places {
        let values = floats(&place.name, &stored[&place.name])?;
        let tensor = tensors.get_mut(&place.tensor);
        let Some(tensor) = tensor else {
            return Err(DecoderError::MissingTensor(place.name.clone()));
        };
        let rows = Slice::from(place.rows.clone());
        for (x, value) in tensor.slice_axis_mut(Axis(0), rows).iter_mut().zip(values) {
            *x = F::from_f64(f64::from(value));
        }
    }
    drop(tensors);
    Decoder::new(config, params)
}

/// Writes `config.json` and `model.safetensors` into a directory, which is made if needed.
///
/// Each file is written beside its place first and renamed when it is whole, so that
/// an interruption leaves the old file or the new one.
///
/// # Errors
///
/// - [`DecoderError::Io`] if a file cannot be written.
/// - As [`to_bytes`].
pub fn save<F: Float>(
    model: &Decoder<F>,
    directory: &Path,
    weight_type: WeightType,
) -> Result<(), DecoderError> {
    let io = |source| DecoderError::Io {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(io)?;
    let bytes = to_bytes(model, weight_type)?;
    write_whole(&directory.join("model.safetensors"), &bytes)?;
    let config = model.config().to_json();
    write_whole(&directory.join("config.json"), config.as_bytes())
}

/// The bytes of a `model.safetensors` with Hugging Face names.
///
/// # Errors
///
/// - [`DecoderError::NonFinite`] if a weight is not finite in that type.
/// - [`DecoderError::WeightFile`] if the format cannot hold it.
pub fn to_bytes<F: Float>(
    model: &Decoder<F>,
    weight_type: WeightType,
) -> Result<Vec<u8>, DecoderError> {
    let mut stored: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in named_tensors(model.config(), model.params()) {
        let mut bytes = Vec::new();
        for (index, x) in tensor.iter().enumerate() {
            let value = round(x.as_f64() as f32, weight_type);
            if !value.is_finite() {
                return Err(DecoderError::NonFinite { name, index, value });
            }
            bytes.extend(encode(value, weight_type));
        }
        stored.push((name, tensor.shape().to_vec(), bytes));
    }
    let dtype = match weight_type {
        WeightType::F32 => Dtype::F32,
        WeightType::F16 => Dtype::F16,
        WeightType::Bf16 => Dtype::BF16,
    };
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| DecoderError::WeightFile(error.to_string()))?;
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize(views, metadata)
        .map_err(|error| DecoderError::WeightFile(error.to_string()))
}

/// Every tensor of a checkpoint (or of gradients) with its Hugging Face name.
#[must_use]
pub fn named_tensors<'a, F: Float>(
    config: &DecoderConfig,
    params: &'a Params<F>,
) -> Vec<(String, ArrayViewD<'a, F>)> {
    let tensors: BTreeMap<String, ArrayViewD<'a, F>> = params.tensors().into_iter().collect();
    places(config)
        .into_iter()
        .filter_map(|place| {
            let mut rows = tensors.get(&place.tensor)?.clone();
            rows.slice_axis_inplace(Axis(0), Slice::from(place.rows));
            Some((place.name, rows))
        })
        .collect()
}

/// Names and shapes of [`Params::tensors`], without any weights.
pub(crate) fn layout(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    // The stored parts of a tensor follow each other.
    let mut all: Vec<(String, Vec<usize>)> = Vec::new();
    for place in places(config) {
        match all.last_mut() {
            Some((name, shape)) if *name == place.tensor => shape[0] += place.shape[0],
            _ => all.push((place.tensor, place.shape)),
        }
    }
    all
}

/// Where a stored tensor belongs: rows of one of our tensors.
struct Place {
    name: String,       // in the file
    shape: Vec<usize>,  // in the file
    tensor: String,     // of `Params::tensors`
    rows: Range<usize>, // of that tensor
}

/// Every stored tensor of a configuration, in the order of [`Params::tensors`].
fn places(config: &DecoderConfig) -> Vec<Place> {
    let d_model = config.d_model;
    let d_ff = config.d_ff;
    let q = config.n_heads * config.head_dim;
    let kv = config.n_kv_heads * config.head_dim;
    let mut all = Places::default();
    let table = [config.vocab, d_model];
    all.add("model.embed_tokens.weight", "embedding", 0, &table);
    for i in 0..config.n_layers {
        let mut add = |name: &str, tensor: &str, start: usize, shape: &[usize]| {
            all.add(
                &format!("model.layers.{i}.{name}"),
                &format!("layers.{i}.{tensor}"),
                start,
                shape,
            );
        };
        add("input_layernorm.weight", "attention_norm", 0, &[d_model]);
        add("self_attn.q_proj.weight", "qkv", 0, &[q, d_model]);
        add("self_attn.k_proj.weight", "qkv", q, &[kv, d_model]);
        add("self_attn.v_proj.weight", "qkv", q + kv, &[kv, d_model]);
        if config.qkv_bias {
            add("self_attn.q_proj.bias", "qkv_bias", 0, &[q]);
            add("self_attn.k_proj.bias", "qkv_bias", q, &[kv]);
            add("self_attn.v_proj.bias", "qkv_bias", q + kv, &[kv]);
        }
        add("self_attn.o_proj.weight", "output", 0, &[d_model, q]);
        if config.output_bias {
            add("self_attn.o_proj.bias", "output_bias", 0, &[d_model]);
        }
        add("post_attention_layernorm.weight", "mlp_norm", 0, &[d_model]);
        match config.family {
            Family::Glm => {
                add(
                    "mlp.gate_up_proj.weight",
                    "gate_up",
                    0,
                    &[2 * d_ff, d_model],
                );
            }
            Family::Llama => {
                add("mlp.gate_proj.weight", "gate_up", 0, &[d_ff, d_model]);
                add("mlp.up_proj.weight", "gate_up", d_ff, &[d_ff, d_model]);
            }
        }
        if config.mlp_bias {
            match config.family {
                Family::Glm => add("mlp.gate_up_proj.bias", "gate_up_bias", 0, &[2 * d_ff]),
                Family::Llama => {
                    add("mlp.gate_proj.bias", "gate_up_bias", 0, &[d_ff]);
                    add("mlp.up_proj.bias", "gate_up_bias", d_ff, &[d_ff]);
                }
            }
        }
        add("mlp.down_proj.weight", "down", 0, &[d_model, d_ff]);
        if config.mlp_bias {
            add("mlp.down_proj.bias", "down_bias", 0, &[d_model]);
        }
    }
    all.add("model.norm.weight", "final_norm", 0, &[d_model]);
    if !config.tied_head {
        all.add("lm_head.weight", "head", 0, &table);
    }
    all.0
}

#[derive(Default)]
struct Places(Vec<Place>);

impl Places {
    fn add(&mut self, name: &str, tensor: &str, start: usize, shape: &[usize]) {
        self.0.push(Place {
            name: name.to_owned(),
            shape: shape.to_vec(),
            tensor: tensor.to_owned(),
            rows: start..start + shape[0],
        });
    }
}

/// The values of a stored tensor, widened to f32.
fn floats(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, DecoderError> {
    let bytes = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        Dtype::F16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
            .collect(),
        Dtype::BF16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| bf16::from_le_bytes(bytes).to_f32())
            .collect(),
        other => {
            return Err(DecoderError::TensorType {
                name: name.to_owned(),
                got: format!("{other:?}"),
            });
        }
    };
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(DecoderError::NonFinite {
            name: name.to_owned(),
            index,
            value: values[index],
        }),
        None => Ok(values),
    }
}

/// The value that is stored, as `f32`.
fn round(x: f32, weight_type: WeightType) -> f32 {
    match weight_type {
        WeightType::F32 => x,
        WeightType::F16 => f16::from_f32(x).to_f32(),
        WeightType::Bf16 => bf16::from_f32(x).to_f32(),
    }
}

fn encode(x: f32, weight_type: WeightType) -> impl Iterator<Item = u8> {
    let (bytes, n) = match weight_type {
        WeightType::F32 => (x.to_le_bytes(), 4),
        WeightType::F16 => {
            let [a, b] = f16::from_f32(x).to_le_bytes();
            ([a, b, 0, 0], 2)
        }
        WeightType::Bf16 => {
            let [a, b] = bf16::from_f32(x).to_le_bytes();
            ([a, b, 0, 0], 2)
        }
    };
    bytes.into_iter().take(n)
}

/// The shard files that an index names: plain file names only.
fn shard_names(index: &str) -> Result<BTreeSet<String>, DecoderError> {
    let damaged = |what: &str| DecoderError::WeightFile(format!("index: {what}"));
    let value: serde_json::Value =
        serde_json::from_str(index).map_err(|error| damaged(&error.to_string()))?;
    let map = value["weight_map"]
        .as_object()
        .ok_or_else(|| damaged("weight_map must be an object"))?;
    map.values()
        .map(|file| {
            let name = file.as_str().unwrap_or_default();
            let plain = Path::new(name).file_name().is_some_and(|last| last == name);
            if plain && name.ends_with(".safetensors") {
                Ok(name.to_owned())
            } else {
                Err(damaged(&format!(
                    "a shard must be a .safetensors file in the same folder, got {file}"
                )))
            }
        })
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, DecoderError> {
    fs::read(path).map_err(|source| DecoderError::Io {
        path: path.to_owned(),
        source,
    })
}

fn read_text(path: &Path) -> Result<String, DecoderError> {
    fs::read_to_string(path).map_err(|source| DecoderError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file beside its place, and renames it when it is whole and on the disk.
///
/// The folder is made if needed. An interruption leaves the old file or the new one.
///
/// # Errors
///
/// [`DecoderError::Io`] if that fails; the old file is still there then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DecoderError> {
    let io = |source| DecoderError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."), // of a bare name
    };
    fs::create_dir_all(folder).map_err(io)?;
    let mut start = path.file_name().unwrap_or_default().to_owned();
    start.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&start).suffix(".tmp");
    // Not for its owner alone, as temporary files else are, but as any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|refused| io(refused.error))?;
    Ok(())
}
