// gumbel.wgsl: Gumbel noise from the bits of a uniform number, in integers (a snippet, prepended to kernels; needs weight.wgsl).
//
// Right to 2^-27; compared in tests/it/gpu/noise.rs

// The units of scores are 2^-32, and scores are shifted by so much that none is negative.
const SCORE_SHIFT: u32 = 64u;

// m 2^exponent, where the highest bit of m is set.
struct Scaled {
    m: u32,
    exponent: i32,
}

fn scaled(m: vec2<u32>, exponent: i32) -> Scaled {
    let zeros = wide_leading_zeros(m);
    return Scaled(wide_left(m, zeros).y, exponent + 32 - i32(zeros));
}

// -ln u for u = k 2^-53; for k = 0 it is 2^-54.
fn minus_ln(k: vec2<u32>) -> Scaled {
    if (k.y < 0x100000u) { // u < 1/2
        let is_zero = wide_is_zero(k);
        let x = select(k, vec2<u32>(1u, 0u), is_zero);
        let zeros = wide_leading_zeros(x);
        // u = v 2^(10 - zeros), 1 <= v < 2
        let whole = wide_product(zeros - 10u + select(0u, 1u, is_zero), LN_2);
        return scaled(wide_sub(whole, vec2<u32>(ln_of_mantissa(wide_left(x, zeros).y), 0u)), -32);
    }
    // v = 1 - u = j 2^-53 is exact: -ln(1 - v) = 2 atanh s, s = v / (2 - v). So tiny ones have all their digits.
    let j = wide_sub(vec2<u32>(0u, 0x200000u), k);
    let zeros = wide_leading_zeros(j);
    let top = wide_left(j, zeros).y;
    let divisor = 0x80000000u - wide_right(j, 23u).x;        // units of 2^-30
    let s = fraction_of(top >> 2u, divisor);                 // units of 2^-(21 + zeros)
    let short = wide_right(vec2<u32>(s, 0u), zeros - 11u).x; // units of 2^-32; shifts of words go up to 31 only
    let sum = s + high_product(s, atanh_rest(high_product(short, short)));
    return scaled(vec2<u32>(sum, 0u), -20 - i32(zeros));
}

// -ln(-ln u) + SCORE_SHIFT in units of 2^-32, for the 64 random bits of which the upper 53 are u.
fn gumbel_noise(bits: vec2<u32>) -> vec2<u32> {
    let x = minus_ln(wide_right(bits, 11u));
    // x = v 2^power, 1 <= v < 2
    let power = x.exponent + 31;
    let whole = wide_product(u32(abs(power)), LN_2);
    let shift = vec2<u32>(0u, SCORE_SHIFT);
    let shifted = select(wide_add(shift, whole), wide_sub(shift, whole), vec2<bool>(power > 0));
    return wide_sub(shifted, vec2<u32>(ln_of_mantissa(x.m), 0u));
}
