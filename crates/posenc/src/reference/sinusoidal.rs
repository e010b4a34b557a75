//! Sinusoidal positions as the paper writes them: one feature at a time.

use ndarray::{Array1, Array2, ArrayRef1, ArrayRef2};

use crate::sinusoidal::{SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};

/// The encoding of each position.
///
/// ```text
/// PE(pos, 2i)   = sin(pos / 10000^(2i / d))
/// PE(pos, 2i+1) = cos(pos / 10000^(2i / d))
/// ```
///
/// with the base, exponent and layout of the config, which is taken as it is; nothing is checked.
///
/// # Shapes
///
/// - `positions`: `[seq]`
/// - returns: `[seq, d_model]`
///
/// Source: Vaswani et al., Attention Is All You Need, arXiv:1706.03762v7, section 3.5.
#[must_use]
// ANCHOR: formula
pub fn encode(positions: &ArrayRef1<usize>, config: &SinusoidalConfig) -> Array2<f64> {
    Array2::from_shape_fn((positions.len(), config.d_model), |(t, feature)| {
        if config.padding_idx == Some(positions[t]) {
            return 0.0;
        }
        let Some((i, is_cosine)) = place(feature, config) else {
            return 0.0;
        };
        let angle = positions[t] as f64 / wavelength(i, config);
        if is_cosine { angle.cos() } else { angle.sin() }
    })
}
// ANCHOR_END: formula

/// The rows of the positions `0 .. n_positions`.
///
/// # Shapes
///
/// - returns: `[n_positions, d_model]`
#[must_use]
pub fn table(n_positions: usize, config: &SinusoidalConfig) -> Array2<f64> {
    encode(&Array1::from_iter(0..n_positions), config)
}

/// `base^exponent` of frequency `i`: the wavelength over `2 pi`.
#[must_use]
pub fn wavelength(i: usize, config: &SinusoidalConfig) -> f64 {
    let (i, d) = (i as f64, config.d_model as f64);
    let exponent = match config.exponent {
        SinusoidalExponent::TwoIOverDim => 2.0 * i / d,
        SinusoidalExponent::IOverHalfDimMinusOne => i / ((d / 2.0).floor() - 1.0),
    };
    (config.base.ln() * exponent).exp()
}

/// The frequency of a feature, and whether it is its cosine; none for the zeros that fill up an odd `d_model`.
fn place(feature: usize, config: &SinusoidalConfig) -> Option<(usize, bool)> {
    let d = config.d_model;
    let n_sines = match config.exponent {
        SinusoidalExponent::TwoIOverDim => d - d / 2,
        SinusoidalExponent::IOverHalfDimMinusOne if feature == 2 * (d / 2) => return None,
        SinusoidalExponent::IOverHalfDimMinusOne => d / 2,
    };
    Some(match config.layout {
        SinusoidalLayout::Interleaved => (feature / 2, feature % 2 == 1),
        SinusoidalLayout::HalfSplit if feature < n_sines => (feature, false),
        SinusoidalLayout::HalfSplit => (feature - n_sines, true),
    })
}

/// `products[p, q] = sum over j of table[p, j] table[q, j]`.
///
/// # Shapes
///
/// - `table`: `[n_positions, d_model]`
/// - returns: `[n_positions, n_positions]`
#[must_use]
pub fn inner_products(table: &ArrayRef2<f64>) -> Array2<f64> {
    let (n, d_model) = table.dim();
    Array2::from_shape_fn((n, n), |(p, q)| {
        (0..d_model).map(|j| table[[p, j]] * table[[q, j]]).sum()
    })
}
