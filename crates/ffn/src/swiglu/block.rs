//! The feed-forward block: two products in, the gated product, one product out.

use llm_numerics::{Float, NumericsError, gemm};
use ndarray::{Array1, Array2, ArrayRef2, ArrayView1, ArrayView2, Axis};

use super::{apply, backward};
use crate::FfnError;
use crate::glu::GluPacking;

/// Borrowed weights of a SwiGLU block; construction is the only place that checks shapes.
#[derive(Clone, Copy, Debug)]
pub struct SwigluWeights<'a, F> {
    projection: Projection<'a, F>,
    down: ArrayView2<'a, F>, // [d_model, d_ff]
    gate_bias: Option<ArrayView1<'a, F>>,
    up_bias: Option<ArrayView1<'a, F>>,
    down_bias: Option<ArrayView1<'a, F>>,
}

/// The matrices of gate and up.
#[derive(Clone, Copy, Debug)]
enum Projection<'a, F> {
    /// One matrix `[2 * d_ff, d_model]`.
    Packed(ArrayView2<'a, F>, GluPacking),
    /// Two matrices `[d_ff, d_model]`.
    Separate {
        gate: ArrayView2<'a, F>,
        up: ArrayView2<'a, F>,
    },
}

impl<'a, F: Float> SwigluWeights<'a, F> {
    /// Weights with gate and up packed in one matrix, whose rows lie as `packing` says.
    ///
    /// # Shapes
    ///
    /// - `gate_up`: `[2 * d_ff, d_model]`, `down`: `[d_model, d_ff]` (torch's `Linear.weight`)
    ///
    /// # Errors
    ///
    /// - [`FfnError::PackedLen`] if `gate_up` has an odd number of rows.
    /// - [`FfnError::DownShape`] if `down` does not fit `gate_up`.
    pub fn new(
        gate_up: ArrayView2<'a, F>,
        down: ArrayView2<'a, F>,
        packing: GluPacking,
    ) -> Result<Self, FfnError> {
        packing.split(gate_up, Axis(0))?;
        Self::checked(Projection::Packed(gate_up, packing), down)
    }

    /// Weights with gate and up in matrices of their own (LLaMA, Qwen, Mistral in Hugging Face's transformers).
    ///
    /// # Shapes
    ///
    /// - `gate`, `up`: `[d_ff, d_model]`, `down`: `[d_model, d_ff]`
    ///
    /// # Errors
    ///
    /// - [`FfnError::UpShape`] if `up` does not have the shape of `gate`.
    /// - [`FfnError::DownShape`] if `down` does not fit them.
    pub fn separate(
        gate: ArrayView2<'a, F>,
        up: ArrayView2<'a, F>,
        down: ArrayView2<'a, F>,
    ) -> Result<Self, FfnError> {
        if gate.dim() != up.dim() {
            return Err(FfnError::UpShape {
                gate: [gate.nrows(), gate.ncols()],
                up: [up.nrows(), up.ncols()],
            });
        }
        Self::checked(Projection::Separate { gate, up }, down)
    }

    fn checked(projection: Projection<'a, F>, down: ArrayView2<'a, F>) -> Result<Self, FfnError> {
        let weights = Self {
            projection,
            down,
            gate_bias: None,
            up_bias: None,
            down_bias: None,
        };
        let expected = [weights.d_model(), weights.d_ff()];
        if down.shape() != expected {
            return Err(FfnError::DownShape {
                expected,
                got: [down.nrows(), down.ncols()],
            });
        }
        Ok(weights)
    }

    /// Adds a bias to gate and up that is packed as the rows of the packed matrix are
    /// (halves, gate first, for [separate](Self::separate) matrices).
    ///
    /// # Shapes
    ///
    /// - `bias`: `[2 * d_ff]`
    ///
    /// # Errors
    ///
    /// [`FfnError::BiasLen`] if the length is not `2 * d_ff`.
    pub fn with_gate_up_bias(mut self, bias: ArrayView1<'a, F>) -> Result<Self, FfnError> {
        check_bias("gate_up", 2 * self.d_ff(), &bias)?;
        let (gate, up) = self.packing().split(bias, Axis(0))?;
        self.gate_bias = Some(gate);
        self.up_bias = Some(up);
        Ok(self)
    }

