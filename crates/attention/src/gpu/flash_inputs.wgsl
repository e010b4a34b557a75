// flash_inputs.wgsl: queries, keys and values of the tiled kernels of attention (a snippet, prepended to them).

@group(0) @binding(1) var<storage, read> q: array<f32>;       // [batch, n_heads, q_len, head_dim], or packed [total, n_heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<f32>;       // [batch, n_kv_heads, kv_len, head_dim], or packed
@group(0) @binding(3) var<storage, read> v: array<f32>;       // the same with value_dim

// Four features of a row from `feature` on; zeros beyond the last, and for rows that are none.
fn q_vector(row: u32, feature: u32, is_row: bool) -> vec4<f32> {
    var x = vec4<f32>();
    let at = row * params.head_dim + feature;
    if (is_row && feature < params.head_dim) {
        x.x = q[at];
        if (feature + 1u < params.head_dim) { x.y = q[at + 1u]; }
        if (feature + 2u < params.head_dim) { x.z = q[at + 2u]; }
        if (feature + 3u < params.head_dim) { x.w = q[at + 3u]; }
    }
    return x;
}

fn k_vector(row: u32, feature: u32, is_row: bool) -> vec4<f32> {
    var x = vec4<f32>();
    let at = row * params.head_dim + feature;
    if (is_row && feature < params.head_dim) {
        x.x = k[at];
        if (feature + 1u < params.head_dim) { x.y = k[at + 1u]; }
        if (feature + 2u < params.head_dim) { x.z = k[at + 2u]; }
        if (feature + 3u < params.head_dim) { x.w = k[at + 3u]; }
    }
    return x;
}

fn v_vector(row: u32, feature: u32, is_row: bool) -> vec4<f32> {
    var x = vec4<f32>();
    let at = row * params.value_dim + feature;
    if (is_row && feature < params.value_dim) {
        x.x = v[at];
        if (feature + 1u < params.value_dim) { x.y = v[at + 1u]; }
        if (feature + 2u < params.value_dim) { x.z = v[at + 2u]; }
        if (feature + 3u < params.value_dim) { x.w = v[at + 3u]; }
    }
    return x;
}
