//! `llm-blocks quantize`: a checkpoint in four or eight bits, in the layout of bitsandbytes.

mod outcome;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llm_blocks::quant::QuantError;
use llm_blocks::quant::eight_bit::EightBitSearch;
use llm_blocks::quant::files::quantize::{self, CheckpointConfig, Measure, Method, Progress};
use llm_blocks::quant::files::{FileError, PackedType, WeightType};
use llm_blocks::quant::four_bit::{FourBitCode, FourBitConfig, NonFinite};

use crate::args::Common;
use crate::failure::Failure;
use crate::interrupt::{self, Stoppable};
use crate::output;
use outcome::Outcome;

/// What bitsandbytes takes unless told otherwise.
const BLOCK_SIZE: usize = 64;
const THRESHOLD: f32 = 6.0;

/// Arguments of the verb.
#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// A folder with config.json and model.safetensors (or files and their index), or one safetensors file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The new folder, or the new file; it must not be there yet, or be an empty folder
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// What weights become
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Weights that share a scale (nf4, fp4): 32, 64, 128, 256, 512, 1024, 2048 or 4096; 64 unless set
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    block_size: Option<usize>,
    /// Store the scales in eight bits, too (nf4, fp4); this is so unless --no-double is set
    #[arg(long, overrides_with = "no_double")]
    double: bool,
    /// Store the scales in 32 bits (nf4, fp4)
    #[arg(long)]
    no_double: bool,
    /// The type that a library should compute in
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    compute_dtype: ComputeType,
    /// What packed bytes are declared as (nf4, fp4); uint8 unless set
    #[arg(long, value_name = "TYPE", value_enum)]
    storage: Option<Storage>,
    /// Magnitude of an input from which on a library should take it out (int8); 6 unless set, 0 for none
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Leave this module as it is: a name, the end of one, or a pattern, by the rule of transformers; may be given several times. Without it the head is left
    #[arg(long, value_name = "MODULE")]
    skip: Vec<String>,
    /// What to do with weights that are NaN or infinite
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    nonfinite: Policy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Four bits, values at quantiles of the normal distribution
    #[default]
    Nf4,
    /// Four bits, a small floating-point number
    Fp4,
    /// Eight bits, a scale for each row (LLM.int8)
    Int8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ComputeType {
    #[default]
    Float32,
    Float16,
    Bfloat16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Storage {
    Uint8,
    Int8,
    Float16,
    Bfloat16,
    Float32,
    Float64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// An error that names the first one
    #[default]
    Error,
    /// The block (int8: the row) of such a weight comes back as NaN; needs --no-double
    Poison,
}

/// Runs the verb.
pub(crate) fn run(args: &QuantizeArgs, common: &Common) -> Result<(), Failure> {
    let config = args.config()?;
    let bar = progress_bar(common.quiet);
    let running = Stoppable::start();
    let start = Instant::now();
    let summary = quantize::checkpoint(&args.input, &args.output, &config, |progress| {
        show(&bar, &progress);
        interrupt::flow()
    });
    let seconds = start.elapsed().as_secs_f64();
    drop(running);
    bar.finish_and_clear();
    let outcome = Outcome {
        summary: summary.map_err(|error| args.failure(error))?,
        config: &config,
        seconds,
    };
    if common.json {
        let mut object = outcome.to_json();
        object["in"] = args.input.to_string_lossy().into();
        object["out"] = args.output.to_string_lossy().into();
        output::json(&object)?;
    } else {
        for line in outcome.to_lines() {
            output::line(&line)?;
        }
    }
    if outcome.summary.n_quantized == 0 && !common.quiet {
        output::note(
            "note: no weight was quantized; matrices of linear layers are, outside of --skip",
        );
    }
    Ok(())
}

impl QuantizeArgs {
    /// The settings, if they go together.
    fn config(&self) -> Result<CheckpointConfig, Failure> {
        let non_finite = match self.nonfinite {
            Policy::Error => NonFinite::Refuse,
            Policy::Poison => NonFinite::PoisonBlock,
        };
        let code = match self.format {
            Format::Nf4 => Some(FourBitCode::Nf4),
            Format::Fp4 => Some(FourBitCode::Fp4),
            Format::Int8 => None,
        };
        let method = match code {
            Some(code) => {
                if self.threshold.is_some() {
                    return Err(Failure::usage("--threshold is for --format int8"));
                }
                let block = self.block_size.unwrap_or(BLOCK_SIZE);
                Method::FourBit {
                    config: FourBitConfig::new(code, block).with_non_finite(non_finite),
                    nested: (!self.no_double).then_some(EightBitSearch::Nearest),
                    stored_as: self.stored_as(),
                }
            }
            None => {
                let four_bit = [
                    ("--block-size", self.block_size.is_some()),
                    ("--double", self.double),
                    ("--no-double", self.no_double),
                    ("--storage", self.storage.is_some()),
                ];
                if let Some((option, _)) = four_bit.iter().find(|option| option.1) {
                    let message = format!("{option} is for --format nf4 and fp4");
                    return Err(Failure::usage(message)
                        .with_hint("int8 has one scale for each row, and bytes"));
                }
                let threshold = self.threshold.unwrap_or(THRESHOLD);
                Method::EightBit {
                    threshold,
                    non_finite,
                }
            }
        };
        let config = CheckpointConfig::new(method)
            .with_compute_type(match self.compute_dtype {
                ComputeType::Float32 => WeightType::F32,
                ComputeType::Float16 => WeightType::F16,
                ComputeType::Bfloat16 => WeightType::Bf16,
            })
            .with_measure(Measure::Errors);
        Ok(match self.skip.is_empty() {
            true => config,
            false => config.with_skip_modules(self.skip.clone()),
        })
    }

    fn stored_as(&self) -> PackedType {
        match self.storage {
            None | Some(Storage::Uint8) => PackedType::U8,
            Some(Storage::Int8) => PackedType::I8,
            Some(Storage::Float16) => PackedType::F16,
            Some(Storage::Bfloat16) => PackedType::Bf16,
            Some(Storage::Float32) => PackedType::F32,
            Some(Storage::Float64) => PackedType::F64,
        }
    }

    /// What went wrong, and what can be done about it.
    fn failure(&self, error: FileError) -> Failure {
        // What matters may be within: first the file is named, then what is wrong with it.
        let mut cause = &error;
        while let FileError::InFile { source, .. } = cause {
            cause = source;
        }
        let failed = || {
            Failure::failed(error.to_string())
                .about(&format!("cannot quantize {}", self.input.display()))
        };
        let usage = |message: String, hint| Failure::usage(message).with_hint(hint);
        match cause {
            FileError::Stopped { .. } => Failure::Interrupted,
            FileError::SkipPattern { .. } => usage(
                format!("--skip: {error}"),
                "write \\ before a character of a name that means something in a pattern",
            ),
            FileError::NestedPoison => usage(error.to_string(), "add --no-double"),
            FileError::Quant { source, .. } => match source {
                QuantError::Block { .. } => usage(
                    format!("--block-size: {source}"),
                    "leave it out for blocks of 64",
                ),
                QuantError::Threshold { .. } => usage(
                    format!("--threshold: {source}"),
                    "leave it out for a threshold of 6",
                ),
                QuantError::NonFinite { .. } => failed().with_hint(
                    "--skip leaves the module as it is; --nonfinite poison makes its block NaN",
                ),
                _ => failed(),
            },
            FileError::Occupied { .. } => {
                failed().with_hint("take another OUT, or remove what is there; it is not touched")
            }
            FileError::Busy { .. } => {
                failed().with_hint("wait until the other run has ended, or take another OUT")
            }
            FileError::AlreadyQuantized { .. } => {
                failed().with_hint("take the checkpoint that it was made from")
            }
            FileError::HalfOverflow { .. } => {
                failed().with_hint("--skip leaves the module as it is; nf4 has no such limit")
            }
            FileError::Storage { .. } => {
                failed().with_hint("--storage uint8 fits any number of bytes")
            }
            FileError::NoColumns { .. } => failed().with_hint("--skip leaves the module as it is"),
            FileError::Io { kind, path, .. } => match kind {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    failed().with_hint("there is no room for OUT; nothing of it was left")
                }
                io::ErrorKind::NotFound if path.starts_with(&self.input) => {
                    failed().with_hint(WHAT_IN_IS)
                }
                _ => failed(),
            },
            FileError::Short { .. }
            | FileError::HeaderLen { .. }
            | FileError::HeaderJson { .. } => failed().with_hint(WHAT_IN_IS),
            _ => failed(),
        }
    }
}

const WHAT_IN_IS: &str = "IN is a folder with config.json and model.safetensors, or with model.safetensors.index.json and the files that it names, \
     or one safetensors file";

/// Shows how far it is.
fn show(bar: &ProgressBar, progress: &Progress<'_>) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    bar.set_message(format!(
        "{}/{} tensors",
        progress.n_done, progress.n_tensors
    ));
}

fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{bar:20} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
