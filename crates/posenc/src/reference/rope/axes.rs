//! Angles of positions with several axes, written out.

use ndarray::{Array2, ArrayRef1, ArrayRef2, ArrayRef3};

use crate::rope::RopeConfig;
use crate::rope::axes::{MropeVariant, VisionAxes};

/// The angles of M-RoPE; nothing is checked.
///
/// `Chunked` walks along the sections; `Interleaved` starts from the angles of time and overwrites every third one.
///
/// # Shapes
///
/// - `inv_freq`: `[rotary_dim / 2]`, `positions`: `[3, batch, seq]`
/// - returns: `[batch * seq, rotary_dim / 2]`
///
/// # Panics
///
/// If a shape or the sections do not fit.
///
/// Source: transformers 5.23, `models.qwen2_vl` and `models.qwen3_vl`.
#[must_use]
pub fn mrope_angles(
    inv_freq: &ArrayRef1<f64>,
    positions: &ArrayRef3<usize>,
    sections: &[usize],
    variant: MropeVariant,
) -> Array2<f64> {
    let (_, batch, seq) = positions.dim();
    let n_planes = inv_freq.len();
    let mut angles = Array2::zeros((batch * seq, n_planes));
    for (row, (b, t)) in ndarray::indices((batch, seq)).into_iter().enumerate() {
        let angle = |axis: usize, plane: usize| positions[[axis, b, t]] as f64 * inv_freq[plane];
        match variant {
            MropeVariant::Chunked => {
                let mut plane = 0;
                for (chunk, &length) in sections.iter().enumerate() {
                    for _ in 0..length {
                        angles[[row, plane]] = angle(chunk % 3, plane);
                        plane += 1;
                    }
                }
            }
            MropeVariant::Interleaved => {
                for plane in 0..n_planes {
                    angles[[row, plane]] = angle(0, plane);
                }
                for axis in [1, 2] {
                    for plane in (axis..(3 * sections[axis]).min(n_planes)).step_by(3) {
                        angles[[row, plane]] = angle(axis, plane);
                    }
                }
            }
        }
    }
    angles
}

/// The angles of an image encoder; nothing is checked.
///
/// # Shapes
///
/// - `positions`: `[seq, 2]`, row and column
/// - returns: `[seq, rotary_dim / 2]`
///
/// # Panics
///
/// If `positions` has fewer than two columns.
///
/// Source: transformers 5.23, `models.pixtral` and `models.qwen2_vl`.
#[must_use]
pub fn vision_angles(
    config: &RopeConfig,
    positions: &ArrayRef2<usize>,
    axes: VisionAxes,
) -> Array2<f64> {
    let quarter = config.rotary_dim / 4;
    let d = config.rotary_dim as f64;
    Array2::from_shape_fn((positions.nrows(), 2 * quarter), |(patch, plane)| {
        let (axis, i) = (plane / quarter, plane % quarter);
        let exponent = match axes {
            VisionAxes::EvenRowOddColumn => -2.0 * (2 * i + axis) as f64 / d,
            VisionAxes::SameFrequencies => -2.0 * i as f64 / (d / 2.0),
        };
        positions[[patch, axis]] as f64 * config.base.powf(exponent)
    })
}
