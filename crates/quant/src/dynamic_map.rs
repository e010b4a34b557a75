//! The dynamic 8-bit type: few digits for small numbers, more for large ones.

use crate::QuantError;

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
/// let code = llm_quant::dynamic_map::code(true, 7, 8)?;
/// assert_eq!((code.len(), code[127], code[255]), (256, 0.0, 1.0));
/// assert!((code[128] - 5.5e-7).abs() < 1e-13); // the middle of the lowest decade
/// # Ok::<(), llm_quant::QuantError>(())
/// ```
///
/// # References
///
/// Dettmers 2015, arXiv:1511.04561v4 §2; bitsandbytes 0.50.2, `create_dynamic_map`.
pub fn code(signed: bool, max_exponent_bits: u32, total_bits: u32) -> Result<Vec<f32>, QuantError> {
    let fits = (2..=8).contains(&total_bits)
        && (1..total_bits).contains(&max_exponent_bits)
        && (signed || max_exponent_bits == total_bits - 1);
    if !fits {
        return Err(QuantError::MapBits {
            signed,
            max_exponent_bits,
            total_bits,
        });
    }
    Ok(build(signed, max_exponent_bits, total_bits))
}

/// The signed map with 7 exponent bits and 8 bits: what double quantization and 8-bit blocks use.
#[must_use]
pub fn signed8() -> [f32; 256] {
    let values = build(true, 7, 8);
    core::array::from_fn(|i| values[i])
}

fn build(signed: bool, max_exponent_bits: u32, total_bits: u32) -> Vec<f32> {
    let spare = total_bits - 1 - max_exponent_bits;
    let mut values = vec![0.0, 1.0];
    let mut decade = |exponent: u32, n_parts: usize| {
        let factor = 10_f64.powi(exponent as i32 + 1 - max_exponent_bits as i32) as f32;
        for part in 0..n_parts {
            let middle = (edge(part, n_parts) + edge(part + 1, n_parts)) / 2.0;
            values.push(factor * middle);
            if signed {
                values.push(-factor * middle);
            }
        }
    };
    for i in 0..max_exponent_bits {
        decade(i, 1 << (i + spare + u32::from(!signed)));
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
