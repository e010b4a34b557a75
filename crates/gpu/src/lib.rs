#![doc = include_str!("../README.md")]

// The macro `params!` names this crate; so it can be used inside as well.
extern crate self as llm_gpu;

mod capabilities;
mod device;
mod element;
mod error;
mod experimental;
mod faults;
mod grid;
pub mod kernel;
mod options;
pub mod params;
mod pipeline;
mod recorder;
mod scope;
pub mod snippet;
mod storage;
mod sync;
mod tensor;
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
pub mod testing;
mod timing;

pub use bytemuck; // what `params!` derives
pub use capabilities::{Capabilities, CooperativeMatrix, Limits};
pub use device::Gpu;
pub use element::GpuElement;
pub use error::GpuError;
pub use grid::{Grid, MAX_WORKGROUPS};
pub use half; // the versions our signatures speak
pub use kernel::{Access, Kernel, Needs, Target};
pub use ndarray;
pub use options::{GpuOptions, Mask, Power};
pub use recorder::Recorder;
pub use snippet::Snippet;
pub use tensor::{Binding, GpuTensor};
pub use timing::{KernelTime, Submission};
