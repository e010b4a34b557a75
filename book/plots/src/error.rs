//! What can go wrong when a figure is drawn.

use llm_kvcache::KvCacheError;
use llm_posenc::PosencError;
use llm_quant::QuantError;
use llm_sampling::SamplingError;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The function that gives the data refused its settings.
    #[error(transparent)]
    Posenc(#[from] PosencError),
    /// The same for a function that draws tokens.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The same for a cache of keys and values.
    #[error(transparent)]
    KvCache(#[from] KvCacheError),
    /// The same for quantized weights.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// A value has no place on an axis.
    #[error("{what} must be finite to be drawn, got {got}")]
    NotFinite {
        /// Which value.
        what: &'static str,
        /// What it is.
        got: f64,
    },
    /// A PNG of that width is none, or too big.
    #[error("width must be in {least}..={most} pixels, got {got}")]
    Width {
        /// The narrowest.
        least: u32,
        /// The widest.
        most: u32,
        /// What was asked for.
        got: u32,
    },
    /// The pixels cannot be packed as PNG.
    #[error("cannot encode the picture as PNG: {0}")]
    Encode(#[from] png::EncodingError),
    /// The SVG cannot be turned into pixels.
    #[error("cannot draw the picture: {0}")]
    Raster(String),
}

/// Passes finite numbers on.
pub(crate) fn finite(value: f64, what: &'static str) -> Result<f64, PlotError> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(PlotError::NotFinite { what, got: value })
    }
}
