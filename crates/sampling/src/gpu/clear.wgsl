// clear.wgsl: zeros, before a kernel adds to them or notes something there.
//
// Twin      src/gpu/clear.rs `zeros`; compared in tests/it/gpu/penalties.rs
// Math      words[i] = 0
// Shapes    words  any u32
// Grid      linear, one invocation per word
// Races     none: each invocation writes its own word
// Needs     core WebGPU only
// Precision exact

struct ClearParams {
    n_words: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: ClearParams;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn clear(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let word = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (word < params.n_words) {
        words[word] = 0u;
    }
}
