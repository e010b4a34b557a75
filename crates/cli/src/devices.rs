//! `llm-blocks devices`: what the program computes with.

use serde_json::json;

use crate::args::Common;
use crate::failure::Failure;
use crate::output;

/// Runs the verb.
pub(crate) fn run(common: &Common) -> Result<(), Failure> {
    let processors = processors();
    let threads = rayon::current_num_threads();
    let simd = simd();
    let arch = std::env::consts::ARCH;
    if common.json {
        return output::json(&json!({
            "cpu": { "arch": arch, "processors": processors, "threads": threads, "simd": simd },
            "gpu": { "built_in": false, "adapters": [] },
        }));
    }
    output::line(&format!(
        "cpu  {arch}, {processors} processors, {threads} threads, vector instructions: {}",
        list(&simd)
    ))?;
    output::line("gpu  none: this build has no GPU part")
}

/// Processors that this program may use, 1 if nobody can say.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Names with commas between, or `none`.
pub(crate) fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// The vector instructions that this processor has, of those that the crates can use.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(crate) fn simd() -> Vec<&'static str> {
    let found = [
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("SSE2", std::arch::is_x86_feature_detected!("sse2")),
    ];
    found
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect()
}

/// The vector instructions that this processor has, of those that the crates can use.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
pub(crate) fn simd() -> Vec<&'static str> {
    if cfg!(target_feature = "neon") {
        vec!["NEON"]
    } else {
        vec![]
    }
}
