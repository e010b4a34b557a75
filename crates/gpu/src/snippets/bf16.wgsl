// bf16.wgsl: two bf16 in a word, the element with the even index in the lower half.

// Exact: a bf16 is the upper half of an f32.
fn bf16_unpack(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn bf16_pack(pair: vec2<f32>) -> u32 {
    return bf16_bits(bitcast<u32>(pair.x)) | (bf16_bits(bitcast<u32>(pair.y)) << 16u);
}

// The bf16 nearest to the f32 with these bits; of two equally near ones the even one. A NaN stays one: its highest fraction bit is set,
// since rounding could carry it into infinity and cutting could leave no fraction at all. All in integers: compilers may assume that no
// float is NaN.
fn bf16_bits(bits: u32) -> u32 {
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return (bits >> 16u) | 0x40u;
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
