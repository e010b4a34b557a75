//! Compute shaders: keys and values in pages on a device, and all that happens to them.
//!
//! What is known about sequences stays on the host: a [`PageTable`](crate::paged::PageTable) says which sequence holds which page, and what has to be
//! copied. The numbers stay on the device. [`GpuPool`] has the pages of all layers, [`GpuSlots`] say where the tokens of a step go,
//! [`GpuPages::write`] puts them there, and `llm_attention::gpu::paged` reads the pages as they lie. [`GpuContiguousCache`] and
//! [`GpuRingCache`] are the same with a page for each row, and keep their own books.
//!
//! Each function records its kernels into an [`llm_gpu::Recorder`]; nothing runs before it is submitted. All kernels need core WebGPU only, so
//! they run in browsers.
//!
//! # The same bits on every device
//!
//! Bits are copied, or computed in integers: rounding to `f16` and `bf16`, and the quotients, products and sums that choose the scales of int8 and int4. So what a
//! device stores is what the CPU stores, for every number; [`GpuPages::gather`] too returns the bits of the CPU.
//!
//! # What is never written or read
//!
//! Lists of the host are looked at before anything is recorded. Slots, tables and lengths that come from the device are looked at there: what is
//! outside the pool is not written and read as zeros, whatever they say, and [`GpuSlots::check`] tells. Then nothing of the step is written.
//!
//! # Dispatches
//!
//! Small kernels cost what a dispatch costs. For one layer:
//!
//! | Call | Dispatches |
//! |------|------------|
//! | [`GpuPages::write`] | 2; 4 to pages of integers |
//! | [`GpuPages::gather`] | 2 |
//! | [`GpuPages::clear`] | 2; 4 in pages of integers |
//! | [`GpuPool::copy_pages`], [`GpuPool::move_tokens`] | 2; 3 in pages of integers; twice as many if a place is both read and written |
//! | [`GpuSlots::on_device`], [`GpuSlots::of_block_table`] | 1 for all layers |
//!
//! # Example
//!
//! A decode step of two sequences that share a prompt:
//!
//! ```
//! use llm_kvcache::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
//! use llm_kvcache::gpu::{GpuPool, GpuSlots};
//! use llm_kvcache::paged::{PageTable, PoolConfig};
//! use ndarray::{Array3, Array4};
//!
//! let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
//!     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
//!     gpu => gpu?,
//! };
//! // 2 layers, 16 pages of 4 tokens, 2 key-value heads of 8 features, in 8 bits.
//! let config = PoolConfig::new(2, 16, 4, 2, 8);
//! let mut table = PageTable::new(config.n_pages, config.page_size)?;
//! let pool = GpuPool::<i8>::new(&gpu, &config)?;
//! let mut recorder = gpu.recorder();
//!
//! let prompt = table.create(b"")?;
//! table.grow(&[(prompt, 6)])?;
//! let slots = GpuSlots::for_writing(&gpu, pool.shape(), &table, &[(prompt, 0..6)])?;
//! let k = gpu.upload(&Array3::<f32>::ones((2, 6, 8)))?; // a model has them on the device
//! for layer in 0..2 {
//!     pool.layer(layer)?.write(&mut recorder, &slots, &k, &k)?;
//! }
//!
//! let both = [prompt, table.fork(prompt)?];
//! let copies = table.grow(&both.map(|id| (id, 1)))?; // one of them gets the last page for itself
//! pool.copy_pages(&mut recorder, &copies)?;
//! let (block_table, lengths) = table.block_table(&both)?;
//! let (block_table, lengths) = (gpu.upload(&block_table)?, gpu.upload(&lengths)?); // for attention too
//! let slots = GpuSlots::of_block_table(&mut recorder, pool.shape(), &block_table, &lengths, 1)?;
//! let k = gpu.upload(&Array4::<f32>::zeros((2, 2, 1, 8)))?; // [batch, kv_heads, 1, head_dim]
//! for layer in 0..2 {
//!     pool.layer(layer)?.write(&mut recorder, &slots, &k, &k)?;
//! }
//! recorder.submit()?;
//! slots.check_blocking()?; // all numbers could be quantized
//! # Ok::<(), llm_kvcache::gpu::GpuKvCacheError>(())
//! ```

use llm_gpu::params::Layout;
use llm_gpu::{GpuElement, GpuTensor, Kernel};

mod contiguous;
mod element;
mod error;
mod float;
mod int4;
mod int8;
mod moves;
mod pages;
mod pool;
mod ring;
mod slots;

pub use contiguous::GpuContiguousCache;
pub use element::GpuPageElement;
pub use error::GpuKvCacheError;
pub use int4::Int4;
pub use llm_gpu;
pub use pages::{GpuKeysValues, GpuPages};
pub use pool::GpuPool;
pub use ring::GpuRingCache;
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
    &int4::GATHER_INT4,
    &int8::GATHER_INT8,
    &moves::MOVE_RUNS,
    &slots::TABLE_SLOTS,
    &float::WRITE_BF16,
    &float::WRITE_F16,
    &float::WRITE_F32,
    &int4::WRITE_INT4,
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
