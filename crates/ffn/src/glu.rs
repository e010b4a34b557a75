//! How gate and up values share one axis.

use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Slice};

use crate::FfnError;

/// Where the gate and the up values lie on an axis of length `2 * d_ff`.
///
/// All three are in wide use; weights of one read as another give wrong results
/// without any error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GluPacking {
    /// `[g0, g1, .., u0, u1, ..]`: Phi-3 and GLM in Hugging Face's transformers.
    GateUp,
    /// `[u0, u1, .., g0, g1, ..]`: fairseq and xFormers.
    UpGate,
    /// `[g0, u0, g1, u1, ..]`: GPT-OSS.
    Interleaved,
}

/// Views of the gate part and of the up part of one array.
pub type GateAndUp<'a, T, D> = (ArrayView<'a, T, D>, ArrayView<'a, T, D>);

impl GluPacking {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::GateUp, Self::UpGate, Self::Interleaved];

    /// The gate part and the up part of `x`, as views.
    ///
    /// # Shapes
    ///
    /// - `x`: `2 * d_ff` along `axis`; returns gate and up, each `d_ff` along it
    ///
    /// # Errors
    ///
    /// [`FfnError::PackedLen`] if `x` has an odd length along `axis`, or no such axis (length 0 is even).
    ///
    /// # Example
    ///
    /// ```
    /// use llm_ffn::glu::GluPacking;
    /// use ndarray::{Axis, array};
    ///
    /// let x = array![10, 1, 20, 2];
    /// let (gate, up) = GluPacking::Interleaved.split(x.view(), Axis(0))?;
    /// assert_eq!(gate, array![10, 20]);
    /// assert_eq!(up, array![1, 2]);
    /// # Ok::<(), llm_ffn::FfnError>(())
    /// ```
    pub fn split<'a, T, D: Dimension>(
        self,
        x: ArrayView<'a, T, D>,
        axis: Axis,
    ) -> Result<GateAndUp<'a, T, D>, FfnError> {
        let (gate, up) = self.slices(half(x.shape(), axis)?);
        let (mut gates, mut ups) = (x.clone(), x);
        gates.slice_axis_inplace(axis, gate);
        ups.slice_axis_inplace(axis, up);
        Ok((gates, ups))
    }

    /// The gate part of `x`, to be written.
    pub(crate) fn gate_mut<'a, T, D: Dimension>(
        self,
        mut x: ArrayViewMut<'a, T, D>,
        axis: Axis,
    ) -> Result<ArrayViewMut<'a, T, D>, FfnError> {
        let (gate, _) = self.slices(half(x.shape(), axis)?);
        x.slice_axis_inplace(axis, gate);
        Ok(x)
    }

    /// The up part of `x`, to be written.
    pub(crate) fn up_mut<'a, T, D: Dimension>(
        self,
        mut x: ArrayViewMut<'a, T, D>,
        axis: Axis,
    ) -> Result<ArrayViewMut<'a, T, D>, FfnError> {
        let (_, up) = self.slices(half(x.shape(), axis)?);
        x.slice_axis_inplace(axis, up);
        Ok(x)
    }

    fn slices(self, d_ff: usize) -> (Slice, Slice) {
        let first = Slice::from(..d_ff);
        let second = Slice::from(d_ff..2 * d_ff);
        match self {
            Self::GateUp => (first, second),
            Self::UpGate => (second, first),
            Self::Interleaved if d_ff == 0 => (first, first),
            Self::Interleaved => (Slice::new(0, None, 2), Slice::new(1, None, 2)),
        }
    }
}

/// `d_ff` of a packed axis.
fn half(shape: &[usize], axis: Axis) -> Result<usize, FfnError> {
    match shape.get(axis.index()) {
        Some(length) if length % 2 == 0 => Ok(length / 2),
        Some(length) => Err(FfnError::PackedLen(*length)),
        None => Err(FfnError::PackedLen(1)),
    }
}
