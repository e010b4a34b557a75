// learned.wgsl: rows of a table of learned positions.
//
// Twin      src/learned.rs `embed`; compared in tests/it/gpu/learned.rs
// Math      y[n, :] = table[positions[n], :]
// Shapes    positions  [n_tokens] u32, n_tokens = batch * seq
//           table      [n_positions, d_model] f32
//           y          [n_tokens, d_model] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision exact; a position outside the table gives NaN, since the device cannot return an error

struct LearnedParams {
    n_elements: u32,
    n_positions: u32,
    d_model: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: LearnedParams;
@group(0) @binding(1) var<storage, read> positions: array<u32>; // [n_tokens]
@group(0) @binding(2) var<storage, read> table: array<u32>;     // [n_positions, d_model], bits of f32
@group(0) @binding(3) var<storage, read_write> y: array<u32>;   // [n_tokens, d_model], bits of f32

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn learned(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    // ANCHOR: row
    let position = positions[element / params.d_model];
    if (position >= params.n_positions) {
        y[element] = 0x7fc00000u; // NaN
        return;
    }
    // As bits, so that NaN and denormal numbers pass unchanged.
    y[element] = table[position * params.d_model + element % params.d_model];
    // ANCHOR_END: row
}
