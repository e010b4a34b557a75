//! The tour's look at the GPU: one block there and on the CPU.

use llm_blocks::gpu::{Gpu, GpuError, GpuOptions};
use llm_blocks::ndarray::{Array1, Array4};
use llm_blocks::numerics::philox::Philox4x32;
use llm_blocks::posenc::PosencError;
use llm_blocks::posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
use llm_blocks::posenc::rope::{self, RopeConfig, RopeTable};
use serde_json::{Value, json};

/// What came of it.
pub(super) enum OnGpu {
    /// No driver, or none that works: why.
    None(String),
    /// The same rotation on both.
    Compared {
        name: String,
        n_numbers: usize,
        difference: f32,
    },
}

impl OnGpu {
    /// Rotates random queries on both. A machine without a GPU is no failure of the tour.
    pub(super) fn measure(config: &RopeConfig, seed: u64) -> Self {
        match compare(config, seed) {
            Ok(compared) => compared,
            Err(PosencError::Gpu(GpuError::NoAdapter { .. })) => {
                Self::None("no driver of Vulkan, Metal or DX12 was found".to_owned())
            }
            Err(error) => Self::None(error.to_string()),
        }
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        match self {
            Self::None(reason) => format!("none: {}", cut(reason, 90)),
            Self::Compared {
                name,
                n_numbers,
                difference,
            } => format!(
                "{}: RoPE of {n_numbers} numbers differs from the CPU's by at most {difference:.0e}",
                cut(name, 40)
            ),
        }
    }

    /// The same for a program.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::None(reason) => json!({ "adapter": null, "reason": reason }),
            Self::Compared {
                name,
                n_numbers,
                difference,
            } => json!({
                "adapter": name,
                "rope": { "n_numbers": n_numbers, "largest_difference": difference },
            }),
        }
    }
}

fn compare(config: &RopeConfig, seed: u64) -> Result<OnGpu, PosencError> {
    let gpu = Gpu::new_blocking(&GpuOptions::default())?;
    let random = Philox4x32::new(seed);
    let (heads, seq) = (4, 256);
    let mut index = 0;
    let q = Array4::from_shape_simple_fn((1, heads, seq, config.rotary_dim), || {
        index += 1;
        random.normal_f64(1, index) as f32
    });
    let positions: Array1<usize> = (0..seq).collect();
    let table = RopeTable::from_config(config, &positions)?;
    let want = rope::apply(&q, &table, config.pairing)?;
    let on_device = gpu.upload(&q)?;
    let mut recorder = gpu.recorder();
    let table = GpuRopeTable::upload(&gpu, &table)?;
    gpu_rope::apply_inplace(&mut recorder, &on_device, &table, config.pairing)?;
    recorder.submit()?;
    let got = on_device.download_blocking()?;
    let differences = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
    Ok(OnGpu::Compared {
        name: gpu.capabilities().name.clone(),
        n_numbers: want.len(),
        difference: differences.fold(0.0, f32::max),
    })
}

/// The first line, not longer than `n` characters.
fn cut(text: &str, n: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= n {
        line.to_owned()
    } else {
        line.chars().take(n - 1).chain(['…']).collect()
    }
}
