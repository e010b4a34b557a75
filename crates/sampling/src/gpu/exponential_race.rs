//! The exponential race on the GPU.

use llm_gpu::Recorder;

use super::draws::GpuDraws;
use super::{GpuLogits, GpuSamplingError, gumbel_max};
use crate::RowRandom;

/// Records a draw for each row, as the largest quotient of a probability and an exponential number:
/// [`exponential_race::draw`](crate::exponential_race::draw).
///
/// ```text
/// token = argmax_i p_i / q_i,   p = softmax(x),   q_i = -ln u_i,   u_i = gumbel_max::uniform(random, i)
/// ```
///
/// The kernel compares the logarithms of the quotients, which are the sums of [`gumbel_max::draw`]: so it is that one.
///
/// # Shapes
///
/// As [`gumbel_max::draw`].
///
/// # Errors
///
/// As [`gumbel_max::draw`].
///
/// # Precision
///
/// The token is that of the CPU unless the two largest quotients lie within `1e-6` of each other, relatively: the CPU's probabilities are of
/// `f32`.
///
/// # Example
///
/// ```
/// use llm_sampling::gpu::{GpuLogits, exponential_race};
/// use llm_sampling::{RowRandom, exponential_race as on_the_cpu};
/// use ndarray::array;
///
/// # let Some(gpu) = llm_sampling::gpu::llm_gpu::testing::gpu() else { return Ok(()) };
/// let x = array![[0.0_f32, 1.0, 2.0, 3.0]];
/// let random = RowRandom::new(42, 0, 7);
/// let mut recorder = gpu.recorder();
/// let logits = GpuLogits::new(&mut recorder, &gpu.upload(&x)?)?;
/// let draws = exponential_race::draw(&mut recorder, &logits, &[random])?;
/// recorder.submit()?;
/// let want = on_the_cpu::draw(&x.row(0), random)?.token;
/// assert_eq!(draws.download_blocking()?, [want]);
/// # Ok::<(), llm_sampling::gpu::GpuSamplingError>(())
/// ```
///
/// Source: as for [`exponential_race::draw`](crate::exponential_race::draw).
pub fn draw(
    recorder: &mut Recorder,
    logits: &GpuLogits,
    randoms: &[RowRandom],
) -> Result<GpuDraws, GpuSamplingError> {
    gumbel_max::draw(recorder, logits, randoms)
}
