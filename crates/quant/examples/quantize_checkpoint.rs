//! Quantizes a folder as transformers saves it: `cargo run --example quantize_checkpoint --features files -- FROM TO`.
//!
//! Without folders it does so with a small model of its own, in a folder that is removed again.

use core::ops::ControlFlow;
use std::env::args_os;
use std::path::{Path, PathBuf};

use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::quantize::{self, CheckpointConfig, Measure, Method};
use llm_quant::files::{
    self, Checkpoint, Dtype, FileError, PackedType, Tensor, WeightType, four_bit_state,
};
use llm_quant::four_bit::{FourBitCode, FourBitConfig};

fn main() -> Result<(), FileError> {
    let mut folders = args_os().skip(1).map(PathBuf::from);
    if let (Some(from), Some(to)) = (folders.next(), folders.next()) {
        return quantize(&from, &to);
    }
    let folder = std::env::temp_dir().join(format!("quantize_checkpoint_{}", std::process::id()));
    let result = small_model(&folder).and_then(|()| quantize(&folder, &folder.join("nf4")));
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn quantize(from: &Path, to: &Path) -> Result<(), FileError> {
    let method = Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Nf4, 64),
        nested: Some(EightBitSearch::Nearest),
        stored_as: PackedType::U8,
    };
    let config = CheckpointConfig::new(method)
        .with_compute_type(WeightType::Bf16)
        .with_measure(Measure::Errors);
    let summary = quantize::checkpoint(from, to, &config, |progress| {
        let percent = 100 * progress.done / progress.total.max(1);
        println!("{percent:3} % {}", progress.name);
        ControlFlow::Continue(())
    })?;
    println!("{} bytes became {}", summary.before, summary.after);
    if let Some(errors) = summary.errors {
        println!("signal to noise: {:.1} dB", errors.signal_to_noise);
    }
    let mut checkpoint = Checkpoint::open(to)?;
    for name in four_bit_state::names(&checkpoint) {
        let weights = four_bit_state::read(&mut checkpoint, &name)?.weights;
        let bits = 8.0 * weights.bytes() as f64 / weights.len() as f64;
        println!("{name}: {bits:.3} bits a weight");
    }
    Ok(())
}

/// One layer of 256 by 256 weights, and one that stays.
fn small_model(folder: &Path) -> Result<(), FileError> {
    let tensor = |name: &str, shape: &[usize]| {
        let n: usize = shape.iter().product();
        let numbers = (0..n).map(|i| (i * 31 % 101) as f32 / 50.0 - 1.0);
        Tensor {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: numbers.flat_map(f32::to_le_bytes).collect(),
        }
    };
    let tensors = [
        tensor("up_proj.weight", &[256, 256]),
        tensor("norm.weight", &[256]),
    ];
    let path = folder.join("model.safetensors");
    files::write_tensors(&path, &files::torch_metadata(), &tensors)?;
    files::write_whole(&folder.join("config.json"), b"{}\n")
}
