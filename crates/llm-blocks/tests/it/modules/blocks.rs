//! The blocks that modules are put together from, in both tiers.

use llm_blocks::attention::{AttentionConfig, AttentionError, differential, mla};
use llm_blocks::ndarray::{
    Array, Array1, Array2, Array3, Array4, ArrayRef1, ArrayRef2, ArrayRef4, Dimension,
};
use llm_blocks::numerics::testing::vectors::{Case, VectorError};
use llm_blocks::numerics::{Float, gemm};
use llm_blocks::posenc::rope::{self, RopeFrequencies, RopePairing};
use llm_blocks::{attention, ffn, numerics, posenc};

/// Where the tokens stand: the rotation of a batch.
pub(super) struct Rotation {
    pub(super) frequencies: RopeFrequencies,
    pub(super) positions: Array2<usize>, // [batch, seq]
    pub(super) pairing: RopePairing,
}

/// Latent attention's arrays: queries, latents, rotated keys, and `kv_b_proj`.
pub(super) type Latent<'a, F> = (
    &'a ArrayRef4<F>,
    &'a ArrayRef4<F>,
    &'a ArrayRef4<F>,
    &'a ArrayRef2<F>,
);

/// A result and its log-sum-exp.
pub(super) type Attended<F> = (Array4<F>, Array3<F>);

