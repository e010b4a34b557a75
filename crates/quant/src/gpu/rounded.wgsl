// rounded.wgsl: products and quotients of f32 with the rounding of the CPU, in integers.
//
// Shaders may round a division as they like and take small numbers for zero. Here only magnitudes count: the sign bit must be 0.

// m * 2^e
struct Magnitude {
    m: u32,
    e: i32,
}

// With 24 bits, the highest of which is set; `bits` must not be 0.
fn normalized(bits: u32) -> Magnitude {
    let field = bits >> 23u;
    let fraction = bits & 0x7fffffu;
    if (field > 0u) {
        return Magnitude(fraction | 0x800000u, i32(field) - 150);
    }
    let shift = countLeadingZeros(fraction) - 8u;
    return Magnitude(fraction << shift, -149 - i32(shift));
}

// The f32 nearest to q * 2^e and a bit more if there is a rest below q; halves to even, too large ones infinite. q must not be 0.
fn rounded(q: u32, e: i32, has_rest: bool) -> u32 {
    let highest = 31 - i32(countLeadingZeros(q));
    let unit = max(highest + e - 23, -149);
    let shift = unit - e;
    if (shift <= 0) {
        return (u32(unit + 149) << 23u) + (q << u32(-shift));
    }
    if (shift > 31) {
        return 0u; // below half of the smallest number
    }
    var kept = q >> u32(shift);
    let rest = q & ((1u << u32(shift)) - 1u);
    let half = 1u << u32(shift - 1);
    if (rest > half || (rest == half && (has_rest || (kept & 1u) == 1u))) {
        kept++;
    }
    return min((u32(unit + 149) << 23u) + kept, 0x7f800000u);
}

fn rounded_product(a: u32, b: u32) -> u32 {
    if (a == 0u || b == 0u) {
        return 0u;
    }
    let x = normalized(a);
    let y = normalized(b);
    // 24 bits times 24 bits, by halves of 12.
    let middle = (x.m >> 12u) * (y.m & 0xfffu) + (x.m & 0xfffu) * (y.m >> 12u);
    let low = (x.m & 0xfffu) * (y.m & 0xfffu) + ((middle & 0xfffu) << 12u);
    let high = (x.m >> 12u) * (y.m >> 12u) + (middle >> 12u) + (low >> 24u);
    let rest = low & 0xffffffu;
    return rounded((high << 6u) | (rest >> 18u), x.e + y.e + 18, (rest & 0x3ffffu) != 0u);
}

// `b` must not be 0.
fn rounded_quotient(a: u32, b: u32) -> u32 {
    if (a == 0u) {
        return 0u;
    }
    let x = normalized(a);
    let y = normalized(b);
    var rest = x.m;
    var q = 0u;
    // A bit of the quotient each: one before the point, 26 after it.
    for (var i = 0u; i < 27u; i++) {
        q <<= 1u;
        if (rest >= y.m) {
            rest -= y.m;
            q |= 1u;
        }
        rest <<= 1u;
    }
    return rounded(q, x.e - y.e - 26, rest != 0u);
}
