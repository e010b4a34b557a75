// flash_backward_inputs.wgsl: what the kernels of the backward pass read besides flash_inputs.wgsl (a snippet, prepended to them).

@group(0) @binding(6) var<storage, read> dout: array<f32>;    // shaped as the output
@group(0) @binding(7) var<storage, read> rows: array<f32>;    // [rows of the log-sum-exp, 2], see flash_rows.wgsl

fn dout_vector(row: u32, feature: u32, is_row: bool) -> vec4<f32> {
    var x = vec4<f32>();
    let at = row * params.value_dim + feature;
    if (is_row && feature < params.value_dim) {
        x.x = dout[at];
        if (feature + 1u < params.value_dim) { x.y = dout[at + 1u]; }
        if (feature + 2u < params.value_dim) { x.z = dout[at + 2u]; }
        if (feature + 3u < params.value_dim) { x.w = dout[at + 3u]; }
    }
    return x;
}

// The weight of a score in a row with this log-sum-exp: 0 where the key is hidden, and in a row that sees none.
fn weight_of(score: f32, lse: f32) -> f32 {
    if (score <= LOWEST || lse <= LOWEST) {
        return 0.0;
    }
    return exp(max(score - lse, -200.0));
}
