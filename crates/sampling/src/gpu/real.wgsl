// real.wgsl: numbers with the 53 bits of f64, in integers (a snippet, prepended to kernels; needs wide.wgsl).
//
// Each operation rounds once, to the nearest, of two equally near ones to the even one: the bits are those of f64 on the CPU, on every
// device, for numbers that compilers would flush or assume away too. Exponents have no bounds here; where f64 overflows is told apart.

// (-1)^sign * mantissa * 2^exponent; the mantissa is 0 or in 2^52..2^53.
struct Real {
    sign: u32, // 0 or 1
    exponent: i32,
    mantissa: vec2<u32>,
}

fn real_zero(sign: u32) -> Real {
    return Real(sign, 0, vec2<u32>(0u, 0u));
}

fn real_is_zero(a: Real) -> bool {
    return wide_is_zero(a.mantissa);
}

fn real_negative(a: Real) -> Real {
    return Real(1u - a.sign, a.exponent, a.mantissa);
}

// As the host packs it: sign, exponent, mantissa.
fn real_of_words(words: vec4<u32>) -> Real {
    return Real(words.x, bitcast<i32>(words.y), words.zw);
}

// (-1)^sign * mantissa * 2^exponent, rounded to 53 bits. Where bits are lost before, the lowest bit must be set.
fn real_rounded(sign: u32, exponent: i32, mantissa: vec2<u32>) -> Real {
    if (wide_is_zero(mantissa)) {
        return real_zero(sign);
    }
    let zeros = wide_leading_zeros(mantissa);
    if (zeros >= 11u) {
        return Real(sign, exponent - i32(zeros - 11u), wide_left(mantissa, zeros - 11u));
    }
    let n = 11u - zeros;
    var kept = wide_right(mantissa, n);
    let rest = mantissa.x & ((1u << n) - 1u);
    let half = 1u << (n - 1u);
    var e = exponent + i32(n);
    if (rest > half || (rest == half && (kept.x & 1u) == 1u)) {
        kept = wide_add(kept, vec2<u32>(1u, 0u));
        if (kept.y == 0x200000u) { // 2^53
            kept = vec2<u32>(0u, 0x100000u);
            e += 1;
        }
    }
    return Real(sign, e, kept);
}

// Exact. The bits must not be those of an infinity or of a NaN.
fn real_of_f32(bits: u32) -> Real {
    let field = (bits >> 23u) & 0xffu;
    let fraction = bits & 0x7fffffu;
    let mantissa = select(fraction, fraction | 0x800000u, field > 0u);
    let exponent = select(-149, i32(field) - 150, field > 0u);
    return real_rounded(bits >> 31u, exponent, vec2<u32>(mantissa, 0u));
}

fn real_of_u32(n: u32) -> Real {
    return real_rounded(0u, 0, vec2<u32>(n, 0u));
}

// The f32 that is nearest, as bits; infinity where it is too large.
fn real_to_f32(a: Real) -> u32 {
    let sign = a.sign << 31u;
    if (real_is_zero(a)) {
        return sign;
    }
    let power = a.exponent + 52; // of the highest bit
    if (power > 127) {
        return sign | 0x7f800000u;
    }
    if (power < -150) { // less than half the smallest f32
        return sign;
    }
    let n = 29u + u32(max(-126 - power, 0));
    var kept = wide_right(a.mantissa, n).x;
    let rest = wide_sub(a.mantissa, wide_left(vec2<u32>(kept, 0u), n));
    let half = wide_left(vec2<u32>(1u, 0u), n - 1u);
    if (wide_less(half, rest) || (!wide_less(rest, half) && (kept & 1u) == 1u)) {
        kept += 1u;
    }
    // A mantissa of 24 bits adds one to the exponent, as does one that was rounded up to 25.
    return sign | (kept + (u32(max(power, -126) + 126) << 23u));
}

// True where f64 is infinite.
fn real_overflows(a: Real) -> bool {
    return !real_is_zero(a) && a.exponent + 52 > 1023;
}

// The f32 that is nearest; where f64 is finite, the largest number at most: `limited` of the CPU.
fn real_to_limited_f32(a: Real) -> u32 {
    let bits = real_to_f32(a);
    if ((bits & 0x7fffffffu) == 0x7f800000u && !real_overflows(a)) {
        return (bits & 0x80000000u) | 0x7f7fffffu;
    }
    return bits;
}

fn real_add(a: Real, b: Real) -> Real {
    if (real_is_zero(a) && real_is_zero(b)) {
        return real_zero(a.sign & b.sign);
    }
    if (real_is_zero(a)) {
        return b;
    }
    if (real_is_zero(b)) {
        return a;
    }
    var large = a;
    var small = b;
    if (a.exponent < b.exponent || (a.exponent == b.exponent && wide_less(a.mantissa, b.mantissa))) {
        large = b;
        small = a;
    }
    // Ten bits more, of which the lowest says whether something was lost.
    let gap = u32(min(large.exponent - small.exponent, 64));
    let x = wide_left(large.mantissa, 10u);
    let y = wide_right_jam(wide_left(small.mantissa, 10u), gap);
    if (large.sign == small.sign) {
        return real_rounded(large.sign, large.exponent - 10, wide_add(x, y));
    }
    let difference = wide_sub(x, y);
    return real_rounded(select(large.sign, 0u, wide_is_zero(difference)), large.exponent - 10, difference);
}

fn real_sub(a: Real, b: Real) -> Real {
    return real_add(a, real_negative(b));
}

// a * b, where the mantissa of b has at most 32 bits that are not 0: an f32, or a u32.
fn real_scale(a: Real, b: Real) -> Real {
    let sign = a.sign ^ b.sign;
    if (real_is_zero(a) || real_is_zero(b)) {
        return real_zero(sign);
    }
    let wide = wide_left(a.mantissa, 11u);
    let short = wide_left(b.mantissa, 11u).y;
    let low = wide_product(wide.x, short);
    let upper = wide_add(wide_product(wide.y, short), vec2<u32>(low.y, 0u));
    let jammed = vec2<u32>(upper.x | select(0u, 1u, low.x != 0u), upper.y);
    // a = wide 2^-11, b = short 2^32 2^-11, the product = upper 2^32
    return real_rounded(sign, a.exponent + b.exponent - 22 + 64, jammed);
}

// a / b for b that is not 0, by long division.
fn real_div(a: Real, b: Real) -> Real {
    let sign = a.sign ^ b.sign;
    if (real_is_zero(a)) {
        return real_zero(sign);
    }
    var rest = a.mantissa;
    var quotient = vec2<u32>(0u, 0u);
    for (var i = 0u; i < 56u; i++) {
        quotient = wide_left(quotient, 1u);
        if (!wide_less(rest, b.mantissa)) {
            rest = wide_sub(rest, b.mantissa);
            quotient.x |= 1u;
        }
        rest = wide_left(rest, 1u);
    }
    quotient.x |= select(1u, 0u, wide_is_zero(rest));
    return real_rounded(sign, a.exponent - b.exponent - 55, quotient);
}

// True if a < b. A difference has the right sign, however it is rounded.
fn real_less(a: Real, b: Real) -> bool {
    let difference = real_sub(a, b);
    return difference.sign == 1u && !real_is_zero(difference);
}
