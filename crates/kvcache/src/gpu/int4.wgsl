// int4.wgsl: step, least value and codes of a token and head of an int4 page (a snippet, prepended to kernels).

// The larger the number, the larger its key. Both zeros have one.
fn int4_key(bits: u32) -> u32 {
    let x = select(bits, 0u, bits == 0x80000000u);
    return select(x | 0x80000000u, ~x, (x >> 31u) == 1u);
}

fn int4_bits_of_key(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u);
}

// a + b for finite numbers of any sign.
fn int4_sum(a: u32, b: u32) -> u32 {
    let x = a & 0x7fffffffu;
    let y = b & 0x7fffffffu;
    if (((a ^ b) >> 31u) == 0u) {
        return (a & 0x80000000u) | single_sum(x, y);
    }
    if (x == y) {
        return 0u;
    }
    return (select(b, a, x > y) & 0x80000000u) | single_distance(x, y);
}

// The largest f16 that is not above a number of at most 65504 in absolute value.
fn int4_least(bits: u32) -> u32 {
    let near = f16_bits(bits);
    if (int4_key(f16_widened(near)) <= int4_key(bits)) {
        return near; // never the zero with a sign: its key is that of 0, above those of negative numbers
    }
    if ((near & 0x7fffu) == 0u) {
        return 0x8001u;
    }
    return select(near - 1u, near + 1u, near >= 0x8000u);
}

// The f16 that is the step: the smallest that is not below (most - least) / 15, as f64 rounds the difference and the quotient.
fn int4_step(most: u32, least: u32) -> u32 {
    let low = f16_widened(least);
    if (int4_key(most) == int4_key(low)) {
        return 0u;
    }
    // By the device's own numbers, rounded to f16: that, or the next one.
    var step = f16_bits(bitcast<u32>(max((bitcast<f32>(most) - bitcast<f32>(low)) / 15.0, 0.0)));
    for (var i = 0u; i < 2u && !int4_fits(most, least, step); i++) {
        step += 1u;
    }
    return step;
}

// Whether RN(RN(most - least) / 15) <= step, where RN rounds to 53 bits. A product t = 15 step has few bits. A difference up to
// t + ulp(t) / 2 is rounded to t or below; the next one above, t + ulp(t), divided by 15 is more than half an ulp above the step.
// All in units of 2^-24, of which the least value and the step are multiples.
fn int4_fits(most: u32, least: u32, step: u32) -> bool {
    if (step == 0u) {
        return false;
    }
    let product = int4_units(step);
    let t = int4_wide_sub(int4_wide_left(product, 4u), product);
    let low = int4_units(least & 0x7fffu);
    var bound = int4_wide_add(t, low);
    if (least >= 0x8000u) {
        bound = int4_wide_sub(t, low);
    }
    let x = single_parts(most & 0x7fffffffu);
    let is_negative = (most >> 31u) == 1u;
    let shift = x.exponent + 24;
    var whole = vec2<u32>(x.mantissa, 0u);
    var rest = 0u; // of 2^k
    var is_more = false;
    let k = u32(max(-shift, 0));
    if (shift >= 0) {
        whole = int4_wide_left(whole, u32(shift));
    } else if (k < 32u) {
        whole.x = x.mantissa >> k;
        rest = x.mantissa & ((1u << k) - 1u);
    } else {
        whole.x = 0u;
        rest = x.mantissa;
    }
    if (is_negative) {
        // The next one below. What is left from there is more than f64 loses: a bound that is negative is at least 2^-14 t, so that a number
        // about it has no bits below 2^-39 t.
        whole = int4_wide_sub(vec2<u32>(0u, 0u), int4_wide_add(whole, vec2<u32>(select(0u, 1u, rest != 0u), 0u)));
        is_more = rest != 0u;
    }
    if (whole.x != bound.x || whole.y != bound.y) {
        // As two's complement.
        let a = whole.y ^ 0x80000000u;
        let b = bound.y ^ 0x80000000u;
        return a < b || (a == b && whole.x < bound.x);
    }
    // ulp(t) / 2 is 2^(top - 53) units.
    let top = select(31u - countLeadingZeros(t.x), 63u - countLeadingZeros(t.y), t.y != 0u);
    let power = i32(k) + i32(top) - 53;
    if (rest == 0u || is_more) {
        return !is_more;
    }
    return power >= 24 || (power >= 0 && rest <= (1u << u32(power)));
}

// The magnitude of a finite f16 in units of 2^-24.
fn int4_units(half: u32) -> vec2<u32> {
    let field = half >> 10u;
    if (field == 0u) {
        return vec2<u32>(half, 0u);
    }
    return int4_wide_left(vec2<u32>((half & 0x3ffu) | 0x400u, 0u), field - 1u);
}

// Integers of 64 bits as two words, the lower one first.
fn int4_wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < b.x));
}

fn int4_wide_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// a * 2^n for n below 32.
fn int4_wide_left(a: vec2<u32>, n: u32) -> vec2<u32> {
    if (n == 0u) {
        return a;
    }
    return vec2<u32>(a.x << n, (a.y << n) | (a.x >> (32u - n)));
}

// The nearest code, halves to even.
fn int4_code(bits: u32, step: u32, least: u32) -> u32 {
    if (step == 0u) {
        return 0u;
    }
    let above = int4_sum(bits, f16_widened(least) ^ 0x80000000u) & 0x7fffffffu;
    return single_integer(single_quotient(above, f16_widened(step)), 15u);
}
