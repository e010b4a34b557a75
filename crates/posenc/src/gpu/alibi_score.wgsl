// alibi_score.wgsl: ALiBi's bias of one score (a snippet, prepended to kernels; also for attention kernels elsewhere).

// What a slope multiplies; `origin` as in src/alibi.rs `AlibiOrigin`:
// 0 = key index (Bloom), 1 = last key is zero (MPT), 2 = absolute distance (FlashAttention), 3 = signed distance,
// 4 = past distance.
// ANCHOR: distance
fn alibi_distance(query: u32, key: u32, seq: u32, kv_seq: u32, origin: u32) -> f32 {
    let from_last = i32(key) - i32(kv_seq) + 1;
    let from_query = from_last - i32(query) + i32(seq) - 1;
    switch (origin) {
        case 0u: { return f32(key); }
        case 1u: { return f32(from_last); }
        case 2u: { return -f32(abs(from_query)); }
        case 3u: { return f32(from_query); }
        default: { return f32(min(from_query, 0)); }
    }
}
// ANCHOR_END: distance

// ANCHOR: score_bias
fn alibi_score_bias(slope: f32, query: u32, key: u32, seq: u32, kv_seq: u32, origin: u32) -> f32 {
    return slope * alibi_distance(query, key, seq, kv_seq, origin);
}
// ANCHOR_END: score_bias
