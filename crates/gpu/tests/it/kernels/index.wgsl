// index.wgsl: each workgroup counts the visits to its element.
//
// Twin      tests/it/grid.rs: every element is 1
// Math      visits[i] = visits[i] + 1
// Shapes    visits  [n] u32
// Grid      linear: one workgroup of one invocation per element
// Races     none if each workgroup has an index of its own, which is what the test is about
// Needs     core WebGPU only (no f16, no subgroups)
// Precision exact

struct IndexParams {
    n: u32,
}

@group(0) @binding(0) var<uniform> params: IndexParams;
@group(0) @binding(1) var<storage, read_write> visits: array<atomic<u32>>; // [n]

@compute @workgroup_size(1)
fn index(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let i = linear_workgroup(workgroup_id, num_workgroups);
    if i >= params.n {
        return;
    }
    atomicAdd(&visits[i], 1u);
}
