// mask.wgsl: which keys a query sees, as one range (a snippet, prepended to kernels; reads `params`).
//
// Every mask is one formula, by the numbers that the host sets: with p = query (+ kv_len - q_len if bottom_right),
//     start = max(p - left, max(p, 0) / chunk * chunk)
//     end   = max(p + right + 1, prefix), at most kv_len
// Full: left and right are large. Causal: right = 0. A chunk that is none, and what is not limited, is 2^30; lengths are
// at most 2^24, so nothing overflows. Neither end falls from a query to the next.

// ANCHOR: mask
fn mask_keys(query: u32, q_len: u32, kv_len: u32) -> vec2<u32> {
    let position = i32(query) + select(0, i32(kv_len) - i32(q_len), params.bottom_right != 0u);
    let in_chunk = max(position, 0) / params.chunk * params.chunk;
    let start = max(position - params.left, in_chunk);
    let end = clamp(max(position + params.right + 1, params.prefix), 0, i32(kv_len));
    return vec2<u32>(u32(clamp(start, 0, end)), u32(end));
}
// ANCHOR_END: mask

// The queries that see a key of [first, past), as a range that may contain others: by bisection, as both ends rise.
fn mask_queries(first: u32, past: u32, q_len: u32, kv_len: u32) -> vec2<u32> {
    var low = 0u;
    var high = q_len;
    while (low < high) {
        let middle = low + (high - low) / 2u;
        if (mask_keys(middle, q_len, kv_len).y > first) {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    let start = low;
    high = q_len;
    while (low < high) {
        let middle = low + (high - low) / 2u;
        if (mask_keys(middle, q_len, kv_len).x >= past) {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return vec2<u32>(start, low);
}
