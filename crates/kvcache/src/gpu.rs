//! Compute shaders: the pages of a pool on a device, and what happens to them.

use llm_gpu::params::Layout;
use llm_gpu::{GpuElement, GpuTensor, Kernel};

mod element;
mod error;
mod float;
mod int8;
mod moves;
mod pages;
mod pool;
mod slots;

pub use element::GpuPageElement;
pub use error::GpuKvCacheError;
pub use llm_gpu;
pub use pages::{GpuKeysValues, GpuPages};
pub use pool::GpuPool;
pub use slots::{GpuSlots, NO_SLOT};

/// Every kernel of this crate, for tools that compile them all.
pub const KERNELS: &[&Kernel] = &[
    &int8::CHECK_NUMBERS,
    &slots::CHECK_SLOTS,
    &pages::CLEAR_PLACES,
    &moves::COPY_RUNS,
    &float::GATHER_BF16,
    &float::GATHER_F16,
    &float::GATHER_F32,
    &int8::GATHER_INT8,
    &moves::MOVE_RUNS,
    &slots::TABLE_SLOTS,
    &float::WRITE_BF16,
    &float::WRITE_F16,
    &float::WRITE_F32,
    &int8::WRITE_INT8,
];

/// The parameter blocks of these kernels, for the test that compares them with the shaders.
pub const LAYOUTS: &[Layout] = &[
    slots::CheckSlotsParams::LAYOUT,
    pages::PlacesParams::LAYOUT,
    moves::RunsParams::LAYOUT,
    slots::TableSlotsParams::LAYOUT,
];

/// Invocations of a workgroup; the shaders' own default.
const WORKGROUP_SIZE: u32 = 64;

/// A number of tokens, pages or elements of which there is a tensor; if it has no elements nothing is computed from it.
fn word(n: usize) -> u32 {
    n as u32
}

fn expect_shape<T: GpuElement>(
    name: &'static str,
    tensor: &GpuTensor<T>,
    expected: &[usize],
) -> Result<(), GpuKvCacheError> {
    if tensor.shape() != expected {
        return Err(GpuKvCacheError::Shape {
            name,
            expected: expected.to_vec(),
            got: tensor.shape().to_vec(),
        });
    }
    Ok(())
}
