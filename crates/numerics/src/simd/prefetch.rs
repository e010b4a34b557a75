//! A hint to the processor to fetch memory that will be read soon.
//!
//! The instruction reads nothing that a program could see and cannot fault; it is `unsafe` only because it takes a raw
//! pointer. The pointers here come from a slice that is alive.
#![allow(unsafe_code, reason = "the instruction takes a raw pointer")]

/// Bytes that come from memory together.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for a slice, except perhaps its last line where it does not start with one. Does nothing on
/// processors that this has no instruction for.
///
/// Loops that compute on what they read keep too few reads under way to use all of the bandwidth; asking some
/// KiB ahead does. It changes no result.
///
/// # Example
///
/// ```
/// let x = vec![1.0_f32; 1024];
/// llm_numerics::simd::prefetch(&x[512..]);
/// ```
#[inline(always)]
pub fn prefetch<T>(x: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = x.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(x)).step_by(LINE) {
            // SAFETY: a hint; the address lies inside the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = x;
    }
}
