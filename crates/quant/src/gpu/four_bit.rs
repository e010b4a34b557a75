//! Four bits an element on the GPU.

use llm_gpu::{Access, Binding, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::weights::table;
use super::{FOUR_BIT, GpuFourBit, GpuQuantError, WORKGROUP_SIZE, check_elements, word};
use crate::four_bit::blocks::SMALLEST;
use crate::four_bit::{FourBitCode, FourBitConfig, NonFinite, check_block};

llm_gpu::params! {
    /// The parameter block of `four_bit_dequantize.wgsl`.
    pub(super) struct FourBitDequantizeParams {
        n_elements: u32,
        block: u32,
        is_nested: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `four_bit_quantize.wgsl`.
    pub(super) struct FourBitQuantizeParams {
        n_elements: u32,
        n_blocks: u32,
        block: u32,
        smallest: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `four_bit_fault.wgsl`.
    pub(super) struct FourBitFaultParams {
        n_elements: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(super) static FOUR_BIT_DEQUANTIZE: Kernel = Kernel {
    name: "four_bit_dequantize",
    source: include_str!("four_bit_dequantize.wgsl"),
    snippets: &[snippet::LINEAR, FOUR_BIT],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    params_size: size_of::<FourBitDequantizeParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static FOUR_BIT_QUANTIZE: Kernel = Kernel {
    name: "four_bit_quantize",
    source: include_str!("four_bit_quantize.wgsl"),
    snippets: &[snippet::LINEAR, snippet::SINGLE],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    params_size: size_of::<FourBitQuantizeParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(32),
};

pub(super) static FOUR_BIT_FAULT: Kernel = Kernel {
    name: "four_bit_fault",
    source: include_str!("four_bit_fault.wgsl"),
    snippets: &[],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<FourBitFaultParams>(),
    constants: &[],
    needs: Needs::CORE,
};

/// Records the quantization of numbers in blocks: [`four_bit::quantize`](crate::four_bit::quantize).
///
/// ```text
/// scale_b = max |x_i|  over block b
/// code_i  = the code whose value is nearest to x_i / scale_b
/// ```
///
/// # Shapes
///
/// - `x`: any
///
/// # Errors
///
/// - [`QuantError::Block`](crate::QuantError::Block) if the block size is not one of [`BLOCKS`](crate::four_bit::BLOCKS).
/// - [`GpuQuantError::Elements`] if there are more than [`MAX_ELEMENTS`](super::MAX_ELEMENTS) numbers.
/// - [`GpuQuantError::Gpu`] if the device has no room.
///
/// Where an element is NaN or infinite and the policy is [`NonFinite::Refuse`], the block becomes NaN on the device and
/// [`GpuFourBit::download`] says which element it was: a kernel cannot return an error.
///
/// # Precision
///
/// That of the CPU, bit for bit.
///
/// # Example
///
/// ```
/// use llm_quant::gpu::four_bit;
/// use llm_quant::{FourBitCode, FourBitConfig};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_quant::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![2.0_f32, -2.0, 0.0, 0.9])?;
/// let mut recorder = gpu.recorder();
/// let weights = four_bit::quantize(&mut recorder, &x, &FourBitConfig::new(FourBitCode::Nf4, 64))?;
/// recorder.submit()?;
/// assert_eq!(weights.download_blocking()?.packed(), [0xf0, 0x7c]); // 0.9 / 2 is nearest to 0.4407
/// # Ok::<(), llm_quant::gpu::GpuQuantError>(())
/// ```
pub fn quantize(
    recorder: &mut Recorder,
    x: &GpuTensor<f32>,
    config: &FourBitConfig,
) -> Result<GpuFourBit, GpuQuantError> {
    check_block(config.block)?;
    check_elements(x.len())?;
    let n_blocks = x.len().div_ceil(config.block);
    let gpu = recorder.gpu().clone();
    let packed = recorder.output::<u32>(&[x.len().div_ceil(8)])?;
    let scales = recorder.output::<u32>(&[n_blocks])?;
    let status = gpu.upload_slice(&[2], &[u32::MAX, 0])?;
    let search = search_table(config.code);
    let search = gpu.upload_slice(&[search.len()], &search)?;
    let weights = GpuFourBit {
        code: config.code,
        block: config.block,
        shape: x.shape().to_vec(),
        packed,
        scales,
        nested: None,
        table: table(&gpu, config.code)?,
        status: (config.non_finite == NonFinite::Refuse).then(|| status.clone()),
    };
    let params = FourBitQuantizeParams {
        n_elements: word(x.len()),
        n_blocks: word(n_blocks),
        block: word(config.block),
        smallest: SMALLEST.to_bits(),
    };
    let bindings = [
        x.read(),
        search.read(),
        weights.packed.write(),
        weights.scales.write(),
        status.write(),
    ];
    let grid = Grid::linear(n_blocks, 1)?;
    recorder.dispatch(&FOUR_BIT_QUANTIZE, &[], &params, &bindings, grid)?;
    if weights.status.is_some() && !x.is_empty() {
        record_fault(recorder, x.read(), x.len(), &status)?;
    }
    Ok(weights)
}

/// Reads what stands at the place that `status` has.
pub(super) fn record_fault(
    recorder: &mut Recorder,
    numbers: Binding<'_>,
    n_elements: usize,
    status: &GpuTensor<u32>,
) -> Result<(), GpuQuantError> {
    let params = FourBitFaultParams {
        n_elements: word(n_elements),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = [numbers, status.write()];
    let grid = Grid::linear(1, 1)?;
    recorder.dispatch(&FOUR_BIT_FAULT, &[], &params, &bindings, grid)?;
    Ok(())
}

/// The bounds between the values as keys in the order of numbers, then the codes in the order of their values.
fn search_table(code: FourBitCode) -> Vec<u32> {
    let table = code.table();
    let key = |bound: &f32| {
        let magnitude = (bound.to_bits() & 0x7fff_ffff) as i32;
        (if bound.is_sign_negative() {
            -magnitude
        } else {
            magnitude
        }) as u32
    };
    let bounds = table.bounds.iter().map(key);
    bounds.chain(table.order.map(u32::from)).collect()
}

/// Records the numbers that packed weights stand for: [`four_bit::dequantize`](crate::four_bit::dequantize).
///
/// ```text
/// y_i = value(code_i) · scale_b,  b the block of i
/// ```
///
/// # Shapes
///
/// - returns: the shape of the weights
///
/// # Errors
///
/// [`GpuQuantError::Gpu`] if the device has no room, or the weights are on another.
///
/// # Precision
///
/// With plain scales the bits of the CPU, except that a device may take numbers below the smallest normal one for zero. A nested scale is a
/// product and a sum, which a device may round once: half a unit in the last place of the larger of the two.
///
/// # Example
///
/// ```
/// use llm_quant::gpu::{GpuFourBit, four_bit};
/// use llm_quant::{FourBitCode, FourBitConfig};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_quant::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = array![0.5_f32, -0.25, 0.0]; // FP4 has 1, -1/2 and 0
/// let weights = llm_quant::four_bit::quantize(&x, &FourBitConfig::new(FourBitCode::Fp4, 32))?;
/// let weights = GpuFourBit::upload(&gpu, &weights)?;
/// let mut recorder = gpu.recorder();
/// let y = four_bit::dequantize(&mut recorder, &weights)?;
/// recorder.submit()?;
/// assert_eq!(y.download_blocking()?, x.into_dyn());
/// # Ok::<(), llm_quant::gpu::GpuQuantError>(())
/// ```
pub fn dequantize(
    recorder: &mut Recorder,
    weights: &GpuFourBit,
) -> Result<GpuTensor<f32>, GpuQuantError> {
    let y = recorder.output::<f32>(weights.shape())?;
    let params = FourBitDequantizeParams {
        n_elements: word(weights.len()),
        block: word(weights.block()),
        is_nested: weights.is_nested(),
        pad0: 0,
    };
    let [packed, scales, nested, table] = weights.bindings();
    let bindings = [packed, scales, nested, table, y.write()];
    let grid = Grid::linear(weights.len().div_ceil(8), WORKGROUP_SIZE)?;
    recorder.dispatch(&FOUR_BIT_DEQUANTIZE, &[], &params, &bindings, grid)?;
    Ok(y)
}
