//! A folder with a checkpoint: one file, or several with an index.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;
use serde_json::Value;

use super::file::open_file;
use super::writer::folder;
use super::{FileError, QuantizationConfig, TensorFile, TensorSource, json};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The longest configuration or index that is looked at; that of a model with a million tensors has a tenth of it.
const MAX_JSON: u64 = 1 << 30;

/// All tensors of a folder as transformers writes it: `model.safetensors`, or files that `model.safetensors.index.json` lists. If both are there, the one file
/// is taken, as transformers 5.23 does.
///
/// The tensors of a weight may be in different files. Only headers are read until a tensor is asked for.
///
/// # Example
///
/// ```
/// use llm_quant::files::{Checkpoint, FileError, four_bit_state};
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_dir/nf4_nested_shards");
/// # let folder = std::path::Path::new(folder);
///
/// let mut checkpoint = Checkpoint::open(folder)?;
/// for name in four_bit_state::names(&checkpoint) {
///     let weights = four_bit_state::read(&mut checkpoint, &name)?.weights;
///     println!("{name}: {:?} in {} bytes", weights.shape(), weights.bytes());
/// }
/// # Ok::<(), FileError>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    config_json: String,
    config: Option<QuantizationConfig>,
    files: Vec<(String, TensorFile<File>)>,
    /// In which file a tensor is.
    places: BTreeMap<String, usize>,
    is_sharded: bool,
}

impl Checkpoint {
    /// Opens a folder: reads its `config.json`, its index and the headers of its files.
    ///
    /// # Errors
    ///
    /// - [`FileError::Io`] if a file cannot be read, [`FileError::NotFile`] if it is none, [`FileError::JsonLen`] if it is too long.
    /// - [`FileError::ConfigJson`] or [`FileError::ConfigField`] if the configuration is refused.
    /// - [`FileError::IndexJson`] or [`FileError::ShardName`] if the index is.
    /// - [`FileError::MissingTensor`] if a tensor is not in the file that the index names, [`FileError::DuplicateTensor`] if it is in two.
    /// - Those of [`TensorFile::new`], within [`FileError::InFile`].
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        let config_json = read_text(&folder.join(CONFIG))?;
        let config = QuantizationConfig::read(&config_json)?;
        let index = folder.join(INDEX);
        let is_sharded = !folder.join(SINGLE).is_file() && index.exists();
        let weight_map = if is_sharded {
            read_index(&read_text(&index)?)?
        } else {
            BTreeMap::new()
        };
        let mut names: Vec<&str> = weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if !is_sharded {
            names.push(SINGLE);
        }
        let mut files = Vec::new();
        for name in names {
            let path = folder.join(name);
            let file = TensorFile::open(&path).map_err(|error| error.in_file(&path))?;
            files.push((name.to_owned(), file));
        }
        let mut places = BTreeMap::new();
        for (i, (_, file)) in files.iter().enumerate() {
            for name in file.names() {
                if let Some(first) = places.insert(name.clone(), i) {
                    let files = [first, i].map(|i| files[i].0.clone());
                    return Err(FileError::DuplicateTensor { name, files });
                }
            }
        }
        for (name, file) in &weight_map {
            let place = places.get(name).map(|&i| &files[i].0);
            if place != Some(file) {
                let name = name.clone();
                return Err(FileError::MissingTensor { name }.in_file(&folder.join(file)));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            config_json,
            config,
            files,
            places,
            is_sharded,
        })
    }

    /// Opens one safetensors file, whatever its name; of a `config.json` beside it nothing is read.
    ///
    /// # Errors
    ///
    /// Those of [`TensorFile::open`].
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::files::{Checkpoint, TensorSource};
    /// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_base/model.safetensors");
    /// # let file = std::path::Path::new(file);
    ///
    /// let mut checkpoint = Checkpoint::open_file(file)?;
    /// assert_eq!((checkpoint.names().len(), checkpoint.config()), (12, None));
    /// # Ok::<(), llm_quant::files::FileError>(())
    /// ```
    pub fn open_file(path: &Path) -> Result<Self, FileError> {
        let file = TensorFile::open(path).map_err(|error| error.in_file(path))?;
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        Ok(Self {
            folder: folder(path).to_owned(),
            config_json: "{}".to_owned(),
            config: None,
            places: file.names().into_iter().map(|name| (name, 0)).collect(),
            files: vec![(name, file)],
            is_sharded: false,
        })
    }

    /// The text of `config.json`; an empty object where one file was opened.
    #[must_use]
    pub fn config_json(&self) -> &str {
        &self.config_json
    }

    /// What it says about quantized weights, if it does.
    #[must_use]
    pub fn config(&self) -> Option<&QuantizationConfig> {
        self.config.as_ref()
    }

    /// Names of the files, ascending.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| &name[..])
    }

    /// The file of that name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&TensorFile<File>> {
        let mut files = self.files.iter();
        files.find(|file| file.0 == name).map(|file| &file.1)
    }

    /// Whether there is an index.
    #[must_use]
    pub fn is_sharded(&self) -> bool {
        self.is_sharded
    }
}

impl TensorSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.files[*self.places.get(name)?].1.info(name)
    }

    fn read(&mut self, name: &str) -> Result<Vec<u8>, FileError> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| FileError::MissingTensor {
                name: name.to_owned(),
            })?;
        let (file, reader) = &mut self.files[*place];
        let path = self.folder.join(file);
        reader.read(name).map_err(|error| error.in_file(&path))
    }
}

/// Which tensor is in which file.
fn read_index(text: &str) -> Result<BTreeMap<String, String>, FileError> {
    let error = |message: String| FileError::IndexJson { message };
    let index = json::parse(text).map_err(|refused| error(refused.to_string()))?;
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err(error("it must have an object weight_map".to_owned()));
    };
    let mut files = BTreeMap::new();
    for (name, file) in map {
        let Some(file) = file.as_str() else {
            return Err(error(format!("the file of {name} must be a text")));
        };
        // A name with a folder could point anywhere.
        let is_plain = file.ends_with(".safetensors") && !file.contains(['/', '\\', ':', '\0']);
        if !is_plain {
            let name = file.to_owned();
            return Err(FileError::ShardName { name });
        }
        files.insert(name.clone(), file.to_owned());
    }
    if files.is_empty() {
        return Err(error("weight_map must not be empty".to_owned()));
    }
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let io = |error| FileError::io(path, &error);
    let file = open_file(path)?;
    let len = file.metadata().map_err(io)?.len();
    let limit = MAX_JSON;
    let too_long = |got| FileError::JsonLen { limit, got }.in_file(path);
    if len > limit {
        return Err(too_long(len));
    }
    let mut text = String::new();
    // A file may grow while it is read.
    let got = file.take(limit + 1).read_to_string(&mut text);
    let got = got.map_err(io)? as u64;
    match got <= limit {
        true => Ok(text),
        false => Err(too_long(got)),
    }
}
