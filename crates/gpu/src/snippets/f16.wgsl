// f16.wgsl: two f16 in a word, the element with the even index in the lower half. Core WebGPU: no `enable f16`.

// Exact.
fn f16_unpack(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

fn f16_pack(pair: vec2<f32>) -> u32 {
    return f16_bits(bitcast<u32>(pair.x)) | (f16_bits(bitcast<u32>(pair.y)) << 16u);
}

// The f16 nearest to the f32 with these bits; of two equally near ones the even one; infinity from 65520 on; a NaN stays one. In integers,
// because `pack2x16float` may round in either direction, and does.
fn f16_bits(bits: u32) -> u32 {
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | 0x7e00u | ((magnitude >> 13u) & 0x3ffu);
    }
    if magnitude >= 0x477ff000u { // 65520: halfway between the largest f16 and the next power of two
        return sign | 0x7c00u;
    }
    if magnitude >= 0x38800000u { // 2^-14, the smallest normal f16: another bias, then 13 bits less
        let rebiased = magnitude - 0x38000000u;
        return sign | ((rebiased + 0xfffu + ((rebiased >> 13u) & 1u)) >> 13u);
    }
    if magnitude <= 0x33000000u { // 2^-25: halfway between zero and the smallest f16
        return sign;
    }
    // A multiple of 2^-24: the significand is shifted by 14 to 24 bits.
    let significand = (magnitude & 0x7fffffu) | 0x800000u;
    let shift = 126u - (magnitude >> 23u);
    let odd = (significand >> shift) & 1u;
    return sign | ((significand + (1u << (shift - 1u)) - 1u + odd) >> shift);
}