/// Differential attention's arrays: queries, keys, values, and `lambda`.
pub(super) type Pairs<'a, F> = (
    [&'a ArrayRef4<F>; 2],
    [&'a ArrayRef4<F>; 2],
    &'a ArrayRef4<F>,
    &'a ArrayRef1<F>,
);

/// Either the textbook in `f64` or the fast path in `f32`.
pub(super) trait Blocks {
    type F: Float;
    /// In how many forms latent attention is there.
    const FORMS: usize;

    fn input<D: Dimension>(case: &Case, name: &str) -> Result<Array<Self::F, D>, VectorError>;
    fn matmul(a: &ArrayRef2<Self::F>, b: &ArrayRef2<Self::F>) -> Array2<Self::F>;
    fn norm(x: &Array2<Self::F>, weight: &Array1<Self::F>, eps: f64) -> Array2<Self::F>;
    fn norm_backward(
        dout: &Array2<Self::F>,
        x: &Array2<Self::F>,
        weight: &Array1<Self::F>,
        eps: f64,
    ) -> (Array2<Self::F>, Array1<Self::F>);
    fn rotate(x: &ArrayRef4<Self::F>, rotation: &Rotation) -> Array4<Self::F>;
    fn rotate_back(dout: &ArrayRef4<Self::F>, rotation: &Rotation) -> Array4<Self::F>;
    fn latent(
        form: usize,
        arrays: Latent<'_, Self::F>,
        config: &AttentionConfig,
    ) -> Result<Attended<Self::F>, AttentionError>;
    fn latent_backward(
        form: usize,
        dout: &ArrayRef4<Self::F>,
        arrays: Latent<'_, Self::F>,
        saved: &Attended<Self::F>,
        config: &AttentionConfig,
    ) -> Result<mla::Gradients<Self::F>, AttentionError>;
    /// Forward and backward, with the upstream gradient as a function of the result.
    fn differential(
        arrays: Pairs<'_, Self::F>,
        config: &AttentionConfig,
        dout: impl FnOnce(&Array4<Self::F>) -> Result<Array4<Self::F>, VectorError>,
    ) -> Result<differential::Gradients<Self::F>, VectorError>;
    fn lambda(
        q: [&ArrayRef1<Self::F>; 2],
        k: [&ArrayRef1<Self::F>; 2],
        lambda_init: f64,
    ) -> Result<Self::F, AttentionError>;
    fn lambda_backward(
        dlambda: Self::F,
        q: [&ArrayRef1<Self::F>; 2],
        k: [&ArrayRef1<Self::F>; 2],
    ) -> Result<differential::lambda::Gradients<Self::F>, AttentionError>;
    fn head_norm(
        x: &ArrayRef4<Self::F>,
        lambda_init: f64,
        eps: f64,
    ) -> Result<Array4<Self::F>, AttentionError>;
    fn head_norm_backward(
        dout: &ArrayRef4<Self::F>,
        x: &ArrayRef4<Self::F>,
        lambda_init: f64,
        eps: f64,
    ) -> Result<Array4<Self::F>, AttentionError>;
}

/// The reference modules of all crates.
pub(super) struct Reference;

impl Rotation {
    fn angles(&self) -> Array2<f64> {
        let positions: Array1<usize> = self.positions.iter().copied().collect();
        posenc::reference::rope::angles(&positions, &self.frequencies.inv_freq)
    }
}

impl Blocks for Reference {
    type F = f64;
    const FORMS: usize = 1;

    fn input<D: Dimension>(case: &Case, name: &str) -> Result<Array<f64, D>, VectorError> {
        case.input_f64(name)
    }

    fn matmul(a: &ArrayRef2<f64>, b: &ArrayRef2<f64>) -> Array2<f64> {
        numerics::reference::gemm::matmul(a, b).unwrap()
    }

    fn norm(x: &Array2<f64>, weight: &Array1<f64>, eps: f64) -> Array2<f64> {
        ffn::reference::rms_norm::forward(x, weight, eps).unwrap()
    }

    fn norm_backward(
        dout: &Array2<f64>,
        x: &Array2<f64>,
        weight: &Array1<f64>,
        eps: f64,
    ) -> (Array2<f64>, Array1<f64>) {
        ffn::reference::rms_norm::backward(dout, x, weight, eps).unwrap()
    }

    fn rotate(x: &ArrayRef4<f64>, rotation: &Rotation) -> Array4<f64> {
        let factor = rotation.frequencies.attention_factor;
        posenc::reference::rope::apply(x, &rotation.angles(), rotation.pairing, factor).unwrap()
    }

    fn rotate_back(dout: &ArrayRef4<f64>, rotation: &Rotation) -> Array4<f64> {
        let factor = rotation.frequencies.attention_factor;
        posenc::reference::rope::backward(dout, &rotation.angles(), rotation.pairing, factor)
            .unwrap()
    }

    fn latent(
        _: usize,
        (q, c, r, w): Latent<'_, f64>,
        config: &AttentionConfig,
    ) -> Result<Attended<f64>, AttentionError> {
        attention::reference::mla::forward(q, c, r, w, config)
    }

    fn latent_backward(
        _: usize,
        dout: &ArrayRef4<f64>,
        (q, c, r, w): Latent<'_, f64>,
        _: &Attended<f64>,
        config: &AttentionConfig,
    ) -> Result<mla::Gradients<f64>, AttentionError> {
        attention::reference::mla::backward(dout, q, c, r, w, config)
    }

    fn differential(
        (q, k, v, lambda): Pairs<'_, f64>,
        config: &AttentionConfig,
        dout: impl FnOnce(&Array4<f64>) -> Result<Array4<f64>, VectorError>,
    ) -> Result<differential::Gradients<f64>, VectorError> {
        use attention::reference::differential::{backward, forward};
        let out = forward(q, k, v, lambda, config).map_err(VectorError::op)?;
        backward(&dout(&out)?, q, k, v, lambda, config).map_err(VectorError::op)
    }

    fn lambda(
        q: [&ArrayRef1<f64>; 2],
        k: [&ArrayRef1<f64>; 2],
        lambda_init: f64,
    ) -> Result<f64, AttentionError> {
        attention::reference::differential::lambda(q, k, lambda_init)
    }

    fn lambda_backward(
        dlambda: f64,
        q: [&ArrayRef1<f64>; 2],
        k: [&ArrayRef1<f64>; 2],
    ) -> Result<differential::lambda::Gradients<f64>, AttentionError> {
        attention::reference::differential::lambda_backward(dlambda, q, k)
    }

    fn head_norm(
        x: &ArrayRef4<f64>,
        lambda_init: f64,
        eps: f64,
    ) -> Result<Array4<f64>, AttentionError> {
        attention::reference::differential::head_norm(x, lambda_init, eps)
    }

    fn head_norm_backward(
        dout: &ArrayRef4<f64>,
        x: &ArrayRef4<f64>,
        lambda_init: f64,
        eps: f64,
    ) -> Result<Array4<f64>, AttentionError> {
        attention::reference::differential::head_norm_backward(dout, x, lambda_init, eps)
    }
}

/// The fast path of all crates.
pub(super) struct Fast;

impl Blocks for Fast {
    type F = f32;
    const FORMS: usize = 2;

    fn input<D: Dimension>(case: &Case, name: &str) -> Result<Array<f32, D>, VectorError> {
        case.input_f32(name)
    }

    fn matmul(a: &ArrayRef2<f32>, b: &ArrayRef2<f32>) -> Array2<f32> {
        gemm::matmul(a, b).unwrap()
    }

    fn norm(x: &Array2<f32>, weight: &Array1<f32>, eps: f64) -> Array2<f32> {
        ffn::rms_norm::forward(x, weight, eps).unwrap()
    }

    fn norm_backward(
        dout: &Array2<f32>,
        x: &Array2<f32>,
        weight: &Array1<f32>,
        eps: f64,
    ) -> (Array2<f32>, Array1<f32>) {
        let (_, rstd) = ffn::rms_norm::forward_with_rstd(x, weight, eps).unwrap();
        ffn::rms_norm::backward(dout, x, weight, &rstd).unwrap()
    }

    fn rotate(x: &ArrayRef4<f32>, rotation: &Rotation) -> Array4<f32> {
        let table = rotation.frequencies.table_for_batch(&rotation.positions);
        rope::apply(x, &table.unwrap(), rotation.pairing).unwrap()
    }

    fn rotate_back(dout: &ArrayRef4<f32>, rotation: &Rotation) -> Array4<f32> {
        let table = rotation.frequencies.table_for_batch(&rotation.positions);
        rope::backward(dout, &table.unwrap(), rotation.pairing).unwrap()
    }

    fn latent(
        form: usize,
        (q, c, r, w): Latent<'_, f32>,
        config: &AttentionConfig,
    ) -> Result<Attended<f32>, AttentionError> {
        if form == 0 {
            mla::forward_naive(q, c, r, w, config)
        } else {
            mla::forward_absorbed(q, c, r, w, config)
        }
    }

    fn latent_backward(
        form: usize,
        dout: &ArrayRef4<f32>,
        (q, c, r, w): Latent<'_, f32>,
        (out, lse): &Attended<f32>,
        config: &AttentionConfig,
    ) -> Result<mla::Gradients<f32>, AttentionError> {
        if form == 0 {
            mla::backward_naive(dout, q, c, r, w, out, lse, config)
        } else {
            mla::backward_absorbed(dout, q, c, r, w, out, lse, config)
        }
    }

    fn differential(
        (q, k, v, lambda): Pairs<'_, f32>,
        config: &AttentionConfig,
        dout: impl FnOnce(&Array4<f32>) -> Result<Array4<f32>, VectorError>,
    ) -> Result<differential::Gradients<f32>, VectorError> {
        let (out, saved) =
            differential::forward_with_saved(q, k, v, lambda, config).map_err(VectorError::op)?;
        let dout = dout(&out)?;
        differential::backward(&dout, q, k, v, lambda, &saved, config).map_err(VectorError::op)
    }

    fn lambda(
        q: [&ArrayRef1<f32>; 2],
        k: [&ArrayRef1<f32>; 2],
        lambda_init: f64,
    ) -> Result<f32, AttentionError> {
        differential::lambda::forward(q, k, lambda_init)
    }

    fn lambda_backward(
        dlambda: f32,
        q: [&ArrayRef1<f32>; 2],
        k: [&ArrayRef1<f32>; 2],
    ) -> Result<differential::lambda::Gradients<f32>, AttentionError> {
        differential::lambda::backward(dlambda, q, k)
    }

    fn head_norm(
        x: &ArrayRef4<f32>,
        lambda_init: f64,
        eps: f64,
    ) -> Result<Array4<f32>, AttentionError> {
        differential::head_norm::forward(x, lambda_init, eps)
    }

    fn head_norm_backward(
        dout: &ArrayRef4<f32>,
        x: &ArrayRef4<f32>,
        lambda_init: f64,
        eps: f64,
    ) -> Result<Array4<f32>, AttentionError> {
        differential::head_norm::backward(dout, x, lambda_init, eps)
    }
}

/// Tokens one behind the other: `[batch, seq, features]` to `[batch * seq, features]`.
pub(super) fn tokens<F: Float>(x: &Array3<F>) -> Array2<F> {
    let (batch, seq, features) = x.dim();
    Array2::from_shape_fn((batch * seq, features), |(t, i)| x[[t / seq, t % seq, i]])
}

/// The way back from [`tokens`].
pub(super) fn sequences<F: Float>(x: &Array2<F>, batch: usize) -> Array3<F> {
    let (rows, features) = x.dim();
    let seq = rows / batch.max(1);
    Array3::from_shape_fn((batch, seq, features), |(b, t, i)| x[[b * seq + t, i]])
}

/// Heads of equal width: `[batch * seq, heads * width]` to `[batch, heads, seq, width]`.
pub(super) fn heads<F: Float>(x: &ArrayRef2<F>, batch: usize, heads: usize) -> Array4<F> {
    let (rows, features) = x.dim();
    let (seq, width) = (rows / batch.max(1), features / heads.max(1));
    Array4::from_shape_fn((batch, heads, seq, width), |(b, h, t, i)| {
        x[[b * seq + t, h * width + i]]
    })
}

/// The way back from [`heads`].
pub(super) fn side_by_side<F: Float>(x: &ArrayRef4<F>) -> Array2<F> {
    let (batch, heads, seq, width) = x.dim();
    Array2::from_shape_fn((batch * seq, heads * width), |(t, i)| {
        x[[t / seq, i / width, t % seq, i % width]]
    })
}

/// `x W^T`.
pub(super) fn linear<B: Blocks>(x: &Array2<B::F>, weight: &Array2<B::F>) -> Array2<B::F> {
    B::matmul(x, &weight.t())
}

/// The gradients of [`linear`]: for `x` and for the weight.
pub(super) fn linear_backward<B: Blocks>(
    dout: &Array2<B::F>,
    x: &Array2<B::F>,
    weight: &Array2<B::F>,
) -> (Array2<B::F>, Array2<B::F>) {
    (B::matmul(dout, weight), B::matmul(&dout.t(), x))
}

/// `in.positions`.
pub(super) fn positions(case: &Case) -> Result<Array2<usize>, VectorError> {
    let positions = case.input_i64::<llm_blocks::ndarray::Ix2>("positions")?;
    Ok(positions.mapv(|position| usize::try_from(position).unwrap()))
}
