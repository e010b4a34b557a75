// flash_score.wgsl: from the product of a query and a key to its score, and whether its weight stays (a snippet, prepended to kernels).

struct Score {
    value: f32,   // LOWEST if the key is hidden
    slope: f32,   // the derivative of the softcap
}

// In this order: scale, softcap, ALiBi, bias, mask. `keys` are those that the mask lets the query see.
// ANCHOR: score
fn score_at(product: f32, item: Item, head: u32, query: u32, key: u32, keys: vec2<u32>) -> Score {
    var score = Score(LOWEST, 1.0);
    if (key < keys.x || key >= keys.y) {
        return score;
    }
    var value = params.scale * product;
    if (params.softcap > 0.0) {
        let bent = score_tanh(value / params.softcap);
        value = params.softcap * bent;
        score.slope = 1.0 - bent * bent;
    }
    if (params.alibi_origin > 0u) {
        let slope = bitcast<f32>(small[params.slopes + head]);
        value += slope * score_distance(query, key, item.q_len, item.kv_len);
    }
    if (params.has_bias != 0u) {
        let bits = bias[bias_place(item, head, query, key)];
        if (bits == 0xff800000u) {
            return score;
        }
        value += bitcast<f32>(bits);
    }
    score.value = max(value, LOWEST);
    return score;
}
// ANCHOR_END: score

fn bias_place(item: Item, head: u32, query: u32, key: u32) -> u32 {
    return item.bias_start + head * params.bias_head + query * params.bias_query + key * params.bias_key;
}

// What a slope of ALiBi is multiplied with: 1 = key index, 2 = the last key is zero, 3 = absolute distance, 4 = signed distance,
// 5 = past distance. The query's position is that of the bottom right alignment, whatever the mask has.
fn score_distance(query: u32, key: u32, q_len: u32, kv_len: u32) -> f32 {
    let from_last = i32(key) - i32(kv_len) + 1;
    let from_query = from_last - i32(query) + i32(q_len) - 1;
    switch (params.alibi_origin) {
        case 1u: { return f32(key); }
        case 2u: { return f32(from_last); }
        case 3u: { return -f32(abs(from_query)); }
        case 4u: { return f32(from_query); }
        default: { return f32(min(from_query, 0)); }
    }
}

// What dropout multiplies a weight with: 0 or keep_scale; 1 without dropout.
fn dropout_factor(item: Item, head: u32, query: u32, key: u32) -> f32 {
    if (params.has_dropout == 0u) {
        return 1.0;
    }
    let row = item.first_stream + head * item.q_len + query;
    let low = params.stream_low + row;
    let stream = vec2<u32>(low, params.stream_high + select(0u, 1u, low < row));
    let word = philox_word(vec2<u32>(params.key_low, params.key_high), stream, key);
    return select(0.0, params.keep_scale, word > params.last_dropped);
}
