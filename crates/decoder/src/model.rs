//! A model: its configuration and its weights.

use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;

use crate::{DecoderConfig, DecoderError, Params};

/// A decoder-only language model: configuration and weights.
///
/// Invariant: every tensor has the shape that the configuration asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoder<F> {
    pub(crate) config: DecoderConfig,
    pub(crate) params: Params<F>,
}

impl<F: Float> Decoder<F> {
    /// Puts weights to a configuration.
    ///
    /// # Errors
    ///
    /// - [`DecoderError::Config`] if the sizes do not fit together.
    /// - [`DecoderError::TensorShape`] or [`DecoderError::MissingTensor`] if the weights
    ///   do not fit the configuration.
    pub fn new(config: DecoderConfig, params: Params<F>) -> Result<Self, DecoderError> {
        config.check()?;
        check_params(&config, &params)?;
        Ok(Self { config, params })
    }

    /// A model with random weights, see [`Params::random`].
    ///
    /// # Errors
    ///
    /// [`DecoderError::Config`] if the sizes do not fit together.
    pub fn random(
        config: DecoderConfig,
        std: f64,
        random: &Philox4x32,
    ) -> Result<Self, DecoderError> {
        config.check()?;
        let params = Params::random(&config, std, random);
        Ok(Self { config, params })
    }

    /// Sizes and settings.
    #[must_use]
    pub const fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The weights.
    #[must_use]
    pub const fn params(&self) -> &Params<F> {
        &self.params
    }

    /// The weights, to train them. Their shapes must stay as they are, or later calls fail.
    pub const fn params_mut(&mut self) -> &mut Params<F> {
        &mut self.params
    }

    /// Takes the model apart.
    #[must_use]
    pub fn into_parts(self) -> (DecoderConfig, Params<F>) {
        (self.config, self.params)
    }
}

/// Refuses weights, or gradients, whose tensors are not those of the configuration.
pub(crate) fn check_params<F: Float>(
    config: &DecoderConfig,
    params: &Params<F>,
) -> Result<(), DecoderError> {
    let expected = crate::checkpoint::layout(config);
    let tensors = params.tensors();
    if tensors.len() != expected.len() {
        return Err(DecoderError::Shape {
            what: "the list of tensors",
            expected: vec![expected.len()],
            got: vec![tensors.len()],
        });
    }
    for ((name, tensor), (expected_name, shape)) in tensors.iter().zip(&expected) {
        if name != expected_name {
            return Err(DecoderError::MissingTensor(expected_name.clone()));
        }
        if tensor.shape() != shape.as_slice() {
            return Err(DecoderError::TensorShape {
                name: name.clone(),
                expected: shape.clone(),
                got: tensor.shape().to_vec(),
            });
        }
    }
    Ok(())
}
