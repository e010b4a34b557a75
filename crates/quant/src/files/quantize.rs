//! Whole checkpoints, quantized one tensor at a time.

mod choice;
mod plan;
mod weights;

use core::ops::ControlFlow;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde_json::json;

use super::checkpoint::{CONFIG, Checkpoint, INDEX, SINGLE};
use super::source::info;
use super::stage::{Kind, Stage};
use super::{
    FileError, LoadIn, PackedType, QuantizationConfig, TensorSource, TensorWriter, WeightType,
    four_bit_state, int8_state, write_whole,
};
use crate::QuantError;
use crate::eight_bit::EightBitSearch;
use crate::four_bit::{FourBitConfig, NonFinite, check_block};
use crate::report::{ErrorReport, Sums};

pub use choice::{SkipModules, is_linear};

/// How weights are quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// Four bits in blocks.
    FourBit {
        /// Which sixteen values, in which blocks, and what to do with NaN and infinities.
        config: FourBitConfig,
        /// The search for nested scales, or plain ones. Nested ones have no NaN, so the policy [`NonFinite::PoisonBlock`] needs plain ones.
        nested: Option<EightBitSearch>,
        /// What packed bytes are declared as.
        stored_as: PackedType,
    },
    /// Eight bits, a scale for each row. Weights are rounded to `f16` first, as bitsandbytes does.
    EightBit {
        /// Magnitude of an input from which on its column is an outlier: a wish for whoever loads the checkpoint.
        threshold: f32,
        /// What to do with NaN and infinities, where a block is a row.
        non_finite: NonFinite,
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
    /// Modules that are left as they are, see [`SkipModules`]; none: the head.
    pub skip_modules: Option<Vec<String>>,
    /// Whether what is lost is measured.
    pub measure: Measure,
}

/// What [`checkpoint`] finds out besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Measure {
    /// Nothing.
    #[default]
    Nothing,
    /// How far weights come back from what they were: each is unpacked once, which needs four bytes more for each of its elements.
    Errors,
}

impl CheckpointConfig {
    /// A method, with products in 32 bits.
    #[must_use]
    pub const fn new(method: Method) -> Self {
        Self {
            method,
            compute_type: WeightType::F32,
            skip_modules: None,
            measure: Measure::Nothing,
        }
    }

    /// Sets [`measure`](Self::measure).
    #[must_use]
    pub const fn with_measure(mut self, measure: Measure) -> Self {
        self.measure = measure;
        self
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
    ///
    /// # Example
    ///
    /// ```
    /// use llm_quant::files::LoadIn;
    /// use llm_quant::files::quantize::{CheckpointConfig, Method};
    /// use llm_quant::four_bit::NonFinite;
    ///
    /// let method = Method::EightBit { threshold: 6.0, non_finite: NonFinite::Refuse };
    /// let config = CheckpointConfig::new(method).with_skip_modules(vec!["head".to_owned()]);
    /// let section = config.section();
    /// assert_eq!(section.load_in, LoadIn::EightBit);
    /// assert_eq!(section.skip_modules, Some(vec!["head".to_owned()]));
    /// ```
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
            Method::EightBit { threshold, .. } => {
                QuantizationConfig::new(LoadIn::EightBit).with_threshold(threshold.into())
            }
        };
        section
            .with_compute_type(self.compute_type)
            .with_skip_modules(self.skip_modules.clone())
    }
}

/// How far a run is.
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
    /// Tensors that are done.
    pub n_done: usize,
    /// All of them.
    pub n_tensors: usize,
}

/// What came out of [`checkpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Default)]
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
    /// Numbers in the tensors that were quantized.
    pub n_weights: u64,
    /// Bytes of those tensors before.
    pub weights_before: u64,
    /// Bytes of what they became: codes, scales, maps and states.
    pub weights_after: u64,
    /// Numbers in all tensors of the old checkpoint.
    pub n_parameters: u64,
    /// How far all weights together came back from what they were, with [`Measure::Errors`]. Eight bits are compared with what was there before it was rounded
    /// to `f16`.
    pub errors: Option<ErrorReport>,
}

