//! Positions with several axes: time, height and width of a video, row and column of an image.
//!
//! Every form here decides for each plane which axis turns it and at which frequency, and ends in a [`RopeTable`], so
//! that [`apply`](super::apply) rotates by it like by any other.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2, ArrayRef3, Axis};

use super::table::{check_inv_freq, check_positions};
use super::{RopeConfig, RopeTable, inv_freq};
use crate::memory::check_size;
use crate::{PosencError, memory};

/// How M-RoPE deals planes to the axes time, height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MropeVariant {
    /// Contiguous sections, section `i` by axis `i mod 3`: Qwen2-VL, Qwen2.5-VL.
    Chunked,
    /// Time, height, width in turn, until height and width have as many planes as their section says; the rest is
    /// time: Qwen3-VL.
    Interleaved,
}

/// How a vision encoder deals planes and frequencies to rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VisionAxes {
    /// Of the `head_dim / 2` frequencies of a head, rows take the even ones, columns the odd ones: Pixtral.
    EvenRowOddColumn,
    /// Rows and columns each take the `head_dim / 4` frequencies of half a head: Qwen2-VL's vision encoder.
    SameFrequencies,
}

/// Which axis turns each plane in M-RoPE: 0 is time, 1 height, 2 width.
///
/// ```text
/// Chunked      section 0 of time, section 1 of height, section 2 of width, section 3 of time, ..
/// Interleaved  plane j is of height if j mod 3 = 1 and j < 3 sections[1],
///              of width if j mod 3 = 2 and j < 3 sections[2], else of time
/// ```
///
/// # Shapes
///
/// - `sections`: as many numbers as the configuration has (`mrope_section`), usually three
/// - returns: one axis for each of `n_planes`
///
/// # Errors
///
/// - [`PosencError::MropeSections`] if the sections do not add up to `n_planes`, or `Interleaved`
///   does not have three.
/// - [`PosencError::TooLarge`] if there is no memory for the result.
///
/// # Precision
///
/// Exact. With `Interleaved` a section above a third of the planes is cut, as in transformers.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::axes::{self, MropeVariant};
///
/// let sections = [2, 3, 3];
/// let chunked = axes::mrope_planes(8, &sections, MropeVariant::Chunked)?;
/// assert_eq!(chunked, [0, 0, 1, 1, 1, 2, 2, 2]);
/// let interleaved = axes::mrope_planes(8, &sections, MropeVariant::Interleaved)?;
/// assert_eq!(interleaved, [0, 1, 2, 0, 1, 2, 0, 1]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `recomposition_frequencies` of transformers 5.23, `models.qwen2_vl` and `models.qwen3_vl`.
pub fn mrope_planes(
    n_planes: usize,
    sections: &[usize],
    variant: MropeVariant,
) -> Result<Vec<usize>, PosencError> {
    let sum = sections
        .iter()
        .try_fold(0_usize, |sum, n| sum.checked_add(*n));
    let is_three = variant == MropeVariant::Chunked || sections.len() == 3;
    if sum != Some(n_planes) || !is_three {
        return Err(PosencError::MropeSections {
            n_planes,
            sum: sum.unwrap_or(usize::MAX),
            count: sections.len(),
        });
    }
    check_size::<usize>(1, n_planes)?;
    Ok(match variant {
        MropeVariant::Chunked => sections
            .iter()
            .enumerate()
            .flat_map(|(i, &n)| std::iter::repeat_n(i % 3, n))
            .collect(),
        MropeVariant::Interleaved => (0..n_planes)
            .map(|plane| match plane % 3 {
                axis if axis > 0 && plane / 3 < sections[axis] => axis,
                _ => 0,
            })
            .collect(),
    })
}

