//! Rotary position embedding (RoPE): queries and keys turned by angles that grow with the position.

use ndarray::{Array1, Array4, ArrayRef1, ArrayRef4};

use crate::PosencError;
use llm_numerics::Float;
use rotate::{Direction, turn};

pub mod axes;
pub mod chatglm;
mod decay;
pub mod permute;
pub(crate) mod reposition;
pub(crate) mod rotate;
mod scaling;
mod storage;
mod table;

pub use decay::decay;
pub use reposition::{reposition, reposition_inplace};
pub use scaling::{
    LongRopeConfig, RopeFrequencies, RopeScaling, YarnAttention, YarnConfig, YarnDialect,
    frequencies, length_factor, update_sequence,
};
pub use storage::{
    StorageRounding, apply_stored, apply_stored_inplace, backward_stored, backward_stored_inplace,
};
pub use table::RopeTable;
#[cfg(feature = "gpu")]
pub(crate) use table::check_inv_freq;

/// The largest `rotary_dim` that [`RopeConfig`] may ask for.
pub const MAX_ROTARY_DIM: usize = 1 << 16;

/// Which two features form a rotation plane.
///
/// They are *not* interchangeable: weights trained with one give wrong results with another,
/// without any error. The first two are in wide use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RopePairing {
    /// Planes `(0, 1), (2, 3), ..`: RoFormer, GPT-J, Meta's release of LLaMA, GLM, Cohere.
    Interleaved,
    /// Planes `(0, r/2), (1, r/2 + 1), ..`: GPT-NeoX and the `rotate_half` of Hugging Face.
    HalfSplit,
    /// Planes `(0, 1), (2, 3), ..` of the input go to `(0, r/2), (1, r/2 + 1), ..` of the output:
    /// DeepSeek-V3 in transformers (`apply_rotary_pos_emb_interleave`).
    ///
    /// Scores are those of `Interleaved`, as queries and keys are reordered alike. Rotated
    /// keys are not: a cache of one cannot be read by the other.
    ReadInterleavedWriteHalfSplit,
}

/// The settings of plain RoPE.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RopeConfig {
    /// Number of leading features that are rotated; the rest pass through.
    #[doc(alias = "rope_dim")]
    pub rotary_dim: usize,
    /// Base of the geometric series of wavelengths; 10 000 unless set.
    #[doc(alias = "rope_theta")]
    pub base: f64,
    /// How features pair up.
    pub pairing: RopePairing,
}

impl RopeConfig {
    /// `base` 10 000, the value of the RoFormer paper.
    #[must_use]
    pub const fn new(rotary_dim: usize, pairing: RopePairing) -> Self {
        Self {
            rotary_dim,
            base: 10_000.0,
            pairing,
        }
    }

    /// Sets the [`base`](Self::base), whatever [`with_rope_ratio`](Self::with_rope_ratio) made of it before.
    #[must_use]
    pub const fn with_base(mut self, base: f64) -> Self {
        self.base = base;
        self
    }

    /// Multiplies the [`base`](Self::base) by `rope_ratio`. A later [`with_base`](Self::with_base) replaces the product,
    /// so call this one last.
    ///
    /// So do the later `ChatGLM3` and GLM-4 checkpoints: base 10 000 and `rope_ratio` 50 for
    /// 32 768 tokens, 500 for 131 072, 10 000 for a million.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_posenc::rope::{RopeConfig, RopePairing};
    ///
    /// let config = RopeConfig::new(64, RopePairing::Interleaved).with_rope_ratio(50.0);
    /// assert_eq!(config.base, 500_000.0);
    /// ```
    ///
    /// Source: `RotaryEmbedding` in `modeling_chatglm.py` of `THUDM/glm-4-9b-chat-1m`.
    #[must_use]
    pub const fn with_rope_ratio(mut self, rope_ratio: f64) -> Self {
        self.base *= rope_ratio;
        self
    }
}

/// The frequency of each rotation plane, in radians per token.
///
/// ```text
/// inv_freq_i = base^(-2 i / rotary_dim),   i = 0 .. rotary_dim / 2
/// ```
///
/// # Shapes
///
/// - returns: `[rotary_dim / 2]`
///
/// # Errors
///
/// - [`PosencError::RotaryDim`] if `rotary_dim` is odd, zero or above [`MAX_ROTARY_DIM`].
/// - [`PosencError::Base`] if `base` is not finite and above one.
///
/// # Precision
///
/// `f64`. Libraries that compute the power in `f32` differ by some `1e-7`, relative.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing};
///
/// let config = RopeConfig::new(4, RopePairing::HalfSplit);
/// assert_eq!(rope::inv_freq(&config)?, ndarray::array![1.0, 0.01]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, section 3.2.2.
pub fn inv_freq(config: &RopeConfig) -> Result<Array1<f64>, PosencError> {
    let RopeConfig {
        rotary_dim, base, ..
    } = *config;
    if rotary_dim == 0 || rotary_dim % 2 == 1 || rotary_dim > MAX_ROTARY_DIM {
        return Err(PosencError::RotaryDim { got: rotary_dim });
    }
    if !(base.is_finite() && base > 1.0) {
        return Err(PosencError::Base { got: base });
    }
    let step = -2.0 / rotary_dim as f64;
    Ok((0..rotary_dim / 2)
        .map(|i| base.powf(step * i as f64))
        .collect())
}

