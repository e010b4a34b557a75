// sinks_apply.wgsl: attention with sinks from attention without.
//
// Twin      src/sinks.rs `apply`; compared in tests/it/gpu/sinks.rs
// Math      y = x / (1 + e^(sink - lse)), new_lse = ln(e^lse + e^sink)
// Shapes    x        [batch, n_heads, seq, value_dim] f32
//           lse      [batch, n_heads, seq] f32
//           sinks    [n_heads] the bits of f32
//           y        as x, new_lse as lse
// Grid      linear, one invocation per element of y, or per row if there are no values
// Races     none: each invocation writes its own element; the first of a row writes new_lse
// Needs     core WebGPU only
// Precision some roundings in f32; a sink of -inf changes nothing

struct SinksApplyParams {
    n_elements: u32,
    value_dim: u32,     // at least 1
    seq: u32,
    n_heads: u32,
    has_values: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: SinksApplyParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> sinks: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> new_lse: array<f32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sinks_apply(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let row = element / params.value_dim;
    let bits = sinks[row / params.seq % params.n_heads];
    let without = lse[row];
    var weight = 1.0;
    var with_sink = without;
    if (bits != 0xff800000u) {
        let sink = bitcast<f32>(bits);
        // Neither difference overflows: a row that sees no key has the lowest number there is.
        let distance = clamp(max(without, -1e37) - max(sink, -1e37), -200.0, 200.0);
        weight = select(1.0 / (1.0 + exp(-distance)), exp(distance) / (1.0 + exp(distance)), distance < 0.0);
        with_sink = max(without, sink) + log_one_plus(exp(-abs(distance)));
    }
    if (params.has_values != 0u) {
        y[element] = weight * x[element];
    }
    if (element % params.value_dim == 0u) {
        new_lse[row] = with_sink;
    }
}

// ln(1 + x) for 0 <= x <= 1, right in its last digits for small x too.
fn log_one_plus(x: f32) -> f32 {
    if (x < 1e-3) {
        return x - 0.5 * x * x;
    }
    return log(1.0 + x);
}
