//! Double quantization on the GPU: the scales of the blocks in eight bits each.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::four_bit::record_fault;
use super::weights::GpuNested;
use super::{GpuFourBit, GpuQuantError, WORKGROUP_SIZE, word};
use crate::double::{LANES, LEVELS, NESTED_BLOCK, ROWS, power};
use crate::eight_bit::{EightBitSearch, code_of};
use crate::four_bit::blocks::SMALLEST;

/// Scales that are added to side by side.
const COLUMNS: usize = ROWS * LANES;

llm_gpu::params! {
    /// The parameter block of `double_sum.wgsl`.
    pub(super) struct DoubleSumParams {
        n_runs: u32,
        run: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `double_mean.wgsl`.
    pub(super) struct DoubleMeanParams {
        n_scales: u32,
        divisor: u32,
        n_turns: u32,
        run: u32,
        n_first: u32,
        n_second: u32,
        n_third: u32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `double_quantize.wgsl`.
    pub(super) struct DoubleQuantizeParams {
        n_scales: u32,
        n_blocks: u32,
        smallest: u32,
        is_by_table: u32,
    }
}

/// Sums of any sign.
const SIGNED: Snippet = Snippet {
    name: "signed",
    source: include_str!("signed.wgsl"),
};

pub(super) static DOUBLE_SUM: Kernel = Kernel {
    name: "double_sum",
    source: include_str!("double_sum.wgsl"),
    snippets: &[snippet::LINEAR, snippet::SINGLE, SIGNED],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<DoubleSumParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static DOUBLE_MEAN: Kernel = Kernel {
    name: "double_mean",
    source: include_str!("double_mean.wgsl"),
    snippets: &[snippet::SINGLE, SIGNED],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    params_size: size_of::<DoubleMeanParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(128),
};

pub(super) static DOUBLE_QUANTIZE: Kernel = Kernel {
    name: "double_quantize",
    source: include_str!("double_quantize.wgsl"),
    snippets: &[snippet::LINEAR, snippet::SINGLE, SIGNED],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    params_size: size_of::<DoubleQuantizeParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(32),
};

/// Records the quantization of the scales of packed weights: [`double::compress`](crate::double::compress). Nested scales stay.
///
/// ```text
/// offset = mean of all scales
/// code_i = the code whose value is nearest to (scale_i - offset) / absmax_(i / 256)
/// ```
///
/// # Errors
///
/// [`GpuQuantError::Gpu`] if the device has no room, or the weights are on another.
///
/// Where a scale, or its difference from the mean, is NaN or infinite, [`GpuFourBit::download`] says which: a kernel cannot return an error.
///
/// # Precision
///
/// That of the CPU, bit for bit, the offset too: sums, differences, products and quotients are rounded in integers, and scales are added up in the
/// order of the CPU. That order has 32 columns whose runs of 16 or more are independent of each other, so that it is a tree on the device.
///
/// # Example
///
/// ```
/// use llm_quant::eight_bit::EightBitSearch;
/// use llm_quant::gpu::{double, four_bit};
/// use llm_quant::{FourBitCode, FourBitConfig};
/// use ndarray::Array1;
///
/// # let Some(gpu) = llm_quant::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = Array1::from_shape_fn(4096, |i| (i as f32).sin());
/// let config = FourBitConfig::new(FourBitCode::Nf4, 64);
/// let mut recorder = gpu.recorder();
/// let weights = four_bit::quantize(&mut recorder, &gpu.upload(&x)?, &config)?;
/// let weights = double::compress(&mut recorder, weights, EightBitSearch::Nearest)?;
/// recorder.submit()?;
/// let on_host = llm_quant::four_bit::quantize(&x, &config)?;
/// let on_host = llm_quant::double::compress(on_host, EightBitSearch::Nearest)?;
/// assert_eq!(weights.download_blocking()?, on_host);
/// # Ok::<(), llm_quant::gpu::GpuQuantError>(())
/// ```
///
/// # References
///
/// Dettmers et al. 2023, arXiv:2305.14314v1 §3; bitsandbytes 0.50.2, `quantize_4bit(compress_statistics=True)`.
pub fn compress(
    recorder: &mut Recorder,
    weights: GpuFourBit,
    search: EightBitSearch,
) -> Result<GpuFourBit, GpuQuantError> {
    if weights.nested.is_some() {
        return Ok(weights);
    }
    let gpu = recorder.gpu().clone();
    let n_scales = weights.scales.len();
    let n_blocks = n_scales.div_ceil(NESTED_BLOCK);
    let codes = recorder.output::<u32>(&[n_scales.div_ceil(4)])?;
    let values = recorder.output::<f32>(&[1 + n_blocks])?;
    let status = gpu.upload_slice(&[2], &[u32::MAX, 0])?;
    let bounds = bounds(search);
    let bounds = gpu.upload_slice(&[bounds.len()], &bounds)?;
    record_mean(recorder, &weights.scales, &values)?;
    let params = DoubleQuantizeParams {
        n_scales: word(n_scales),
        n_blocks: word(n_blocks),
        smallest: SMALLEST.to_bits(),
        is_by_table: u32::from(search == EightBitSearch::BitsandbytesCpu),
    };
    let bindings = [
        weights.scales.read(),
        bounds.read(),
        codes.write(),
        values.write(),
        status.write(),
    ];
    let grid = Grid::linear(n_blocks, 1)?;
    recorder.dispatch(&DOUBLE_QUANTIZE, &[], &params, &bindings, grid)?;
    if n_scales > 0 {
        record_fault(recorder, weights.scales.read(), n_scales, &status)?;
    }
    Ok(GpuFourBit {
        scales: codes,
        nested: Some(GpuNested {
            values,
            status: Some(status),
        }),
        ..weights
    })
}

/// The mean of the scales goes to the first of `values`.
fn record_mean(
    recorder: &mut Recorder,
    scales: &GpuTensor<u32>,
    values: &GpuTensor<f32>,
) -> Result<(), GpuQuantError> {
    // Less than eight scales fill no register: they are added one by one.
    let n_turns = if scales.len() < LANES {
        0
    } else {
        scales.len() / COLUMNS
    };
    let run = 1 << power(n_turns);
    let mut levels = vec![scales.clone()];
    let mut counts = vec![n_turns];
    for level in 1..LEVELS {
        let n_runs = counts[level - 1] / run;
        // Something has to be bound.
        let sums = recorder.scratch::<u32>(&[(COLUMNS * n_runs).max(1)])?;
        if n_runs > 0 {
            let params = DoubleSumParams {
                n_runs: word(n_runs),
                run: word(run),
                pad0: 0,
                pad1: 0,
            };
            let bindings = [levels[level - 1].read(), sums.write()];
            let grid = Grid::linear(COLUMNS * n_runs, WORKGROUP_SIZE)?;
            recorder.dispatch(&DOUBLE_SUM, &[], &params, &bindings, grid)?;
        }
        levels.push(sums);
        counts.push(n_runs);
    }
    let params = DoubleMeanParams {
        n_scales: word(scales.len()),
        divisor: (scales.len().max(1) as f32).to_bits(),
        n_turns: word(n_turns),
        run: word(run),
        n_first: word(counts[1]),
        n_second: word(counts[2]),
        n_third: word(counts[3]),
        pad0: 0,
    };
    let bindings = [
        levels[0].read(),
        levels[1].read(),
        levels[2].read(),
        levels[3].read(),
        values.write(),
    ];
    recorder.dispatch(&DOUBLE_MEAN, &[], &params, &bindings, Grid::linear(1, 1)?)?;
    Ok(())
}

/// For each code but the first the largest number from -1 to 1 that has a lower one, as a key: codes never fall as numbers rise, whatever the search.
fn bounds(search: EightBitSearch) -> Vec<u32> {
    let one = 1.0_f32.to_bits().cast_signed();
    let number = |key: i32| {
        let magnitude = f32::from_bits(key.unsigned_abs());
        if key < 0 { -magnitude } else { magnitude }
    };
    let bound = |code: u8| {
        // What is at `low` or below has a lower code, what is above `high` has not.
        let (mut low, mut high) = (-one - 1, one);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            if code_of(number(middle), search) < code {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low.cast_unsigned()
    };
    (1..=255).map(bound).collect()
}
