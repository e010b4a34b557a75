//! Floating point with four bits: a sign, two bits of exponent, one bit of mantissa.

/// The sixteen values of FP4 by bit pattern `s ee m`, the largest scaled to 1.
///
/// ```text
/// ee = 0:  ± m / 16 / 12
/// else:    ± 2^(4 - ee) (1 + m / 2) / 12
/// ```
///
/// The exponent counts backwards: `01` is the largest. Pattern 8 is a zero with a sign.
///
/// # Precision
///
/// One division in `f32`; the bits of the table that bitsandbytes computes with (it has another, rounded to four decimals).
///
/// # Example
///
/// ```
/// let code = llm_quant::fp4::code();
/// assert_eq!(code[..4], [0.0, 0.0625 / 12.0, 8.0 / 12.0, 1.0]);
/// assert_eq!(code[15], -0.25);
/// assert!(code[8] == 0.0 && code[8].is_sign_negative());
/// ```
///
/// # References
///
/// bitsandbytes 0.50.2, `get_4bit_type("fp4")`.
#[must_use]
pub fn code() -> [f32; 16] {
    core::array::from_fn(|bits| {
        let (exponent, mantissa) = (bits >> 1 & 3, (bits & 1) as f32);
        let magnitude = match exponent {
            0 => mantissa / 16.0,
            _ => (1 << (4 - exponent)) as f32 * (1.0 + mantissa / 2.0),
        };
        let value = magnitude / 12.0;
        if bits & 8 == 0 { value } else { -value }
    })
}
