//! Forbidden tokens on the GPU, by a bit for each.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, snippet};

use super::{GpuLogits, GpuSamplingError, KEYS, WORKGROUP_SIZE, axes, word};

llm_gpu::params! {
    /// The parameter block of `mask.wgsl`.
    pub(super) struct MaskParams {
        n_elements: u32,
        vocab: u32,
        mask_stride: u32,
        hides: u32,
    }
}

pub(super) static MASK: Kernel = Kernel {
    name: "mask",
    source: include_str!("mask.wgsl"),
    snippets: &[snippet::LINEAR, KEYS],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<MaskParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// What a bit of a mask means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BitMeaning {
    /// 1 allows a token: the masks of grammars.
    OneAllows,
    /// 1 forbids a token: lists of suppressed tokens.
    OneForbids,
}

/// Records that forbidden tokens are masked, as [`Suppress`](crate::suppress::Suppress) does for a list of ids.
///
/// ```text
/// x_i <- -inf  where bit i of the mask forbids
/// ```
///
/// # Shapes
///
/// - `logits`: `[batch, vocab]`
/// - `mask`: `[batch, ceil(vocab / 32)]`, or `[1, ceil(vocab / 32)]` for all rows; token `i` is bit `i % 32` of word `i / 32`
///
/// # Errors
///
/// - [`GpuSamplingError::Rank`] if `mask` has not two axes, [`GpuSamplingError::Shape`] if it does not fit the logits.
/// - [`GpuSamplingError::Gpu`] if the tensors are of different devices.
///
/// # Precision
///
/// Exact.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::GpuLogits;
/// use llm_sampling::gpu::mask::{self, BitMeaning};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = gpu.upload(&array![[1.0_f32, 2.0, 3.0]])?;
/// let allowed = gpu.upload(&array![[0b101_u32]])?;
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &x)?;
/// mask::apply_inplace(&mut recorder, &logits, &allowed, BitMeaning::OneAllows)?;
/// recorder.submit()?;
/// assert_eq!(x.download_blocking()?, array![[1.0, f32::NEG_INFINITY, 3.0]].into_dyn());
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
pub fn apply_inplace(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    mask: &GpuTensor<u32>,
    meaning: BitMeaning,
) -> Result<(), GpuSamplingError> {
    let [rows, words] = axes("mask", mask)?;
    let expected = [logits.batch(), logits.vocab().div_ceil(32)];
    if words != expected[1] || (rows != expected[0] && rows != 1) {
        return Err(GpuSamplingError::Shape {
            name: "mask",
            expected: expected.to_vec(),
            got: vec![rows, words],
        });
    }
    let params = MaskParams {
        n_elements: word(logits.tensor().len()),
        vocab: word(logits.vocab()),
        mask_stride: if rows == 1 { 0 } else { word(words) },
        hides: u32::from(meaning == BitMeaning::OneForbids),
    };
    let bindings = [mask.read(), logits.status().read(), logits.tensor().write()];
    let grid = Grid::linear(logits.tensor().len(), WORKGROUP_SIZE)?;
    recorder.dispatch(&MASK, &[], &params, &bindings, grid)?;
    Ok(())
}
