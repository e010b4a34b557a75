// weight.wgsl: exponentials and logarithms in integers (a snippet, prepended to kernels; needs wide.wgsl and real.wgsl).
//
// The same bits on every device. Sums of such weights do not depend on the order.

// Bits behind the point of a weight; a row of 2^20 of them does not overflow. `WEIGHT_BITS` on the host.
const WEIGHT_BITS: u32 = 43u;
// ln 2 in units of 2^-32.
const LN_2: u32 = 2977044472u;

// 2^-fraction for a fraction of 2^32, in units of 2^-31: the Taylor series of degree 11. Its terms are ln(2)^k / k! in units of 2^-32.
fn power_of_half(fraction: u32) -> u32 {
    var sum = 30u - high_product(fraction, 2u);
    sum = 437u - high_product(fraction, sum);
    sum = 5676u - high_product(fraction, sum);
    sum = 65510u - high_product(fraction, sum);
    sum = 661577u - high_product(fraction, sum);
    sum = 5726720u - high_product(fraction, sum);
    sum = 41309550u - high_product(fraction, sum);
    sum = 238388332u - high_product(fraction, sum);
    sum = 1031764991u - high_product(fraction, sum);
    sum = LN_2 - high_product(fraction, sum);
    return 0x80000000u - (high_product(fraction, sum) >> 1u);
}

// e^-depth for a depth of 0 or more, in units of 2^-WEIGHT_BITS; 0 from 31 on (they are rounded, so one unit goes up to 44 ln 2, about 30.5).
fn weight_of_depth(depth: Real) -> vec2<u32> {
    if (real_is_zero(depth)) {
        return vec2<u32>(0u, 1u << (WEIGHT_BITS - 32u));
    }
    if (depth.exponent + 52 >= 5) {
        return vec2<u32>(0u, 0u);
    }
    // Units of 2^-57.
    let shift = depth.exponent + 57;
    let fixed = select(wide_right(depth.mantissa, u32(max(-shift, 0))), wide_left(depth.mantissa, u32(max(shift, 0))), shift >= 0);
    // Times log2 e, which is 3098164009 / 2^31: units of 2^-56.
    let log2_e = 3098164009u;
    let y = wide_add(wide_product(fixed.y, log2_e), vec2<u32>(wide_product(fixed.x, log2_e).y, 0u));
    let whole = y.y >> 24u;
    let fraction = (y.y << 8u) | (y.x >> 24u);
    let weight = wide_left(vec2<u32>(power_of_half(fraction), 0u), WEIGHT_BITS - 31u);
    if (whole == 0u) {
        return weight;
    }
    let half = wide_left(vec2<u32>(1u, 0u), whole - 1u);
    return wide_right(wide_add(weight, half), whole);
}

// The weight of a logit beside the largest one, which is finite.
fn weight_of_logit(bits: u32, largest: Real) -> vec2<u32> {
    if (bits == 0xff800000u) {
        return vec2<u32>(0u, 0u);
    }
    return weight_of_depth(real_sub(largest, real_of_f32(bits)));
}

// floor(a 2^32 / b) for a < b.
fn fraction_of(a: u32, b: u32) -> u32 {
    var rest = a;
    var quotient = 0u;
    for (var i = 0u; i < 32u; i++) {
        let carry = rest >> 31u;
        rest <<= 1u;
        quotient <<= 1u;
        if (carry == 1u || rest >= b) {
            rest -= b;
            quotient |= 1u;
        }
    }
    return quotient;
}

// s^2 / 3 + s^4 / 5 + ... + s^20 / 21 for s^2 up to 1/9, both in units of 2^-32: atanh(s) / s - 1.
fn atanh_rest(square: u32) -> u32 {
    var sum = 226050910u + high_product(square, 204522252u);
    sum = 252645135u + high_product(square, sum);
    sum = 286331153u + high_product(square, sum);
    sum = 330382100u + high_product(square, sum);
    sum = 390451572u + high_product(square, sum);
    sum = 477218588u + high_product(square, sum);
    sum = 613566757u + high_product(square, sum);
    sum = 858993459u + high_product(square, sum);
    sum = 1431655765u + high_product(square, sum);
    return high_product(square, sum);
}

// ln(m / 2^31) for m from 2^31, in units of 2^-32.
fn ln_of_mantissa(m: u32) -> u32 {
    // v = m / 2^31: ln v = 2 atanh s, s = (v - 1) / (v + 1)
    let twice = fraction_of(m - 0x80000000u, (m >> 1u) + 0x40000000u);
    return twice + high_product(twice, atanh_rest(high_product(twice, twice) >> 2u));
}

// ln of a sum of weights, one of which is 1; in units of 2^-32.
fn ln_of_weights(total: vec2<u32>) -> vec2<u32> {
    let zeros = wide_leading_zeros(total);
    let mantissa = wide_left(total, zeros).y;
    return wide_add(wide_product(63u - WEIGHT_BITS - zeros, LN_2), vec2<u32>(ln_of_mantissa(mantissa), 0u));
}

// x - max - ln total as the bits of f32, from ln total in units of 2^-32; -inf stays.
fn log_probability_bits(bits: u32, largest: Real, logarithm: vec2<u32>) -> u32 {
    if (bits == 0xff800000u) {
        return bits;
    }
    let shifted = real_sub(real_of_f32(bits), largest);
    return real_to_f32(real_sub(shifted, real_rounded(0u, -32, logarithm)));
}
