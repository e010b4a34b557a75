// history_clear.wgsl: no token has occurred yet.
//
// Twin      src/repetition_penalty.rs `penalize`; compared in tests/it/gpu/penalties.rs
// Math      counts[i] = 0
// Shapes    counts  [n_rows, vocab] u32
// Grid      linear, one invocation per count
// Races     none: each invocation writes its own count
// Needs     core WebGPU only
// Precision exact

struct HistoryClearParams {
    n_elements: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: HistoryClearParams;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn history_clear(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element < params.n_elements) {
        counts[element] = 0u;
    }
}