/// The table of M-RoPE: plane `j` is turned by the position of its axis.
///
/// ```text
/// angle(b, t, j) = positions[axis_j, b, t] inv_freq_j
/// ```
///
/// with `axis` from [`mrope_planes`]. Text has the same position on all axes: then this is plain RoPE.
///
/// # Shapes
///
/// - `inv_freq`: `[rotary_dim / 2]`
/// - `positions`: `[3, batch, seq]`: time, height, width
/// - returns: a table of `batch * seq` rows
///
/// # Errors
///
/// - [`PosencError::PositionAxes`] if there are not three axes.
/// - As [`mrope_planes`] and [`RopeTable::new`].
///
/// # Precision
///
/// As [`RopeTable::new`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::axes::{self, MropeVariant};
/// use llm_posenc::rope::{self, RopeConfig, RopePairing};
/// use ndarray::{Array4, array};
///
/// let config = RopeConfig::new(8, RopePairing::HalfSplit);
/// let inv_freq = rope::inv_freq(&config)?;
/// // One word, then an image of one row and two columns.
/// let positions = array![[[0, 1, 1]], [[0, 1, 1]], [[0, 1, 2]]]; // [3, batch, seq]
/// let table = axes::mrope_table(&inv_freq, &positions, &[2, 1, 1], MropeVariant::Chunked, 1.0)?;
/// let q = rope::apply(&Array4::<f32>::ones((1, 2, 3, 8)), &table, config.pairing)?;
/// assert_eq!(q[[0, 0, 1, 0]], q[[0, 0, 2, 0]]); // same time
/// assert_ne!(q[[0, 0, 1, 3]], q[[0, 0, 2, 3]]); // other column
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Wang et al., Qwen2-VL, arXiv:2409.12191v2, section 2.1; transformers 5.23 as [`mrope_planes`].
pub fn mrope_table(
    inv_freq: &ArrayRef1<f64>,
    positions: &ArrayRef3<usize>,
    sections: &[usize],
    variant: MropeVariant,
    attention_factor: f64,
) -> Result<RopeTable, PosencError> {
    let got = positions.len_of(Axis(0));
    if got != 3 {
        return Err(PosencError::PositionAxes { expected: 3, got });
    }
    let axes = mrope_planes(inv_freq.len(), sections, variant)?;
    let positions: Vec<_> = positions.outer_iter().collect();
    let columns: Vec<_> = positions.iter().map(|axis| axis.iter()).collect();
    table(inv_freq, &axes, &columns, attention_factor)
}

/// The table of an image encoder: half of the planes turn by the row, half by the column.
///
/// ```text
/// EvenRowOddColumn  w_i = base^(-2 i / head_dim); angles row w_0, row w_2, .., column w_1, column w_3, ..
/// SameFrequencies   v_i = base^(-2 i / (head_dim / 2)); angles row v_0, row v_1, .., column v_0, column v_1, ..
/// ```
///
/// Both encoders pair features half-split: `[row, column, row, column]` along the head.
///
/// # Shapes
///
/// - `positions`: `[seq, 2]`: row and column of each patch
/// - `config`: of `rotary_dim = head_dim`
/// - returns: a table of `seq` rows
///
/// # Errors
///
/// - [`PosencError::Quarters`] if `rotary_dim` is not a multiple of four.
/// - [`PosencError::PositionAxes`] if `positions` does not have two columns.
/// - As [`inv_freq`] and [`RopeTable::new`].
///
/// # Precision
///
/// As [`RopeTable::new`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::axes::{self, VisionAxes};
/// use llm_posenc::rope::{RopeConfig, RopePairing};
///
/// let config = RopeConfig::new(8, RopePairing::HalfSplit);
/// let table = axes::vision_table(&config, &axes::grid(2, 3)?, VisionAxes::EvenRowOddColumn)?;
/// assert_eq!(table.rows(), 6); // patches, row by row
/// assert_eq!(table.sin()[[4, 0]], 1_f32.sin()); // patch (1, 1)
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `PixtralVisionRotaryEmbedding` and `Qwen2VLVisionRotaryEmbedding` of transformers 5.23.
pub fn vision_table(
    config: &RopeConfig,
    positions: &ArrayRef2<usize>,
    axes: VisionAxes,
) -> Result<RopeTable, PosencError> {
    let got = positions.ncols();
    if got != 2 {
        return Err(PosencError::PositionAxes { expected: 2, got });
    }
    let inv_freq = vision_inv_freq(config, axes)?;
    let half = inv_freq.len() / 2;
    let plane_axes: Vec<usize> = (0..inv_freq.len())
        .map(|plane| usize::from(plane >= half))
        .collect();
    let columns = [positions.column(0), positions.column(1)];
    let columns = columns.each_ref().map(|column| column.iter());
    table(&inv_freq, &plane_axes, &columns, 1.0)
}

