// f16.wgsl: two f16 in a word, the element with the even index in the lower half. Core WebGPU: no `enable f16`.

fn f16_unpack(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// Rounds to nearest. WebGPU leaves the value open when one of the two is beyond the largest f16, 65504: callers clamp.
fn f16_pack(pair: vec2<f32>) -> u32 {
    return pack2x16float(pair);
}
