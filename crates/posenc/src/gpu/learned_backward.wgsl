// learned_backward.wgsl: the gradient of a table of learned positions.
//
// Twin      src/learned.rs `backward`; compared in tests/it/gpu/learned.rs
// Math      dtable[p, :] = sum over n with positions[n] = p of dout[n, :]
// Shapes    positions  [n_tokens] u32, n_tokens = batch * seq
//           dout       [n_tokens, d_model] f32
//           dtable     [n_positions, d_model] f32
// Grid      linear, one invocation per element of dtable, which looks at every position
// Races     none: each invocation writes its own element; no atomics, so the order of the sum is fixed
// Needs     core WebGPU only
// Precision f32 sum in the order of the tokens

struct LearnedBackwardParams {
    n_elements: u32,
    n_tokens: u32,
    d_model: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: LearnedBackwardParams;
@group(0) @binding(1) var<storage, read> positions: array<u32>;       // [n_tokens]
@group(0) @binding(2) var<storage, read> dout: array<f32>;            // [n_tokens, d_model]
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;    // [n_positions, d_model]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn learned_backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let position = element / params.d_model;
    let feature = element % params.d_model;
    var sum = 0.0;
    for (var token = 0u; token < params.n_tokens; token++) {
        if (positions[token] == position) {
            sum += dout[token * params.d_model + feature];
        }
    }
    dtable[element] = sum;
}
