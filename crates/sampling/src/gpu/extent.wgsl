// extent.wgsl: what is known of some logits (a snippet, prepended to kernels; needs keys.wgsl).
//
// The largest key, its lowest token, the lowest token of a NaN, the lowest token of +inf.

const NO_EXTENT: vec4<u32> = vec4<u32>(0u, NO_TOKEN, NO_TOKEN, NO_TOKEN);

fn extent_of(bits: u32, token: u32) -> vec4<u32> {
    if (is_nan_bits(bits)) {
        return vec4<u32>(0u, NO_TOKEN, token, NO_TOKEN);
    }
    return vec4<u32>(key_of_bits(bits), token, NO_TOKEN, select(NO_TOKEN, token, bits == INFINITY));
}

fn extent_merge(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    var largest = a.xy;
    if (b.x > a.x || (b.x == a.x && b.y < a.y)) {
        largest = b.xy;
    }
    return vec4<u32>(largest, min(a.zw, b.zw));
}
