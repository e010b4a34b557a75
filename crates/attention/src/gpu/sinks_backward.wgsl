// sinks_backward.wgsl: the gradient of the sinks.
//
// Twin      src/sinks.rs `backward`; compared in tests/it/gpu/sinks.rs
// Math      dsinks[h] = - sum over batch and queries of e^(sink_h - lse) <dout, out>, with both as sinks_apply.wgsl leaves them
// Shapes    rows     [batch, n_heads, seq, 2] f32, see flash_rows.wgsl
//           sinks    [n_heads] the bits of f32
//           dsinks   [n_heads] f32
// Grid      linear, one workgroup per head
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the result
// Needs     core WebGPU only
// Precision f32 sums: over every 64th query, then invocations

struct SinksBackwardParams {
    batch: u32,
    n_heads: u32,
    seq: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: SinksBackwardParams;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> sinks: array<u32>;
@group(0) @binding(3) var<storage, read_write> dsinks: array<f32>;

@compute @workgroup_size(TREE_INVOCATIONS)
fn sinks_backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let head = linear_workgroup(workgroup_id, num_workgroups);
    if (head >= params.n_heads) {
        return;
    }
    let bits = sinks[head];
    var sum = 0.0;
    if (bits != 0xff800000u) {
        let sink = bitcast<f32>(bits);
        for (var i = local_index; i < params.batch * params.seq; i += TREE_INVOCATIONS) {
            let row = (i / params.seq * params.n_heads + head) * params.seq + i % params.seq;
            let lse = max(rows[2u * row], -1e37);
            sum -= exp(clamp(max(sink, -1e37) - lse, -200.0, 0.0)) * rows[2u * row + 1u];
        }
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        dsinks[head] = total;
    }
}
