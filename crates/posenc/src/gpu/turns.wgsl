// turns.wgsl: angles as 32-bit fractions of a turn, and their sine and cosine (a snippet, prepended to kernels).
//
// A position times a frequency is formed in integers, so whole turns fall off exactly: position 1 000 000 is as
// exact as position 1. The built-in sin and cos may be off by 2^-11 by the WGSL specification, and get worse for
// large arguments; these polynomials are right to about 1e-7.

// The upper 32 bits of a 64-bit product.
fn multiply_high(a: u32, b: u32) -> u32 {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let middle = a_high * b_low + ((a_low * b_low) >> 16u);
    let carry = a_low * b_high + (middle & 0xffffu);
    return a_high * b_high + (middle >> 16u) + (carry >> 16u);
}

// ANCHOR: turn_of
// position * frequency modulo one turn; `frequency` is (upper, lower) 32 bits of turns per token times 2^64.
fn turn_of(position: u32, frequency: vec2<u32>) -> u32 {
    return position * frequency.x + multiply_high(position, frequency.y);
}
// ANCHOR_END: turn_of

// (cos, sin) of a turn in units of 2^-32 turns.
fn cos_sin_of_turn(turn: u32) -> vec2<f32> {
    // The nearest quarter turn, and the rest in [-1/8, 1/8) turns.
    let quarter = (turn + 0x20000000u) >> 30u;
    let rest = bitcast<i32>(turn - (quarter << 30u));
    let x = f32(rest) * 1.4629180792671596e-9; // 2 pi / 2^32
    let x2 = x * x;
    // Taylor series; on [-pi/4, pi/4] the first term left out is below 2e-9 of sine, 2e-10 of cosine.
    let sine = x + x * x2 * (-0.16666666666666666 + x2 * (0.008333333333333333
        + x2 * (-0.0001984126984126984 + x2 * 0.0000027557319223985893)));
    let cosine = 1.0 + x2 * (-0.5 + x2 * (0.041666666666666664
        + x2 * (-0.001388888888888889 + x2 * (0.0000248015873015873
        + x2 * -0.00000027557319223985888))));
    switch (quarter & 3u) {
        case 0u: { return vec2<f32>(cosine, sine); }
        case 1u: { return vec2<f32>(-sine, cosine); }
        case 2u: { return vec2<f32>(-cosine, -sine); }
        default: { return vec2<f32>(sine, -cosine); }
    }
}
