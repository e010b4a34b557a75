//! A checkpoint in four bits in the layout of bitsandbytes: written, looked into, read, and used.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use llm_quant::eight_bit::EightBitSearch;
use llm_quant::files::quantize::{self, CheckpointConfig, Method};
use llm_quant::files::{
    self, Checkpoint, Dtype, FileError, PackedType, Tensor, TensorSource as _, WeightType,
    four_bit_state,
};
use llm_quant::four_bit::{FourBitCode, FourBitConfig};
use llm_quant::matmul;
use ndarray::Array2;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("quant_files_{}", std::process::id()));
    let result = run(&folder, &folder.join("nf4"));
    std::fs::remove_dir_all(&folder)?;
    result
}

fn run(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    small_model(from)?;
    // ANCHOR: write
    let config = CheckpointConfig::new(Method::FourBit {
        config: FourBitConfig::new(FourBitCode::Nf4, 64),
        nested: Some(EightBitSearch::Nearest),
        stored_as: PackedType::U8,
    })
    .with_compute_type(WeightType::Bf16);
    let summary = quantize::checkpoint(from, to, &config, |_| ControlFlow::Continue(()))?;
    // ANCHOR_END: write
    println!("{} bytes became {}", summary.before, summary.after);
    let mut checkpoint = Checkpoint::open(to)?;
    for name in checkpoint.names() {
        if let Some(info) = checkpoint.info(&name) {
            println!("{name}: {:?} {:?}", info.dtype, info.shape);
        }
    }
    let state = checkpoint.read("up_proj.weight.quant_state.bitsandbytes__nf4")?;
    println!("{}", String::from_utf8(state)?);
    // ANCHOR: read
    let name = "up_proj.weight";
    let weights = four_bit_state::read(&mut checkpoint, name)?.weights;
    let x = Array2::<f32>::ones([1, 256]);
    let y = matmul::forward(&x, &weights)?;
    // ANCHOR_END: read
    println!(
        "a product of {:?}: {} bytes of weights were read",
        y.dim(),
        weights.bytes()
    );
    Ok(())
}

/// A layer of 512 by 256 weights, and one that stays.
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
        tensor("up_proj.weight", &[512, 256]),
        tensor("norm.weight", &[256]),
    ];
    let path = folder.join("model.safetensors");
    files::write_tensors(&path, &files::torch_metadata(), &tensors)?;
    files::write_whole(&folder.join("config.json"), b"{}\n")
}
