// status_clear.wgsl: no row of logits has been refused yet.
//
// Twin      src/gpu/logits.rs `new`; compared in tests/it/gpu/temperature.rs
// Math      status[i] = 0
// Shapes    status  [n_rows, STATUS_WORDS] u32
// Grid      linear, one invocation per word
// Races     none: each invocation writes its own word
// Needs     core WebGPU only
// Precision exact

struct StatusClearParams {
    n_words: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: StatusClearParams;
@group(0) @binding(1) var<storage, read_write> status: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn status_clear(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let word = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (word < params.n_words) {
        status[word] = 0u;
    }
}
