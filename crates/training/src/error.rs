//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// There is not one label per row of logits.
    #[error("labels must have shape {expected:?}, got {got:?}")]
    LabelsShape {
        /// The leading axes of the logits.
        expected: Vec<usize>,
        /// Shape of the labels that were passed.
        got: Vec<usize>,
    },
    /// A label that is not ignored is no index of the vocabulary.
    #[error("labels must be in 0..{vocab} or the ignored index, got {label} in row {row}")]
    LabelRange {
        /// Which row of logits, counted over all leading axes.
        row: usize,
        /// The label.
        label: i64,
        /// Columns of the logits.
        vocab: usize,
    },
    /// There is not one class weight per entry of the vocabulary.
    #[error("class weights must have length {expected} (vocab), got {got}")]
    WeightsLen {
        /// Columns of the logits.
        expected: usize,
        /// Length of the weights that were passed.
        got: usize,
    },
    /// There is not one upstream gradient per row of logits.
    #[error("dout must have length {expected} (tokens), got {got}")]
    DoutLen {
        /// Rows of the logits.
        expected: usize,
        /// Length of the gradient that was passed.
        got: usize,
    },
    /// The label smoothing is not a fraction.
    #[error("label_smoothing must be in 0..=1, got {0}")]
    LabelSmoothing(f64),
    /// The number of items to take the mean over is zero.
    #[error("the number of items to take the mean over must be >= 1, got 0")]
    ItemCount,
    /// An array of the optimizer does not have the shape of the parameter.
    #[error("{name} must have the shape of the parameter {expected:?}, got {got:?}")]
    StateShape {
        /// Which array: `grad`, `m`, `v` or `max_v`.
        name: &'static str,
        /// Shape of the parameter.
        expected: Vec<usize>,
        /// Shape of the array that was passed.
        got: Vec<usize>,
    },
    /// Steps are counted from 1.
    #[error("step must be >= 1, got 0")]
    Step,
    /// The learning rate is negative or not finite.
    #[error("lr must be finite and >= 0, got {0}")]
    LearningRate(f64),
    /// A decay rate of the moments is not in `[0, 1)`.
    #[error("{name} must be in 0..1, got {value}")]
    Beta {
        /// `beta1` or `beta2`.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// `eps` is negative or not finite.
    #[error("eps must be finite and >= 0, got {0}")]
    Eps(f64),
    /// The weight decay is negative or not finite.
    #[error("weight_decay must be finite and >= 0, got {0}")]
    WeightDecay(f64),
    /// The exponent of a norm is not a positive finite number.
    #[error("the exponent of a norm must be finite and > 0, got {0}")]
    NormExponent(f64),
    /// The largest norm is negative or NaN.
    #[error("max_norm must be >= 0, got {0}")]
    MaxNorm(f64),
    /// The largest value is negative or NaN.
    #[error("clip_value must be >= 0, got {0}")]
    ClipValue(f64),
    /// The gradients hold NaN or infinity.
    #[error("the norm of the gradients must be finite, got {0}")]
    NonFiniteNorm(f64),
}
