// add.wgsl: the sum of two arrays.
//
// Twin      tests/it/recorder.rs, ndarray's sum
// Math      z = x + y
// Shapes    x, y, z  [n] f32
// Grid      linear: one invocation per element, 64 per workgroup
// Races     none: each invocation owns its element of z
// Needs     core WebGPU only (no f16, no subgroups)
// Precision one rounding

struct AddParams {
    n: u32,
}

@group(0) @binding(0) var<uniform> params: AddParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;       // [n]
@group(0) @binding(2) var<storage, read> y: array<f32>;       // [n]
@group(0) @binding(3) var<storage, read_write> z: array<f32>; // [n]

@compute @workgroup_size(64)
fn add(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, local_index, 64u, num_workgroups);
    if i >= params.n {
        return;
    }
    z[i] = x[i] + y[i];
}