/// The frequencies of [`vision_table`], those of the rows first.
///
/// # Shapes
///
/// - returns: `[rotary_dim / 2]`
///
/// # Errors
///
/// - [`PosencError::Quarters`] if `rotary_dim` is not a multiple of four.
/// - As [`inv_freq`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::axes::{self, VisionAxes};
/// use llm_posenc::rope::{RopeConfig, RopePairing};
///
/// let config = RopeConfig::new(8, RopePairing::HalfSplit).with_base(16.0); // 1, 1/2, 1/4, 1/8
/// let inv_freq = axes::vision_inv_freq(&config, VisionAxes::EvenRowOddColumn)?;
/// assert_eq!(inv_freq, ndarray::array![1.0, 0.25, 0.5, 0.125]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn vision_inv_freq(config: &RopeConfig, axes: VisionAxes) -> Result<Array1<f64>, PosencError> {
    let got = config.rotary_dim;
    let all = inv_freq(config)?;
    if !got.is_multiple_of(4) {
        return Err(PosencError::Quarters { got });
    }
    // Of half a head the frequencies are every other one of a head: w_0, w_2, ..
    let even = all.iter().step_by(2);
    Ok(match axes {
        VisionAxes::EvenRowOddColumn => {
            even.chain(all.iter().skip(1).step_by(2)).copied().collect()
        }
        VisionAxes::SameFrequencies => even.clone().chain(even).copied().collect(),
    })
}

/// Row and column of each patch of an image, row by row.
///
/// # Shapes
///
/// - returns: `[height * width, 2]`
///
/// # Errors
///
/// - [`PosencError::TooLarge`] if the result does not fit into memory.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::axes;
///
/// let patches = axes::grid(2, 3)?; // [height * width, 2]
/// assert_eq!(patches, ndarray::array![[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn grid(height: usize, width: usize) -> Result<Array2<usize>, PosencError> {
    let too_large = PosencError::TooLarge {
        rows: height,
        columns: width,
    };
    let seq = height.checked_mul(width).ok_or(too_large)?;
    check_size::<usize>(seq, 2)?;
    Ok(Array2::from_shape_fn((seq, 2), |(patch, axis)| {
        if axis == 0 {
            patch / width
        } else {
            patch % width
        }
    }))
}

/// The table whose plane `j` turns by `columns[axes[j]]`; all columns have one length.
fn table<'a>(
    inv_freq: &ArrayRef1<f64>,
    axes: &[usize],
    columns: &[impl ExactSizeIterator<Item = &'a usize> + Clone],
    attention_factor: f64,
) -> Result<RopeTable, PosencError> {
    check_inv_freq(inv_freq)?;
    for positions in columns {
        check_positions(inv_freq, positions.clone())?;
    }
    let rows = columns.first().map_or(0, |positions| positions.len());
    let n_planes = inv_freq.len();
    check_size::<[f32; 2]>(rows, n_planes)?;
    // Element by element, a view of any strides would be slow to find one in.
    let lists = columns.iter().map(|c| memory::list(c.clone().copied()));
    let columns: Vec<Vec<usize>> = lists.collect::<Option<_>>().ok_or(PosencError::TooLarge {
        rows,
        columns: columns.len(),
    })?;
    RopeTable::tabulate(rows, n_planes, attention_factor, |row, plane| {
        columns[axes[plane]][row] as f64 * inv_freq[plane]
    })
}
