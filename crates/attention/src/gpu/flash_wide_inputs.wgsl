// flash_wide_inputs.wgsl: flash_inputs.wgsl for features in fours, a vector a load (a snippet, prepended to kernels).

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;

// Vector `vector` of a row; zeros beyond the last, and for rows that are none.
fn q_at(row: u32, vector: u32, is_row: bool) -> vec4<f32> {
    if (is_row && 4u * vector < params.head_dim) {
        return q[row * (params.head_dim / 4u) + vector];
    }
    return vec4<f32>();
}

fn k_at(row: u32, vector: u32, is_row: bool) -> vec4<f32> {
    if (is_row && 4u * vector < params.head_dim) {
        return k[row * (params.head_dim / 4u) + vector];
    }
    return vec4<f32>();
}

fn v_at(row: u32, vector: u32, is_row: bool) -> vec4<f32> {
    if (is_row && 4u * vector < params.value_dim) {
        return v[row * (params.value_dim / 4u) + vector];
    }
    return vec4<f32>();
}
