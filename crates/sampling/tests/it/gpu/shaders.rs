//! The shaders without a driver: they parse, need nothing optional, and agree with the Rust side.

use llm_sampling::gpu::{KERNELS, LAYOUTS};

llm_sampling::gpu::llm_gpu::shader_tests!(KERNELS, LAYOUTS);
