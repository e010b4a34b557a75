// int8.wgsl: the code of a number of an int8 page (a snippet, prepended to kernels).

// The nearest code of a magnitude, halves to even.
fn int8_code(magnitude: u32, scale: u32) -> u32 {
    if (scale == 0u) {
        return 0u;
    }
    return single_integer(single_quotient(magnitude, scale), 127u);
}

// Number `i` of those that the largest magnitude is divided by to get a scale: 127, 127.5, 126.5, 126 … 123.5.
fn int8_divisor(i: u32) -> u32 {
    return select(0x42ff0000u - i * 0x10000u, 0x42fe0000u + i * 0x10000u, i < 2u);
}
