//! Compute shaders: weights that stay packed on a device, and products that unpack them on the way.
//!
//! Each function records its kernels into an [`llm_gpu::Recorder`]; nothing runs before it is submitted, and nothing comes back before
//! something is downloaded. All kernels need core WebGPU only, so they run in browsers.
//!
//! # What has the bits of the CPU
//!
//! Quantizing: products and quotients are rounded in integers, as shaders may round divisions as they like and take small numbers for
//! zero. Quantizing scales: their mean too. Numbers from plain scales: one product. A nested scale is a product and a sum, which a device may round once instead of twice. Sums
//! of products are in `f32` and in another order than on the CPU.
//!
//! # Dispatches
//!
//! | Function | Dispatches |
//! |----------|------------|
//! | [`four_bit::quantize`] | 1; 2 if numbers that are not finite are refused |
//! | [`four_bit::dequantize`] | 1 |
//! | [`double::compress`] | 3; up to 6 with many scales |
//! | [`matmul::forward`] | 1 for each 4 rows up to 8, else 1 |
//! | [`matmul::backward`] | 1 |
//! | [`matmul::low_rank::forward`], [`matmul::low_rank::backward_input`] | 1 more |
//!
//! # Example
//!
//! ```
//! use llm_quant::gpu::llm_gpu::{Gpu, GpuError, GpuOptions};
//! use llm_quant::gpu::{GpuFourBit, matmul};
//! use llm_quant::{FourBitCode, FourBitConfig, four_bit};
//! use ndarray::array;
//!
//! let gpu = match Gpu::new_blocking(&GpuOptions::default()) {
//!     Err(GpuError::NoAdapter { .. }) => return Ok(()), // this machine has no driver
//!     gpu => gpu?,
//! };
//! let w = array![[1.0_f32, -1.0, 0.0], [0.0, 1.0, 1.0]]; // [d_out, d_in]: all of them values of NF4
//! let packed = four_bit::quantize(&w, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
//! let weights = GpuFourBit::upload(&gpu, &packed)?; // four bits each there, too
//! let x = gpu.upload(&array![[1.0_f32, 2.0, 3.0]])?; // [seq, d_in]
//!
//! let mut recorder = gpu.recorder();
//! let y = matmul::forward(&mut recorder, &x, &weights)?;
//! recorder.submit()?;
//! assert_eq!(y.download_blocking()?, array![[-1.0, 5.0]].into_dyn());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use llm_gpu::params::Layout;
use llm_gpu::{GpuElement, GpuTensor, Kernel, Snippet};

pub mod double;
mod error;
pub mod four_bit;
pub mod matmul;
mod weights;

pub use error::GpuQuantError;
pub use llm_gpu;
pub use weights::GpuFourBit;

/// Every kernel of this crate, for tools that compile them all.
pub const KERNELS: &[&Kernel] = &[
    &double::DOUBLE_MEAN,
    &double::DOUBLE_QUANTIZE,
    &double::DOUBLE_SUM,
    &four_bit::FOUR_BIT_DEQUANTIZE,
    &four_bit::FOUR_BIT_FAULT,
    &four_bit::FOUR_BIT_QUANTIZE,
    &matmul::FOUR_BIT_MATMUL,
    &matmul::FOUR_BIT_MATVEC,
    &matmul::low_rank::LOW_RANK_PROJECT,
];

/// The parameter blocks of these kernels, for the test that compares them with the shaders.
pub const LAYOUTS: &[Layout] = &[
    double::DoubleMeanParams::LAYOUT,
    double::DoubleQuantizeParams::LAYOUT,
    double::DoubleSumParams::LAYOUT,
    four_bit::FourBitDequantizeParams::LAYOUT,
    four_bit::FourBitFaultParams::LAYOUT,
    four_bit::FourBitQuantizeParams::LAYOUT,
    matmul::FourBitMatmulParams::LAYOUT,
    matmul::FourBitMatvecParams::LAYOUT,
    matmul::low_rank::LowRankProjectParams::LAYOUT,
];

/// The most weights of a tensor on a device: kernels count them in 32 bits.
pub const MAX_ELEMENTS: usize = 1 << 31;

/// Invocations of a workgroup where each has elements of its own; the shaders' own default.
const WORKGROUP_SIZE: u32 = 64;

/// What a code stands for, with its scale.
const FOUR_BIT: Snippet = Snippet {
    name: "four_bit",
    source: include_str!("gpu/four_bit.wgsl"),
};

/// A number of elements of which there is a tensor.
fn word(n: usize) -> u32 {
    n as u32
}

/// A number of weights that the kernels can count.
fn check_elements(n: usize) -> Result<(), GpuQuantError> {
    if n > MAX_ELEMENTS {
        return Err(GpuQuantError::Elements {
            limit: MAX_ELEMENTS,
            got: n,
        });
    }
    Ok(())
}

/// The lengths of the axes of a matrix.
fn matrix<T: GpuElement>(
    name: &'static str,
    tensor: &GpuTensor<T>,
) -> Result<[usize; 2], GpuQuantError> {
    let got = tensor.shape();
    <[usize; 2]>::try_from(got).map_err(|_| GpuQuantError::Rank {
        name,
        expected: 2,
        got: got.to_vec(),
    })
}
