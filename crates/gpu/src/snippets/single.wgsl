// single.wgsl: sums, products and quotients of positive f32, by their bits, as IEEE 754 rounds them.
//
// In integers: shaders may divide with an error, flush what is small, and fuse a product with a sum.

const INFINITY: u32 = 0x7f800000u;

// A number is mantissa * 2^exponent.
struct Single {
    exponent: i32,
    mantissa: u32,
}

fn single_parts(bits: u32) -> Single {
    let field = bits >> 23u;
    return Single(i32(max(field, 1u)) - 150, (bits & 0x7fffffu) | select(0u, 0x800000u, field > 0u));
}

// With 24 bits in the mantissa; `bits` must not be 0.
fn single_full(bits: u32) -> Single {
    let x = single_parts(bits);
    let shift = countLeadingZeros(x.mantissa) - 8u;
    return Single(x.exponent - i32(shift), x.mantissa << shift);
}

// The f32 that is nearest to mantissa * 2^exponent, of two equally near ones the even one. The lowest bit of a mantissa of more than 25 bits
// may stand for all that is below it.
fn single_rounded(exponent: i32, mantissa: u32) -> u32 {
    if (mantissa == 0u) {
        return 0u;
    }
    let power = exponent + 31 - i32(countLeadingZeros(mantissa)); // of the highest bit
    if (power > 127) {
        return INFINITY;
    }
    let shift = max(power, -126) - 23 - exponent; // bits that do not fit
    var kept = 0u;
    if (shift <= 0) {
        kept = mantissa << u32(-shift);
    } else if (shift < 32) {
        let rest = mantissa & ((1u << u32(shift)) - 1u);
        let half = 1u << u32(shift - 1);
        kept = mantissa >> u32(shift);
        kept += select(0u, 1u, rest > half || (rest == half && (kept & 1u) == 1u));
    } else if (shift == 32) {
        kept = select(0u, 1u, mantissa > 0x80000000u); // a half of the smallest number goes to zero
    }
    // A mantissa of 24 bits adds one to the exponent, as does one that was rounded up to 25.
    return kept + (u32(max(power, -126) + 126) << 23u);
}

fn single_sum(a: u32, b: u32) -> u32 {
    if (max(a, b) >= INFINITY) {
        return INFINITY;
    }
    let large = single_parts(max(a, b));
    let small = single_parts(min(a, b));
    // Seven bits more, of which the lowest says whether something was lost.
    let y = single_shifted(small.mantissa << 7u, u32(large.exponent - small.exponent));
    return single_rounded(large.exponent - 7, (large.mantissa << 7u) + y);
}

// |a - b|.
fn single_distance(a: u32, b: u32) -> u32 {
    if (max(a, b) >= INFINITY) {
        return INFINITY;
    }
    let large = single_parts(max(a, b));
    let small = single_parts(min(a, b));
    let y = single_shifted(small.mantissa << 7u, u32(large.exponent - small.exponent));
    return single_rounded(large.exponent - 7, (large.mantissa << 7u) - y);
}

// floor(x / 2^n), and the lowest bit is set if that was not all of it.
fn single_shifted(x: u32, n: u32) -> u32 {
    if (n >= 32u) {
        return select(0u, 1u, x != 0u);
    }
    let kept = x >> n;
    return kept | select(0u, 1u, (kept << n) != x);
}

// a * n for n below 256.
fn single_multiple(a: u32, n: u32) -> u32 {
    let x = single_parts(a);
    return single_rounded(x.exponent, x.mantissa * n);
}

fn single_square(a: u32) -> u32 {
    return single_product(a, a);
}

fn single_product(a: u32, b: u32) -> u32 {
    if (a == 0u || b == 0u) {
        return 0u;
    }
    if (max(a, b) >= INFINITY) {
        return INFINITY;
    }
    // 24 bits in each, so that no bit that counts is among the lowest.
    let x = single_full(a);
    let y = single_full(b);
    // 48 bits from halves of 12.
    let x_high = x.mantissa >> 12u;
    let x_low = x.mantissa & 0xfffu;
    let y_high = y.mantissa >> 12u;
    let y_low = y.mantissa & 0xfffu;
    let middle = x_high * y_low + x_low * y_high;
    let lower = ((middle & 0xfffu) << 12u) + x_low * y_low;
    let upper = x_high * y_high + (middle >> 12u) + (lower >> 24u);
    // The lowest 16 become one.
    let rest = select(0u, 1u, (lower & 0xffffu) != 0u);
    return single_rounded(x.exponent + y.exponent + 16, (upper << 8u) | ((lower >> 16u) & 0xffu) | rest);
}

// a / b for a finite b that is not 0.
fn single_quotient(a: u32, b: u32) -> u32 {
    if (a == 0u) {
        return 0u;
    }
    let x = single_full(a);
    let y = single_full(b);
    let quotient = single_ratio(x.mantissa, y.mantissa, u32(f32(x.mantissa) / f32(y.mantissa) * 67108864.0));
    return single_rounded(x.exponent - y.exponent - 27, quotient);
}

// numerator 2^27 / denominator for numbers of 24 bits, rounded down, and the lowest bit is set if that was not all of it. The estimate is half of
// that by the device's own division, which errs by some units in the last of its 24 bits: so what is left over fits into a word, whatever is
// carried out of it. That is divided again, and then it is a matter of ones.
fn single_ratio(numerator: u32, denominator: u32, estimate: u32) -> u32 {
    var quotient = estimate;
    var rest = bitcast<i32>((numerator << 26u) - quotient * denominator);
    let more = i32(f32(rest) / f32(denominator));
    quotient += bitcast<u32>(more);
    rest -= more * i32(denominator);
    for (var i = 0u; i < 3u && rest < 0; i++) {
        quotient -= 1u;
        rest += i32(denominator);
    }
    for (var i = 0u; i < 3u && rest >= i32(denominator); i++) {
        quotient += 1u;
        rest -= i32(denominator);
    }
    return (quotient << 1u) | select(0u, 1u, rest != 0);
}

// The integer that is nearest to a, of two equally near ones the even one, and at most `most`, below 2^7.
fn single_integer(a: u32, most: u32) -> u32 {
    if (a >= 0x43000000u) { // 128
        return most;
    }
    if (a < 0x3f000000u) { // 1/2
        return 0u;
    }
    let shift = 150u - (a >> 23u); // 17 to 24
    let mantissa = (a & 0x7fffffu) | 0x800000u;
    let rest = mantissa & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let kept = mantissa >> shift;
    return min(most, kept + select(0u, 1u, rest > half || (rest == half && (kept & 1u) == 1u)));
}
