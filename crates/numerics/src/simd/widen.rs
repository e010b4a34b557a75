//! Half precision as single precision, and back.
//!
//! Processors of the x86 kind have instructions for it that the compiler does not make of a plain loop. The crate `half` uses it too, but
//! asks the processor anew for every few elements: 43 ns for a row of 128, where this takes 12, and reading it from memory 15. The
//! instruction is `unsafe` to call on a processor without it, and its loads and stores take raw pointers; those here come from arrays of
//! eight elements, and the processor is asked first.
#![allow(unsafe_code, reason = "the instruction needs a processor that has it")]

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::Storage;

/// Widens a slice, exactly; of slices of different lengths the leading elements that both have.
///
/// A NaN stays one.
///
/// # Example
///
/// ```
/// use llm_numerics::half::f16;
/// use llm_numerics::simd;
///
/// let mut wide = [0.0; 3];
/// simd::widen_f16(&[1.5, -2.0, 65504.0].map(f16::from_f32), &mut wide);
/// assert_eq!(wide, [1.5, -2.0, 65504.0]);
/// ```
#[inline]
pub fn widen_f16(from: &[f16], to: &mut [f32]) {
    let n = from.len().min(to.len());
    let (from, to) = (&from[..n], &mut to[..n]);
    #[cfg(all(feature = "fast", target_arch = "x86_64"))]
    if is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has the instructions.
        unsafe { by_f16c(from, to) };
        return;
    }
    from.convert_to_f32_slice(to);
}

/// Rounds a slice to nearest, ties to even; of slices of different lengths the leading elements that both have.
///
/// # Example
///
/// ```
/// use llm_numerics::half::f16;
/// use llm_numerics::simd;
///
/// let mut narrow = [f16::ZERO; 3];
/// simd::narrow(&[1.5, 2049.0, 1e6], &mut narrow); // from 2048 on f16 has even numbers only
/// assert_eq!(narrow, [f16::from_f32(1.5), f16::from_f32(2048.0), f16::INFINITY]);
/// ```
#[inline(always)]
pub fn narrow<S: Storage>(from: &[f32], to: &mut [S]) {
    let n = from.len().min(to.len());
    let (from, to) = (&from[..n], &mut to[..n]);
    #[cfg(all(feature = "fast", target_arch = "x86_64"))]
    if core::any::TypeId::of::<S>() == core::any::TypeId::of::<f16>()
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("f16c")
    {
        let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
        for (from, to) in from.iter().zip(to) {
            if let Some(to) = (to as &mut dyn core::any::Any).downcast_mut() {
                // SAFETY: the processor has the instructions.
                unsafe { eight_by_f16c(from, to) };
            }
        }
        for (&from, to) in from_rest.iter().zip(to_rest) {
            *to = S::from_f32(from);
        }
        return;
    }
    for (&from, to) in from.iter().zip(to) {
        *to = S::from_f32(from);
    }
}

#[cfg(all(feature = "fast", target_arch = "x86_64"))]
#[inline]
#[target_feature(enable = "avx,f16c")]
fn eight_by_f16c(from: &[f32; 8], to: &mut [f16; 8]) {
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps,
    };
    // SAFETY: reads the 32 bytes and writes the 16 bytes of two arrays of 8, at any address.
    unsafe {
        let narrow = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
        _mm_storeu_si128(to.as_mut_ptr().cast(), narrow);
    }
}

/// Slices of the same length.
#[cfg(all(feature = "fast", target_arch = "x86_64"))]
#[target_feature(enable = "avx,f16c")]
fn by_f16c(from: &[f16], to: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let (from, from_rest) = from.as_chunks::<8>();
    let (to, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: reads the 16 bytes and writes the 32 bytes of two arrays of 8, at any address.
        unsafe {
            let narrow = _mm_loadu_si128(from.as_ptr().cast());
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(narrow));
        }
    }
    for (from, to) in from_rest.iter().zip(to_rest) {
        *to = from.to_f32();
    }
}
