//! Without a browser: the list of kernels, and that the planted one is wrong in a way that only a browser sees.

use llm_gpu_browser::{planted_shader, shaders};
use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};

#[test]
fn the_planted_kernel_passes_the_compiler_of_wgpu() {
    let module = wgsl::parse_str(&planted_shader().code).unwrap();
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .unwrap();
}

#[test]
fn each_kernel_is_listed_once_with_its_entry_point() {
    let shaders = shaders();
    // Kernels of one name differ in their snippets, as those of f16 and bf16 do.
    let mut texts: Vec<_> = shaders
        .iter()
        .map(|shader| (&shader.package, &shader.code))
        .collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), shaders.len());
    for shader in &shaders {
        let entry = format!("fn {}(", shader.name);
        assert!(shader.code.contains(&entry), "{}", shader.name);
    }
}