/// Rotates `x` by the positions of the table and returns the result.
///
/// For plane `i` with the features `(x1, x2)` that the pairing says, at the angle
/// `a = position * inv_freq_i`:
///
/// ```text
/// y1 = x1 cos a - x2 sin a
/// y2 = x1 sin a + x2 cos a
/// ```
///
/// Features from `rotary_dim` on pass through.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`, any strides (fastest if `head_dim` is contiguous)
/// - `table`: of `seq` rows, which all of the batch share, or of `batch * seq` rows
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::TableRows`] if the table has another number of rows.
/// - [`PosencError::RotaryDimAboveHeadDim`] if the table rotates more features than there are.
/// - [`PosencError::TooLarge`] if the result does not fit into memory.
///
/// # Precision
///
/// Two products and a sum in `F` with cosines and sines in `f32`: for `f64` arrays
/// the result is still only right to some `1e-7`. NaN stays in its plane.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
/// use ndarray::{array, s};
///
/// let config = RopeConfig::new(2, RopePairing::Interleaved);
/// let table = RopeTable::from_config(&config, &array![0, 1])?;
/// let q = array![[[[1.0, 0.0], [1.0, 0.0]]]]; // [1, 1, 2, 2]
/// let y = rope::apply(&q, &table, config.pairing)?;
/// assert_eq!(y.slice(s![0, 0, 0, ..]), array![1.0_f32, 0.0]); // position 0: unchanged
/// assert_eq!(y.slice(s![0, 0, 1, ..]), array![1_f32.cos(), 1_f32.sin()]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: Su et al., RoFormer, arXiv:2104.09864v5, equation 34; `HalfSplit` as
/// `rotate_half` and `ReadInterleavedWriteHalfSplit` as `apply_rotary_pos_emb_interleave`
/// of transformers 5.23.
pub fn apply<F: Float>(
    x: &ArrayRef4<F>,
    table: &RopeTable,
    pairing: RopePairing,
) -> Result<Array4<F>, PosencError> {
    rotate::into_new(x, F::zero(), table, pairing, Direction::Forward, turn)
}

/// [`apply`] in place.
///
/// # Errors
///
/// As [`apply`]; `x` is then unchanged.
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
/// use ndarray::{Array4, array};
///
/// let config = RopeConfig::new(4, RopePairing::HalfSplit);
/// let table = RopeTable::from_config(&config, &array![0, 1, 2])?;
/// let mut k = Array4::<f32>::ones((1, 2, 3, 4)); // [batch, heads, seq, head_dim]
/// let want = rope::apply(&k, &table, config.pairing)?;
/// rope::apply_inplace(&mut k, &table, config.pairing)?;
/// assert_eq!(k, want);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn apply_inplace<F: Float>(
    x: &mut ArrayRef4<F>,
    table: &RopeTable,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    rotate::inplace(x, table, pairing, Direction::Forward, turn)
}

/// The gradient for `x` of [`apply`]: a rotation of `dout` by the negative angles.
///
/// ```text
/// dx1 =  dy1 cos a + dy2 sin a
/// dx2 = -dy1 sin a + dy2 cos a
/// ```
///
/// `dout` is laid out as the pairing writes, the result as it reads.
///
/// The attention factor multiplies once more, as it did in the forward pass. With
/// factor 1 this is also the inverse of [`apply`].
///
/// # Shapes
///
/// - `dout`: `[batch, heads, seq, head_dim]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// As [`apply`].
///
/// # Precision
///
/// As [`apply`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopePairing, RopeTable};
/// use ndarray::array;
///
/// let table = RopeTable::from_angles(&array![[1.0]], 1.0)?;
/// let dout = array![[[[1.0, 0.0]]]]; // [batch, heads, seq, head_dim]
/// let dx = rope::backward(&dout, &table, RopePairing::Interleaved)?;
/// assert_eq!(dx, array![[[[1_f32.cos(), -1_f32.sin()]]]]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn backward<F: Float>(
    dout: &ArrayRef4<F>,
    table: &RopeTable,
    pairing: RopePairing,
) -> Result<Array4<F>, PosencError> {
    let turn_back = |x1, x2, cos, sin: f32| turn(x1, x2, cos, -sin);
    rotate::into_new(
        dout,
        F::zero(),
        table,
        pairing,
        Direction::Backward,
        turn_back,
    )
}

/// [`backward`] in place.
///
/// # Errors
///
/// As [`apply`]; `dout` is then unchanged.
pub fn backward_inplace<F: Float>(
    dout: &mut ArrayRef4<F>,
    table: &RopeTable,
    pairing: RopePairing,
) -> Result<(), PosencError> {
    let turn_back = |x1, x2, cos, sin: f32| turn(x1, x2, cos, -sin);
    rotate::inplace(dout, table, pairing, Direction::Backward, turn_back)
}

/// [`apply`] with a table made for this call, of plain RoPE.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`
/// - `positions`: `[seq]`
/// - returns: `[batch, heads, seq, head_dim]`
///
/// # Errors
///
/// - [`PosencError::PositionsLen`] if there is not one position for each sequence element.
/// - As [`RopeTable::from_config`] and [`apply`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing};
/// use ndarray::{Array4, array};
///
/// let k = Array4::<f32>::ones((1, 2, 3, 8)); // [batch, heads, seq, head_dim]
/// let config = RopeConfig::new(8, RopePairing::HalfSplit).with_base(500_000.0);
/// let rotated = rope::apply_at(&k, &array![5, 6, 7], &config)?;
/// assert_eq!(rotated.dim(), (1, 2, 3, 8));
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
pub fn apply_at<F: Float>(
    x: &ArrayRef4<F>,
    positions: &ArrayRef1<usize>,
    config: &RopeConfig,
) -> Result<Array4<F>, PosencError> {
    let (seq, got) = (x.dim().2, positions.len());
    if got != seq {
        return Err(PosencError::PositionsLen { seq, got });
    }
    let table = RopeTable::from_config(config, positions)?;
    apply(x, &table, config.pairing)
}
