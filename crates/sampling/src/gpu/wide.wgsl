// wide.wgsl: unsigned integers of 64 bits as two words, the lower one first (a snippet, prepended to kernels).

// a + b, modulo 2^64.
fn wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < b.x));
}

// a - b, modulo 2^64.
fn wide_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn wide_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn wide_is_zero(a: vec2<u32>) -> bool {
    return (a.x | a.y) == 0u;
}

// a * b, from halves of 16 bits.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u); // at most (2^16 - 1)^2 + 2^16 - 1: no carry
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2<u32>(a * b, (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

// The upper half of a * b: the product of two fractions of 2^32.
fn high_product(a: u32, b: u32) -> u32 {
    return wide_product(a, b).y;
}

// The upper half of the 128 bits of a * b.
fn wide_high_product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = vec2<u32>(wide_product(a.x, b.x).y, 0u);
    let first = wide_product(a.x, b.y);
    let second = wide_product(a.y, b.x);
    // Three words below 2^32: no carry is lost.
    let middle = wide_add(wide_add(low, vec2<u32>(first.x, 0u)), vec2<u32>(second.x, 0u));
    let upper = wide_add(vec2<u32>(first.y, 0u), vec2<u32>(second.y, 0u));
    return wide_add(wide_add(wide_product(a.y, b.y), upper), vec2<u32>(middle.y, 0u));
}

// a * 2^n, modulo 2^64, for any n.
fn wide_left(a: vec2<u32>, n: u32) -> vec2<u32> {
    if (n == 0u) {
        return a;
    }
    if (n >= 64u) {
        return vec2<u32>(0u, 0u);
    }
    if (n >= 32u) {
        return vec2<u32>(0u, a.x << (n - 32u));
    }
    return vec2<u32>(a.x << n, (a.y << n) | (a.x >> (32u - n)));
}

// floor(a / 2^n), for any n.
fn wide_right(a: vec2<u32>, n: u32) -> vec2<u32> {
    if (n == 0u) {
        return a;
    }
    if (n >= 64u) {
        return vec2<u32>(0u, 0u);
    }
    if (n >= 32u) {
        return vec2<u32>(a.y >> (n - 32u), 0u);
    }
    return vec2<u32>((a.x >> n) | (a.y << (32u - n)), a.y >> n);
}

// floor(a / 2^n), and the lowest bit is set if that was not all of it.
fn wide_right_jam(a: vec2<u32>, n: u32) -> vec2<u32> {
    let kept = wide_right(a, n);
    let back = wide_left(kept, n);
    let lost = select(back.x != a.x || back.y != a.y, !wide_is_zero(a), n >= 64u);
    return vec2<u32>(kept.x | select(0u, 1u, lost), kept.y);
}

fn wide_leading_zeros(a: vec2<u32>) -> u32 {
    if (a.y != 0u) {
        return countLeadingZeros(a.y);
    }
    return 32u + countLeadingZeros(a.x);
}

// floor(a / b) for b > 0, at most 2^32 - 1.
fn wide_quotient(a: vec2<u32>, b: vec2<u32>) -> u32 {
    var rest = vec2<u32>(0u, 0u);
    var quotient = vec2<u32>(0u, 0u);
    for (var i = 0u; i < 64u; i++) {
        rest = wide_left(rest, 1u); // of the first i bits of a: below 2^63
        rest.x |= wide_right(a, 63u - i).x & 1u;
        quotient = wide_left(quotient, 1u);
        if (!wide_less(rest, b)) {
            rest = wide_sub(rest, b);
            quotient.x |= 1u;
        }
    }
    return select(quotient.x, 0xffffffffu, quotient.y != 0u);
}

// a * b, modulo 2^64.
fn wide_low_product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return wide_add(wide_product(a.x, b.x), vec2<u32>(0u, a.x * b.y + a.y * b.x));
}