/// Quantizes a checkpoint and writes it to a new place.
///
/// `from` and `to` are folders as transformers writes them, or two safetensors files. Weights that [`is_linear`] finds outside of
/// [`skip_modules`](CheckpointConfig::skip_modules) are quantized, all other tensors are copied. Each file of a folder becomes one of the same
/// name, and `config.json` says what was done; what else is in the folder, as the tokenizer, is not copied. `progress` is called after each tensor and
/// can stop the run.
///
/// # Errors
///
/// - Those of [`Checkpoint::open`].
/// - [`FileError::SkipPattern`] if an entry of the list of modules is no pattern.
/// - [`FileError::NestedPoison`] if scales should be nested and the policy is [`NonFinite::PoisonBlock`].
/// - [`FileError::AlreadyQuantized`] if the checkpoint is quantized.
/// - [`FileError::NoColumns`] if a weight is chosen for eight bits that has rows without columns.
/// - [`FileError::NameTaken`] if a weight would become a tensor of a name that another one has.
/// - [`FileError::Occupied`] if `to` is there and no empty folder: nothing is overwritten.
/// - [`FileError::Busy`] if another run writes to it.
/// - [`FileError::Quant`] if a weight cannot be quantized (as with NaN), [`FileError::HalfOverflow`] if it is too large for eight bits,
///   [`FileError::Storage`] if its bytes cannot be declared so.
/// - [`FileError::Io`] if something cannot be read or written.
/// - [`FileError::Stopped`] if `progress` wants it.
///
/// `to` appears when all of it is there and on the disk. Until then everything is in a folder beside it, `.NAME.unfinished`, which is removed if there is an
/// error. What is left of it when the program is killed is cleared away by the next run for the same `to`. An empty folder `to` is replaced.
///
/// # Precision
///
/// Those of [`four_bit::quantize`](crate::four_bit::quantize), [`double::compress`](crate::double::compress) and
/// [`vector_wise::quantize`](crate::vector_wise::quantize). Tensors lie in the order of the format's library; states of nested scales come last, because
/// their length is known only after their offset. Memory: the largest tensor twice, and what it is quantized to.
///
/// # Example
///
/// ```
/// use core::ops::ControlFlow;
/// use llm_quant::files::FileError;
/// use llm_quant::files::quantize::{self, CheckpointConfig, Method};
/// use llm_quant::four_bit::NonFinite;
/// # let base = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_base");
/// # let base = std::path::Path::new(base);
/// # let folder = tempfile::tempdir().unwrap();
///
/// let method = Method::EightBit { threshold: 6.0, non_finite: NonFinite::Refuse };
/// let config = CheckpointConfig::new(method);
/// let summary = quantize::checkpoint(base, &folder.path().join("int8"), &config, |progress| {
///     println!("{} of {} bytes", progress.done, progress.total);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!((summary.n_quantized, summary.n_copied), (7, 5));
/// # Ok::<(), FileError>(())
/// ```
///
/// # References
///
/// transformers 5.23.0, `save_pretrained` of a model loaded with `BitsAndBytesConfig`.
pub fn checkpoint(
    from: &Path,
    to: &Path,
    config: &CheckpointConfig,
    progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Summary, FileError> {
    let skip = SkipModules::new(config.skip_modules.as_deref())?;
    let choose = |name: &str, info: &TensorInfo| is_linear(name, info, &skip);
    checkpoint_by(from, to, config, choose, progress)
}

/// As [`checkpoint`], but weights for which `choose` is true are quantized.
///
/// What transformers makes of it depends on [`skip_modules`](CheckpointConfig::skip_modules) still: it must list the linear layers that are not chosen.
///
/// # Errors
///
/// - Those of [`checkpoint`].
/// - [`FileError::NotWeight`] if a tensor is chosen that is no matrix of floating-point numbers.
///
/// # Precision
///
/// That of [`checkpoint`].
///
/// # Example
///
/// ```
/// use core::ops::ControlFlow;
/// use llm_quant::files::FileError;
/// use llm_quant::files::quantize::{self, CheckpointConfig, Method};
/// use llm_quant::four_bit::NonFinite;
/// # let base = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_base");
/// # let base = std::path::Path::new(base);
/// # let folder = tempfile::tempdir().unwrap();
///
/// let method = Method::EightBit { threshold: 6.0, non_finite: NonFinite::Refuse };
/// let skip = ["lm_head", "self_attn"].map(str::to_owned);
/// let config = CheckpointConfig::new(method).with_skip_modules(skip.to_vec());
/// let choose = |name: &str, _: &_| name.contains(".mlp.");
/// let to = folder.path().join("int8");
/// let summary = quantize::checkpoint_by(base, &to, &config, choose, |_| ControlFlow::Continue(()))?;
/// assert_eq!(summary.n_quantized, 3);
/// # Ok::<(), FileError>(())
/// ```
pub fn checkpoint_by(
    from: &Path,
    to: &Path,
    config: &CheckpointConfig,
    choose: impl Fn(&str, &TensorInfo) -> bool,
    mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Summary, FileError> {
    check_method(config.method)?;
    let kind = match from.is_dir() {
        true => Kind::Folder,
        false => Kind::File,
    };
    let mut source = match kind {
        Kind::Folder => Checkpoint::open(from)?,
        Kind::File => Checkpoint::open_file(from)?,
    };
    check_plain(&source)?;
    let plan = plan::plan(&source, choose, config.method)?;
    let stage = Stage::open(to, kind)?;
    let mut summary = Summary {
        before: plan.n_bytes,
        n_parameters: plan.n_parameters,
        ..Summary::default()
    };
    let (mut done, mut n_done) = (0, 0);
    let mut sums = Sums::default();
    let mut weight_map = serde_json::Map::new();
    for part in plan.parts {
        let metadata = { source.file(&part.file) }.map(|file| file.metadata().clone());
        let names = part.announced.iter().map(|tensor| &tensor.0);
        for name in names.chain(&part.late) {
            weight_map.insert(name.clone(), json!(part.file));
        }
        let path = stage.path().join(match kind {
            Kind::Folder => &part.file[..],
            Kind::File => SINGLE,
        });
        let metadata = metadata.unwrap_or_default();
        let mut writer = TensorWriter::create(&path, &metadata, part.announced, part.late)?;
        for (name, dtype) in part.tensors {
            let info = info(&source, &name)?;
            let (shape, n_bytes) = (info.shape.clone(), plan::n_bytes(info) as u64);
            let bytes = source.read(&name)?;
            if let Some(dtype) = dtype {
                let measured = match config.measure {
                    Measure::Nothing => None,
                    Measure::Errors => Some(&mut sums),
                };
                let tensors =
                    weights::quantize(&name, dtype, &shape, bytes, config.method, measured)?;
                for tensor in tensors {
                    summary.weights_after += tensor.bytes.len() as u64;
                    writer.write(&tensor.name, &tensor.bytes)?;
                }
                summary.n_quantized += 1;
                summary.weights_before += n_bytes;
                summary.n_weights += shape.iter().product::<usize>() as u64;
            } else {
                writer.write(&name, &bytes)?;
                summary.n_copied += 1;
            }
            done += n_bytes;
            n_done += 1;
            let now = Progress {
                name: &name,
                is_quantized: dtype.is_some(),
                done,
                total: plan.n_bytes,
                n_done,
                n_tensors: plan.n_tensors,
            };
            if progress(now).is_break() {
                let total = plan.n_bytes;
                return Err(FileError::Stopped { done, total });
            }
        }
        summary.after += writer.n_bytes() as u64;
        writer.finish()?;
    }
    if config.measure == Measure::Errors {
        summary.errors = Some(sums.report());
    }
    if source.is_sharded() {
        let metadata = json!({ "total_size": summary.after });
        let index = json!({ "metadata": metadata, "weight_map": weight_map });
        write_whole(&stage.path().join(INDEX), format!("{index:#}\n").as_bytes())?;
    }
    if kind == Kind::Folder {
        let config_json = config.section().write(source.config_json())?;
        write_whole(&stage.path().join(CONFIG), config_json.as_bytes())?;
    }
    stage.publish()?;
    Ok(summary)
}

fn check_method(method: Method) -> Result<(), FileError> {
    let quant = FileError::quant(CONFIG);
    match method {
        Method::FourBit { config, nested, .. } => {
            if nested.is_some() && config.non_finite == NonFinite::PoisonBlock {
                return Err(FileError::NestedPoison);
            }
            check_block(config.block).map_err(quant)
        }
        Method::EightBit { threshold, .. } if threshold >= 0.0 && threshold.is_finite() => Ok(()),
        Method::EightBit { threshold, .. } => Err(quant(QuantError::Threshold { got: threshold })),
    }
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