    /// Adds a bias to the gate alone.
    ///
    /// # Shapes
    ///
    /// - `bias`: `[d_ff]`
    ///
    /// # Errors
    ///
    /// [`FfnError::BiasLen`] if the length is not `d_ff`.
    pub fn with_gate_bias(mut self, bias: ArrayView1<'a, F>) -> Result<Self, FfnError> {
        check_bias("gate", self.d_ff(), &bias)?;
        self.gate_bias = Some(bias);
        Ok(self)
    }

    /// Adds a bias to the up values alone.
    ///
    /// # Shapes
    ///
    /// - `bias`: `[d_ff]`
    ///
    /// # Errors
    ///
    /// [`FfnError::BiasLen`] if the length is not `d_ff`.
    pub fn with_up_bias(mut self, bias: ArrayView1<'a, F>) -> Result<Self, FfnError> {
        check_bias("up", self.d_ff(), &bias)?;
        self.up_bias = Some(bias);
        Ok(self)
    }

    /// Adds a bias to the output.
    ///
    /// # Shapes
    ///
    /// - `bias`: `[d_model]`
    ///
    /// # Errors
    ///
    /// [`FfnError::BiasLen`] if the length is not `d_model`.
    pub fn with_down_bias(mut self, bias: ArrayView1<'a, F>) -> Result<Self, FfnError> {
        check_bias("down", self.d_model(), &bias)?;
        self.down_bias = Some(bias);
        Ok(self)
    }

    /// Width of the residual stream.
    #[must_use]
    #[doc(alias = "hidden_size")]
    pub fn d_model(&self) -> usize {
        match &self.projection {
            Projection::Packed(gate_up, _) => gate_up.ncols(),
            Projection::Separate { gate, .. } => gate.ncols(),
        }
    }

    /// Width between the products.
    #[must_use]
    #[doc(alias = "intermediate_size")]
    pub fn d_ff(&self) -> usize {
        match &self.projection {
            Projection::Packed(gate_up, _) => gate_up.nrows() / 2,
            Projection::Separate { gate, .. } => gate.nrows(),
        }
    }

    /// How gate and up lie in the values between the products; separate matrices write [`GluPacking::GateUp`].
    #[must_use]
    pub fn packing(&self) -> GluPacking {
        match &self.projection {
            Projection::Packed(_, packing) => *packing,
            Projection::Separate { .. } => GluPacking::GateUp,
        }
    }

    fn check_input(&self, x: &ArrayRef2<F>) -> Result<(), FfnError> {
        if x.ncols() != self.d_model() {
            return Err(FfnError::InputWidth {
                expected: self.d_model(),
                got: x.ncols(),
            });
        }
        Ok(())
    }

    /// Gate and up of each token: `[tokens, 2 * d_ff]`.
    fn project(&self, x: &ArrayRef2<F>) -> Result<Array2<F>, FfnError> {
        let mut hidden = Array2::zeros((x.nrows(), 2 * self.d_ff()));
        let packing = self.packing();
        let mut beta = F::zero();
        if let Some(bias) = &self.gate_bias {
            packing.gate_mut(hidden.view_mut(), Axis(1))?.assign(bias);
            beta = F::one();
        }
        if let Some(bias) = &self.up_bias {
            packing.up_mut(hidden.view_mut(), Axis(1))?.assign(bias);
            beta = F::one();
        }
        match &self.projection {
            Projection::Packed(gate_up, _) => {
                product(x, &gate_up.t(), beta, &mut hidden);
            }
            Projection::Separate { gate, up } => {
                let mut to = packing.gate_mut(hidden.view_mut(), Axis(1))?;
                product(x, &gate.t(), beta, &mut to);
                let mut to = packing.up_mut(hidden.view_mut(), Axis(1))?;
                product(x, &up.t(), beta, &mut to);
            }
        }
        Ok(hidden)
    }

