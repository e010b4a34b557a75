// widened.wgsl: f16 as f32 (a snippet, prepended to kernels).

// The bits of the same number as f32, in integers: devices may flush what is small. A NaN becomes a quiet one.
fn f16_widened(half: u32) -> u32 {
    let sign = (half & 0x8000u) << 16u;
    let magnitude = half & 0x7fffu;
    if (magnitude > 0x7c00u) {
        return sign | 0x7fc00000u | (magnitude << 13u);
    }
    if (magnitude == 0x7c00u) {
        return sign | 0x7f800000u;
    }
    if (magnitude >= 0x400u) { // another bias
        return sign | ((magnitude << 13u) + 0x38000000u);
    }
    if (magnitude == 0u) {
        return sign;
    }
    // A multiple of 2^-24 with its highest bit at `top`: moved to where that bit is implied.
    let top = 31u - countLeadingZeros(magnitude);
    return sign | (((top + 103u) << 23u) + ((magnitude << (23u - top)) & 0x7fffffu));
}
