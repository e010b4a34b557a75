// beam.wgsl: sums of beams with one more token, in f64, and their order (a snippet, prepended to kernels; needs real.wgsl and radix.wgsl).

// The bits of a f64, for a number that is a sum of two: exact. It must not overflow, as the sum with an f32 does not: that is less than half a
// unit in the last place of the largest f64.
fn real_to_f64(a: Real) -> vec2<u32> {
    let sign = vec2<u32>(0u, a.sign << 31u);
    if (real_is_zero(a)) {
        return sign;
    }
    let power = a.exponent + 52;
    if (power < -1022) {
        return sign | wide_right(a.mantissa, u32(-1074 - a.exponent));
    }
    // The highest bit of the mantissa adds one to the exponent.
    return sign | wide_add(a.mantissa, vec2<u32>(0u, u32(power + 1022) << 20u));
}

// The larger the f64, the larger its key; both zeros have one. 0 is the key of no f64.
fn key_of_wide_bits(bits: vec2<u32>) -> vec2<u32> {
    if (wide_is_zero(bits) || (bits.x == 0u && bits.y == 0x80000000u)) {
        return vec2<u32>(0u, 0x80000000u);
    }
    if ((bits.y >> 31u) == 1u) {
        return ~bits;
    }
    return bits | vec2<u32>(0u, 0x80000000u);
}

fn wide_bits_of_key(key: vec2<u32>) -> vec2<u32> {
    if ((key.y >> 31u) == 1u) {
        return key & vec2<u32>(0xffffffffu, 0x7fffffffu);
    }
    return ~key;
}

// The key of the sum of a beam and a log-probability; 0 if one of them is -inf.
fn key_of_sum(beam: vec4<u32>, bits: u32) -> vec2<u32> {
    if (bits == MASKED || beam.x == NO_BEAM) {
        return vec2<u32>(0u, 0u);
    }
    return key_of_wide_bits(real_to_f64(real_add(real_of_words(beam), real_of_f32(bits))));
}

// In place of the sign of a beam that does not go on.
const NO_BEAM: u32 = 2u;
// Number of candidates in the list.
const LISTED: u32 = 12u;
