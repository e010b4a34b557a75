// philox.wgsl: Philox 4x32-10, the same words as `Philox4x32::u32_at` of llm-numerics (a snippet, prepended to kernels).

// The upper half of a 64-bit product, from halves of 16 bits.
fn philox_high(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u); // at most (2^16 - 1)^2 + 2^16 - 1: no carry
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

// The four words of a counter.
fn philox_block(key: vec2<u32>, start: vec4<u32>) -> vec4<u32> {
    var counter = start;
    var round_key = key;
    for (var round = 0u; round < 10u; round++) {
        counter = vec4<u32>(
            philox_high(counter.z, 0xcd9e8d57u) ^ counter.y ^ round_key.x,
            counter.z * 0xcd9e8d57u,
            philox_high(counter.x, 0xd2511f53u) ^ counter.w ^ round_key.y,
            counter.x * 0xd2511f53u,
        );
        round_key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter;
}

// Word `index` of a stream, whose lower half comes first.
fn philox_word(key: vec2<u32>, stream: vec2<u32>, index: u32) -> u32 {
    let words = philox_block(key, vec4<u32>(index / 4u, 0u, stream));
    switch (index % 4u) {
        case 0u: { return words.x; }
        case 1u: { return words.y; }
        case 2u: { return words.z; }
        default: { return words.w; }
    }
}
