//! Cosines and sines of positions, made once for all layers.

use ndarray::{Array2, ArrayRef1, ArrayRef2, ArrayView2};

use super::{RopeConfig, inv_freq};
use crate::PosencError;
use crate::memory::check_size;
use llm_numerics::Storage;

/// Cosines and sines of a list of positions: what [`apply`](super::apply) multiplies with.
///
/// Made once for a sequence and used by every layer and head, for queries and keys.
/// It has one row for each element of a sequence, or one for each element of each sequence of
/// a batch (row `b * seq + t`).
///
/// Invariant: both arrays have the shape `[rows, rotary_dim / 2]` and standard layout.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    pub(super) cos: Array2<f32>,
    pub(super) sin: Array2<f32>,
}

impl RopeTable {
    /// Tabulates `attention_factor * cos(position * inv_freq)` and the same of sin.
    ///
    /// The factor is 1 in plain RoPE; YaRN and LongRoPE have others.
    ///
    /// # Shapes
    ///
    /// - `inv_freq`: `[rotary_dim / 2]`
    /// - `positions`: `[seq]`, in tokens from the start of the sequence, in any order
    ///
    /// # Errors
    ///
    /// - [`PosencError::InvFreq`] if a frequency is not finite.
    /// - [`PosencError::AttentionFactor`] if the factor is not finite as an `f32`.
    /// - [`PosencError::Position`] if a position is above 2^53 or its angle overflows.
    /// - [`PosencError::TooLarge`] if the table does not fit into memory.
    ///
    /// # Precision
    ///
    /// Angles, cosines and sines in `f64`, rounded once to `f32`. The angle itself is
    /// right to `position * inv_freq * 2^-53` radians, so a position of a million costs nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::RopeTable;
    /// use ndarray::array;
    ///
    /// let inv_freq = array![1.0, 0.01];
    /// let table = RopeTable::new(&inv_freq, &array![0, 300, 7], 2.0)?;
    /// assert_eq!((table.rows(), table.rotary_dim()), (3, 4));
    /// assert_eq!(table.cos()[[1, 1]], (2.0 * 3_f64.cos()) as f32);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn new(
        inv_freq: &ArrayRef1<f64>,
        positions: &ArrayRef1<usize>,
        attention_factor: f64,
    ) -> Result<Self, PosencError> {
        check_inv_freq(inv_freq)?;
        check_positions(inv_freq, positions)?;
        Self::tabulate(positions.len(), inv_freq.len(), attention_factor, |t, i| {
            positions[t] as f64 * inv_freq[i]
        })
    }

    /// [`new`](Self::new) for sequences that have positions of their own.
    ///
    /// # Shapes
    ///
    /// - `inv_freq`: `[rotary_dim / 2]`
    /// - `positions`: `[batch, seq]`
    /// - makes `batch * seq` rows
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); the index of a position counts along the rows.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
    /// use ndarray::{Array4, array};
    ///
    /// let config = RopeConfig::new(8, RopePairing::HalfSplit);
    /// let positions = array![[0, 1, 2], [0, 0, 1]]; // the second row is padded on the left
    /// let table = RopeTable::for_batch(&rope::inv_freq(&config)?, &positions, 1.0)?;
    /// let q = Array4::<f32>::ones((2, 4, 3, 8)); // [batch, heads, seq, head_dim]
    /// let q = rope::apply(&q, &table, config.pairing)?;
    /// assert_eq!(q[[0, 0, 1, 0]], q[[1, 0, 2, 0]]); // both at position 1
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn for_batch(
        inv_freq: &ArrayRef1<f64>,
        positions: &ArrayRef2<usize>,
        attention_factor: f64,
    ) -> Result<Self, PosencError> {
        check_inv_freq(inv_freq)?;
        check_positions(inv_freq, positions)?; // before they are copied
        let positions = positions.iter().copied().collect();
        let positions = ndarray::Array1::from_vec(positions);
        Self::new(inv_freq, &positions, attention_factor)
    }

    /// Tabulates angles that the caller made, in radians.
    ///
    /// For positions with several axes, fractional positions, or the angles of another
    /// library: transformers 5.23 forms `position * inv_freq` in `f32`, which at
    /// position 100 000 is off by up to 0.004 radians.
    ///
    /// # Shapes
    ///
    /// - `angles`: `[rows, rotary_dim / 2]`, where `rows` is `seq` or `batch * seq`
    ///
    /// # Errors
    ///
    /// - [`PosencError::Angle`] if an angle is not finite.
    /// - [`PosencError::AttentionFactor`] if the factor is not finite as an `f32`.
    /// - [`PosencError::TooLarge`] if the table does not fit into memory.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::RopeTable;
    /// use ndarray::array;
    ///
    /// let table = RopeTable::from_angles(&array![[0.0, 0.5]], 1.0)?; // [rows, rotary_dim / 2]
    /// assert_eq!(table.cos(), array![[1.0, 0.5_f64.cos() as f32]]);
    /// assert_eq!(table.sin(), array![[0.0, 0.5_f64.sin() as f32]]);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn from_angles(
        angles: &ArrayRef2<f64>,
        attention_factor: f64,
    ) -> Result<Self, PosencError> {
        let (rows, n_planes) = angles.dim();
        check_table_size(rows, n_planes)?;
        for ((row, column), &got) in angles.indexed_iter() {
            if !got.is_finite() {
                let index = [row, column];
                return Err(PosencError::Angle { index, got });
            }
        }
        Self::tabulate(rows, n_planes, attention_factor, |t, i| angles[[t, i]])
    }

    /// A table from cosines and sines that the caller has, factor included.
    ///
    /// # Shapes
    ///
    /// - `cos`, `sin`: `[rows, rotary_dim / 2]`, where `rows` is `seq` or `batch * seq`
    ///
    /// # Errors
    ///
    /// - [`PosencError::TableShapes`] if the shapes differ.
    /// - [`PosencError::TableValue`] if a value is not finite.
    /// - [`PosencError::TooLarge`] if the table does not fit into memory.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{self, RopePairing, RopeTable};
    /// use ndarray::array;
    ///
    /// let table = RopeTable::from_cos_sin(&array![[0.6]], &array![[0.8]])?;
    /// let x = array![[[[1.0_f32, 0.0]]]]; // [batch, heads, seq, head_dim]
    /// let y = rope::apply(&x, &table, RopePairing::HalfSplit)?;
    /// assert_eq!(y, array![[[[0.6, 0.8]]]]);
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn from_cos_sin(cos: &ArrayRef2<f32>, sin: &ArrayRef2<f32>) -> Result<Self, PosencError> {
        if cos.dim() != sin.dim() {
            return Err(PosencError::TableShapes {
                cos: cos.dim().into(),
                sin: sin.dim().into(),
            });
        }
        let (rows, n_planes) = cos.dim();
        check_table_size(rows, n_planes)?;
        for ((row, column), &got) in cos.indexed_iter().chain(sin.indexed_iter()) {
            if !got.is_finite() {
                let index = [row, column];
                return Err(PosencError::TableValue { index, got });
            }
        }
        let own = |x: &ArrayRef2<f32>| Array2::from_shape_fn(x.dim(), |index| x[index]);
        Ok(Self {
            cos: own(cos),
            sin: own(sin),
        })
    }

    /// The same table with cosines and sines rounded to a storage type.
    ///
    /// For the numbers of libraries that keep their cache so: `ChatGLM2` and `ChatGLM3` store it in the type of
    /// the model, and so does transformers 5.23 (`cos.to(dtype=x.dtype)`) for every model.
    ///
    /// # Precision
    ///
    /// Each value is off by up to 2^-8 of itself in bfloat16, 2^-11 in `f16`; a value above
    /// 65 504 becomes infinite in `f16`.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_numerics::half::bf16;
    /// use llm_posenc::rope::RopeTable;
    /// use ndarray::array;
    ///
    /// let table = RopeTable::from_angles(&array![[1.0]], 1.0)?;
    /// assert_eq!(table.rounded::<bf16>().cos()[[0, 0]], 0.539_062_5); // not 0.540_302_3
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    #[must_use]
    pub fn rounded<S: Storage>(&self) -> Self {
        let round = |x: &f32| S::from_f32(*x).to_f32();
        Self {
            cos: self.cos.map(round),
            sin: self.sin.map(round),
        }
    }

    /// The table of plain RoPE: [`inv_freq`] of the config, attention factor 1.
    ///
    /// # Errors
    ///
    /// As [`inv_freq`] and [`new`](Self::new).
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{RopeConfig, RopePairing, RopeTable};
    /// use ndarray::Array1;
    ///
    /// let config = RopeConfig::new(64, RopePairing::HalfSplit).with_base(500_000.0);
    /// let positions: Array1<usize> = (0..10).collect();
    /// let table = RopeTable::from_config(&config, &positions)?; // for every layer
    /// assert_eq!((table.rows(), table.rotary_dim()), (10, 64));
    /// # Ok::<(), llm_posenc::PosencError>(())
    /// ```
    pub fn from_config(
        config: &RopeConfig,
        positions: &ArrayRef1<usize>,
    ) -> Result<Self, PosencError> {
        Self::new(&inv_freq(config)?, positions, 1.0)
    }

    /// The cosines, times the attention factor: `[rows, rotary_dim / 2]`.
    #[must_use]
    pub fn cos(&self) -> ArrayView2<'_, f32> {
        self.cos.view()
    }

    /// The sines, times the attention factor: `[rows, rotary_dim / 2]`.
    #[must_use]
    pub fn sin(&self) -> ArrayView2<'_, f32> {
        self.sin.view()
    }

    /// Number of positions: `seq`, or `batch * seq`.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.cos.nrows()
    }

    /// Number of features that are rotated.
    #[must_use]
    pub fn rotary_dim(&self) -> usize {
        2 * self.cos.ncols()
    }

    // ANCHOR: tabulate
    pub(super) fn tabulate(
        rows: usize,
        n_planes: usize,
        attention_factor: f64,
        angle: impl Fn(usize, usize) -> f64,
    ) -> Result<Self, PosencError> {
        if !(attention_factor as f32).is_finite() {
            return Err(PosencError::AttentionFactor {
                got: attention_factor,
            });
        }
        check_table_size(rows, n_planes)?;
        let mut cos = Array2::zeros((rows, n_planes));
        let mut sin = Array2::zeros((rows, n_planes));
        for ((t, i), cos) in cos.indexed_iter_mut() {
            let (s, c) = angle(t, i).sin_cos();
            *cos = (attention_factor * c) as f32;
            sin[[t, i]] = (attention_factor * s) as f32;
        }
        Ok(Self { cos, sin })
    }
    // ANCHOR_END: tabulate
}

/// Refuses tables whose cosines and sines memory cannot hold.
fn check_table_size(rows: usize, n_planes: usize) -> Result<(), PosencError> {
    check_size::<[f32; 2]>(rows, n_planes)
}

/// Refuses frequencies that are not finite, or more than memory can hold.
pub(crate) fn check_inv_freq(inv_freq: &ArrayRef1<f64>) -> Result<(), PosencError> {
    check_size::<f64>(1, inv_freq.len())?;
    match inv_freq.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(PosencError::InvFreq {
            index,
            got: inv_freq[index],
        }),
    }
}

/// Refuses positions that `f64` does not hold exactly, or whose angles are not finite, or more than memory can hold.
pub(super) fn check_positions<'a>(
    inv_freq: &ArrayRef1<f64>,
    positions: impl IntoIterator<Item = &'a usize, IntoIter: ExactSizeIterator>,
) -> Result<(), PosencError> {
    let positions = positions.into_iter();
    check_size::<usize>(positions.len(), 1)?;
    let largest = inv_freq.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    for (index, &got) in positions.enumerate() {
        if got as u64 > 1 << 53 || !(got as f64 * largest).is_finite() {
            return Err(PosencError::Position { index, got });
        }
    }
    Ok(())
}
