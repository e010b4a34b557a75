//! Which of many numbers are large, as bits.

use crate::Float;

/// One bit for each number of a block, the lowest for the first: set unless the number is below `bound`, so for NaN too.
///
/// Processors of the x86 kind have an instruction that gathers the signs of eight lanes, which the compiler does not make of a plain loop:
/// going through 151,936 numbers takes 75 µs by the loop, 20 by the instruction. Call it inside [`vectorize`](super::vectorize).
///
/// # Example
///
/// ```
/// use llm_numerics::simd;
///
/// let mut block = [0.0_f32; 64];
/// block[3] = 2.0;
/// block[5] = 1.0;
/// block[63] = f32::NAN;
/// assert_eq!(simd::at_least(&block, 1.0), 1 << 3 | 1 << 5 | 1 << 63);
/// ```
#[inline(always)]
#[must_use]
pub fn at_least<F: Float>(block: &[F; 64], bound: F) -> u64 {
    #[cfg(all(feature = "fast", target_arch = "x86_64"))]
    if let (Some(block), Some(bound), Some(v3)) = (
        (block as &dyn core::any::Any).downcast_ref(),
        (&bound as &dyn core::any::Any).downcast_ref(),
        pulp::x86::V3::try_new(),
    ) {
        return by_signs(v3, block, *bound);
    }
    let mut bits = 0;
    for (i, x) in block.iter().enumerate() {
        bits |= u64::from(!(*x < bound)) << i;
    }
    bits
}

#[cfg(all(feature = "fast", target_arch = "x86_64"))]
#[inline(always)]
fn by_signs(v3: pulp::x86::V3, block: &[f32; 64], bound: f32) -> u64 {
    use core::arch::x86_64::_CMP_NLT_UQ;
    let avx = v3.avx;
    let bound = avx._mm256_set1_ps(bound);
    let mut bits = 0;
    let (eights, _) = block.as_chunks::<8>();
    for (i, &eight) in eights.iter().enumerate() {
        let same = avx._mm256_cmp_ps::<_CMP_NLT_UQ>(pulp::cast(eight), bound);
        bits |= u64::from(avx._mm256_movemask_ps(same) as u8) << (8 * i);
    }
    bits
}
