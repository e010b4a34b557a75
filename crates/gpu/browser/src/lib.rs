//! The kernels of llm-blocks in a browser: [`shaders`] hands their texts to a page, [`parity`] runs some against the CPU.
//!
//! A browser's compiler is stricter than the one that wgpu uses elsewhere, above all on barriers in control flow that is
//! not uniform. `cargo xtask gpu browser` opens the page `index.html` and judges what `check.js` returns.

mod cases;
#[path = "../../tests/it/kernels.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the kernels of that crate's own tests"
)]
mod kernels;
mod planted;

use llm_gpu::{Gpu, GpuOptions, Kernel, Target};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

/// Every kernel there is, by crate. A crate with kernels adds a line.
const CRATES: &[(&str, &[&Kernel])] = &[
    ("llm-gpu", kernels::KERNELS),
    ("llm-attention", llm_attention::gpu::KERNELS),
    ("llm-kvcache", llm_kvcache::gpu::KERNELS),
    ("llm-posenc", llm_posenc::gpu::KERNELS),
    ("llm-quant", llm_quant::gpu::KERNELS),
    ("llm-sampling", llm_sampling::gpu::KERNELS),
];

/// A kernel as the browser gets it.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct Shader {
    /// Its crate.
    pub package: String,
    /// Its name and its entry point.
    pub name: String,
    /// The composed text.
    pub code: String,
    /// The WebGPU features that it needs.
    pub features: Vec<String>,
    /// False if no browser can run it.
    pub portable: bool,
}

/// One comparison of a kernel with the CPU.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct Case {
    /// What was computed.
    pub name: String,
    /// How many numbers were compared.
    pub compared: usize,
    /// The largest difference; NaN if one was not a number.
    pub error: f64,
    /// The largest difference that is right, and why it is, stands in `cases.rs`.
    pub tolerance: f64,
}

/// The texts of all kernels.
#[wasm_bindgen]
#[must_use]
pub fn shaders() -> Vec<Shader> {
    let of = |(package, kernels): &(&str, &[&Kernel])| {
        let shaders: Vec<Shader> = kernels
            .iter()
            .map(|kernel| shader(package, kernel))
            .collect();
        shaders
    };
    CRATES.iter().flat_map(of).collect()
}

/// A kernel that the browser must refuse: if it does not, the page checks nothing.
#[wasm_bindgen(js_name = plantedShader)]
#[must_use]
pub fn planted_shader() -> Shader {
    shader("planted", &planted::BARRIER_IN_BRANCH)
}

/// Runs kernels on the browser's device and compares them with the CPU, here in the same module.
///
/// # Errors
///
/// If there is no device, or a kernel cannot run; a wrong number is no error but a case with a large one.
#[wasm_bindgen]
pub async fn parity() -> Result<Vec<Case>, JsError> {
    let gpu = Gpu::new(&GpuOptions::default()).await?;
    let mut cases = cases::run(&gpu).await?;
    cases.extend(cases::attention(&gpu).await?);
    cases.extend(cases::sampling(&gpu).await?);
    cases.extend(cases::quant(&gpu).await?);
    cases.extend(cases::kvcache(&gpu).await?);
    gpu.check()?;
    Ok(cases)
}

fn shader(package: &str, kernel: &Kernel) -> Shader {
    let needs = kernel.needs;
    let features = [(needs.subgroups, "subgroups"), (needs.f16, "shader-f16")];
    Shader {
        package: package.to_owned(),
        name: kernel.name.to_owned(),
        code: kernel.compose(Target::Web),
        features: features
            .iter()
            .filter(|(needed, _)| *needed)
            .map(|(_, feature)| (*feature).to_owned())
            .collect(),
        portable: !needs.cooperative_matrix,
    }
}