    /// The way back of [`project`](Self::project), without the biases.
    fn project_back(&self, dhidden: &Array2<F>) -> Result<Array2<F>, FfnError> {
        let mut dx = Array2::zeros((dhidden.nrows(), self.d_model()));
        match &self.projection {
            Projection::Packed(gate_up, _) => product(dhidden, gate_up, F::zero(), &mut dx),
            Projection::Separate { gate, up } => {
                let (dgate, dup) = self.packing().split(dhidden.view(), Axis(1))?;
                product(&dgate, gate, F::zero(), &mut dx);
                product(&dup, up, F::one(), &mut dx);
            }
        }
        Ok(dx)
    }
}

/// What [`forward_saved`] keeps for [`block_backward`]: gate and up before the activation.
#[derive(Clone, Debug, PartialEq)]
pub struct SwigluSaved<F> {
    hidden: Array2<F>, // [tokens, 2 * d_ff], packed as the weights say
}

impl<F> SwigluSaved<F> {
    /// Gate and up of each token, `[tokens, 2 * d_ff]`, packed as [`SwigluWeights::packing`] says.
    #[must_use]
    pub fn hidden(&self) -> &Array2<F> {
        &self.hidden
    }
}

/// The gradients of a SwiGLU block.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SwigluGradients<F> {
    /// Of the input, `[tokens, d_model]`.
    pub dx: Array2<F>,
    /// Of gate and up together, `[2 * d_ff, d_model]`, packed as [`packing`](Self::packing) says.
    pub dgate_up: Array2<F>,
    /// Of the down matrix, `[d_model, d_ff]`.
    pub ddown: Array2<F>,
    /// Of the bias of gate and up, `[2 * d_ff]`, packed as `dgate_up`; `None` without one.
    pub dgate_up_bias: Option<Array1<F>>,
    /// Of the bias of the output, `[d_model]`; `None` without one.
    pub ddown_bias: Option<Array1<F>>,
    /// How gate and up lie in `dgate_up`: the packing of the weights, halves with gate first for separate matrices.
    pub packing: GluPacking,
}

impl<F: Float> SwigluGradients<F> {
    /// The gradients of the gate and of the up matrix, each `[d_ff, d_model]`.
    ///
    /// # Errors
    ///
    /// [`FfnError::PackedLen`] if `dgate_up` was replaced by a matrix with an odd number of rows.
    pub fn split(&self) -> Result<(ArrayView2<'_, F>, ArrayView2<'_, F>), FfnError> {
        self.packing.split(self.dgate_up.view(), Axis(0))
    }
}

/// `down (silu(gate x) * (up x))` for every token.
///
/// ```text
/// y = W_down (silu(W_gate x + b_gate) * (W_up x + b_up)) + b_down
/// ```
///
/// # Shapes
///
/// - `x`: `[tokens, d_model]`
/// - returns: `[tokens, d_model]`
///
/// # Errors
///
/// [`FfnError::InputWidth`] if `x` is not as wide as the weights.
///
/// # Precision
///
/// Products as in [`llm_numerics::gemm`], the rest as [`apply`]. The same bits for
/// any number of threads.
///
/// # Example
///
/// ```
/// use llm_ffn::{silu, swiglu::{self, SwigluWeights}};
/// use ndarray::array;
///
/// let (gate, up) = (array![[1.0, 0.0]], array![[0.0, 1.0]]); // [d_ff, d_model]
/// let down = array![[2.0], [0.0]]; // [d_model, d_ff]
/// let weights = SwigluWeights::separate(gate.view(), up.view(), down.view())?;
/// let y = swiglu::forward(&array![[1.0, 3.0]], &weights)?;
/// assert_eq!(y, array![[6.0 * silu::value(1.0), 0.0]]);
/// # Ok::<(), llm_ffn::FfnError>(())
/// ```
///
/// Source: Shazeer, arXiv:2002.05202v1, Eq. 6; `LlamaMLP` and `Phi3MLP` of transformers 5.23.
pub fn forward<F: Float>(
    x: &ArrayRef2<F>,
    weights: &SwigluWeights<'_, F>,
) -> Result<Array2<F>, FfnError> {
    Ok(forward_saved(x, weights)?.0)
}

