//! `llm-blocks devices`: what the program computes with.

use llm_blocks::gpu::{self, Capabilities};
use serde_json::{Value, json};

use crate::args::Common;
use crate::failure::Failure;
use crate::output;

/// Runs the verb.
pub(crate) fn run(common: &Common) -> Result<(), Failure> {
    let processors = processors();
    let threads = rayon::current_num_threads();
    let simd = simd();
    let arch = std::env::consts::ARCH;
    let adapters = gpu::adapters_blocking();
    if common.json {
        let adapters: Vec<_> = adapters.iter().map(adapter_json).collect();
        return output::json(&json!({
            "cpu": { "arch": arch, "processors": processors, "threads": threads, "simd": simd },
            "gpu": { "adapters": adapters },
        }));
    }
    output::line(&format!(
        "cpu  {arch}, {processors} processors, {threads} threads, vector instructions: {}",
        list(&simd)
    ))?;
    if adapters.is_empty() {
        return output::line("gpu  none: no driver of Vulkan, Metal or DX12 was found");
    }
    for adapter in &adapters {
        output::line(&adapter_line(adapter))?;
    }
    Ok(())
}

/// One adapter as a line: its name, and what it has beyond the core.
fn adapter_line(adapter: &Capabilities) -> String {
    let mut has = Vec::new();
    if let Some((smallest, largest)) = adapter.subgroups {
        has.push(if smallest == largest {
            format!("subgroups of {smallest}")
        } else {
            format!("subgroups of {smallest} to {largest}")
        });
    }
    if adapter.f16 {
        has.push("f16".to_owned());
    }
    if adapter.timestamps {
        has.push("timestamps".to_owned());
    }
    if !adapter.cooperative_matrices.is_empty() {
        has.push("cooperative matrices".to_owned());
    }
    let has = if has.is_empty() {
        "core only".to_owned()
    } else {
        has.join(", ")
    };
    format!(
        "gpu  {} by {} ({}){}: {has}; tensors up to {} MiB",
        adapter.name,
        adapter.backend,
        adapter.driver,
        if adapter.software {
            ", computes on the CPU"
        } else {
            ""
        },
        adapter.limits.binding_bytes >> 20,
    )
}

fn adapter_json(adapter: &Capabilities) -> Value {
    let matrices: Vec<_> = adapter
        .cooperative_matrices
        .iter()
        .map(|shape| json!({ "m": shape.m, "n": shape.n, "k": shape.k, "factors": shape.factors, "sum": shape.sum }))
        .collect();
    json!({
        "name": adapter.name,
        "driver": adapter.driver,
        "backend": adapter.backend,
        "software": adapter.software,
        "subgroups": adapter.subgroups.map(|(smallest, largest)| [smallest, largest]),
        "f16": adapter.f16,
        "timestamps": adapter.timestamps,
        "cooperative_matrices": matrices,
        "binding_bytes": adapter.limits.binding_bytes,
        "buffer_bytes": adapter.limits.buffer_bytes,
        "workgroup_bytes": adapter.limits.workgroup_bytes,
    })
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
