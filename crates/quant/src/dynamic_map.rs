//! The dynamic 8-bit type: few digits for small numbers, more for large ones.

use crate::QuantError;

/// Whether a map has negative values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapSign {
    /// As many as positive ones.
    Signed,
    /// None: twice as many positive ones.
    Unsigned,
}

/// Settings of a dynamic map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DynamicMapConfig {
    /// Whether there are negative values.
    pub sign: MapSign,
    /// Bits of the exponent at most: so many decades; 7 unless set.
    pub max_exponent_bits: u32,
    /// Bits of a code; 8 unless set.
    pub total_bits: u32,
}

impl DynamicMapConfig {
    /// Eight bits, of which seven may be the exponent's: what bitsandbytes takes everywhere.
    #[must_use]
    pub const fn new(sign: MapSign) -> Self {
        Self {
            sign,
            max_exponent_bits: 7,
            total_bits: 8,
        }
    }

    /// Sets [`max_exponent_bits`](Self::max_exponent_bits).
    #[must_use]
    pub const fn with_max_exponent_bits(mut self, max_exponent_bits: u32) -> Self {
        self.max_exponent_bits = max_exponent_bits;
        self
    }

    /// Sets [`total_bits`](Self::total_bits).
    #[must_use]
    pub const fn with_total_bits(mut self, total_bits: u32) -> Self {
        self.total_bits = total_bits;
        self
    }
}

/// The values of a dynamic map, ascending; always 256, zeros filling up where a code has fewer bits.
///
/// A code is a sign, a run of zeros that counts decades, and a fraction in the bits that are left:
///
/// ```text
/// decade i of 0..E:  ± 10^(i + 1 - E) · f,  f the midpoints of 2^(i + B - 1 - E) equal parts of [0.1, 1]
/// and 0 and 1
/// ```
///
/// with `E = max_exponent_bits` and `B = total_bits`. Unsigned maps have twice as many parts and no negative values. Where
/// `E < B - 1`, the last decade gets `2^(B - 1 - E) - 1` parts more.
///
/// # Errors
///
/// [`QuantError::MapBits`] unless `2 <= B <= 8` and `1 <= E < B`; unsigned maps need `E = B - 1`.
///
/// # Precision
///
/// The `f32` values of bitsandbytes, bit for bit.
///
/// # Example
///
/// ```
/// use llm_quant::dynamic_map::{self, DynamicMapConfig, MapSign};
///
/// let code = dynamic_map::code(&DynamicMapConfig::new(MapSign::Signed))?;
/// assert_eq!((code.len(), code[127], code[255]), (256, 0.0, 1.0));
/// assert!((code[128] - 5.5e-7).abs() < 1e-13); // the middle of the lowest decade
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers 2015, arXiv:1511.04561v4 §2; bitsandbytes 0.50.2, `create_dynamic_map`.
pub fn code(config: &DynamicMapConfig) -> Result<Vec<f32>, QuantError> {
    let DynamicMapConfig {
        sign,
        max_exponent_bits,
        total_bits,
    } = *config;
    let fits = (2..=8).contains(&total_bits)
        && (1..total_bits).contains(&max_exponent_bits)
        && (sign == MapSign::Signed || max_exponent_bits == total_bits - 1);
    if !fits {
        return Err(QuantError::MapBits {
            sign,
            max_exponent_bits,
            total_bits,
        });
    }
    Ok(build(config))
}

/// The signed map with 7 exponent bits and 8 bits: what double quantization and 8-bit blocks use.
///
/// # Precision
///
/// That of [`code`].
///
/// # Example
///
/// ```
/// use llm_quant::dynamic_map::{self, DynamicMapConfig, MapSign};
///
/// let code = dynamic_map::code(&DynamicMapConfig::new(MapSign::Signed))?;
/// assert_eq!(code, dynamic_map::signed8());
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
#[must_use]
pub fn signed8() -> [f32; 256] {
    let values = build(&DynamicMapConfig::new(MapSign::Signed));
    core::array::from_fn(|i| values[i])
}

fn build(config: &DynamicMapConfig) -> Vec<f32> {
    let DynamicMapConfig {
        sign,
        max_exponent_bits,
        total_bits,
    } = *config;
    let is_signed = sign == MapSign::Signed;
    let spare = total_bits - 1 - max_exponent_bits;
    let mut values = vec![0.0, 1.0];
    let mut decade = |exponent: u32, n_parts: usize| {
        let factor = 10_f64.powi(exponent as i32 + 1 - max_exponent_bits as i32) as f32;
        for part in 0..n_parts {
            let middle = (edge(part, n_parts) + edge(part + 1, n_parts)) / 2.0;
            values.push(factor * middle);
            if is_signed {
                values.push(-factor * middle);
            }
        }
    };
    for i in 0..max_exponent_bits {
        decade(i, 1 << (i + spare + u32::from(!is_signed)));
    }
    decade(max_exponent_bits - 1, (1 << spare) - 1);
    values.resize(256, 0.0);
    values.sort_by(f32::total_cmp);
    values
}

/// Edge `i` of `n_parts` equal parts of `[0.1, 1]`, each half counted from its own end; one rounding.
fn edge(i: usize, n_parts: usize) -> f32 {
    let width = f64::from((1.0 - 0.1_f32) / n_parts as f32);
    if i < n_parts.div_ceil(2) {
        (f64::from(0.1_f32) + width * i as f64) as f32
    } else {
        (1.0 - width * (n_parts - i) as f64) as f32
    }
}