/// [`forward`], with what the backward needs.
///
/// # Shapes
///
/// As [`forward`].
///
/// # Errors
///
/// As [`forward`].
pub fn forward_saved<F: Float>(
    x: &ArrayRef2<F>,
    weights: &SwigluWeights<'_, F>,
) -> Result<(Array2<F>, SwigluSaved<F>), FfnError> {
    weights.check_input(x)?;
    let hidden = weights.project(x)?;
    let inner = apply(&hidden, weights.packing())?;
    let mut y = Array2::zeros((x.nrows(), weights.d_model()));
    let mut beta = F::zero();
    if let Some(bias) = &weights.down_bias {
        y.assign(bias);
        beta = F::one();
    }
    product(&inner, &weights.down.t(), beta, &mut y);
    Ok((y, SwigluSaved { hidden }))
}

/// The gradients of [`forward`] for every input and weight.
///
/// The gated product is computed again instead of saved.
///
/// # Shapes
///
/// - `dout`: `[tokens, d_model]`, the upstream gradient
/// - `x`: `[tokens, d_model]`, the input of the forward call, whose `saved` this is
///
/// # Errors
///
/// - [`FfnError::InputWidth`] if `x` is not as wide as the weights.
/// - [`FfnError::DoutShape`] if `dout` does not have the shape of `x`.
/// - [`FfnError::SavedShape`] if `saved` is not of this `x` and these weights.
///
/// # Precision
///
/// As [`forward`].
pub fn block_backward<F: Float>(
    dout: &ArrayRef2<F>,
    x: &ArrayRef2<F>,
    weights: &SwigluWeights<'_, F>,
    saved: &SwigluSaved<F>,
) -> Result<SwigluGradients<F>, FfnError> {
    weights.check_input(x)?;
    if dout.dim() != x.dim() {
        return Err(FfnError::DoutShape {
            expected: [x.nrows(), x.ncols()],
            got: [dout.nrows(), dout.ncols()],
        });
    }
    let expected = [x.nrows(), 2 * weights.d_ff()];
    if saved.hidden.shape() != expected {
        return Err(FfnError::SavedShape {
            expected,
            got: [saved.hidden.nrows(), saved.hidden.ncols()],
        });
    }
    let (tokens, d_model, d_ff) = (x.nrows(), weights.d_model(), weights.d_ff());
    let packing = weights.packing();

    let inner = apply(&saved.hidden, packing)?;
    let mut ddown = Array2::zeros((d_model, d_ff));
    product(&dout.t(), &inner, F::zero(), &mut ddown);

    let mut dinner = Array2::zeros((tokens, d_ff));
    product(dout, &weights.down, F::zero(), &mut dinner);
    let dhidden = backward(&dinner, &saved.hidden, packing)?;

    let mut dgate_up = Array2::zeros((2 * d_ff, d_model));
    product(&dhidden.t(), x, F::zero(), &mut dgate_up);

    let has_bias = weights.gate_bias.is_some() || weights.up_bias.is_some();
    Ok(SwigluGradients {
        dx: weights.project_back(&dhidden)?,
        dgate_up,
        ddown,
        dgate_up_bias: has_bias.then(|| dhidden.sum_axis(Axis(0))),
        ddown_bias: weights.down_bias.map(|_| dout.sum_axis(Axis(0))),
        packing,
    })
}

fn check_bias<F>(
    name: &'static str,
    expected: usize,
    bias: &ArrayView1<'_, F>,
) -> Result<(), FfnError> {
    if bias.len() != expected {
        return Err(FfnError::BiasLen {
            name,
            expected,
            got: bias.len(),
        });
    }
    Ok(())
}

/// `out = a b + beta out`, where the shapes are already known to fit.
fn product<F: Float>(a: &ArrayRef2<F>, b: &ArrayRef2<F>, beta: F, out: &mut ArrayRef2<F>) {
    let result: Result<(), NumericsError> = gemm::general_matmul(F::one(), a, b, beta, out);
    debug_assert_eq!(result, Ok(()), "weights are checked at construction");
}
