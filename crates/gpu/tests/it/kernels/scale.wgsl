// scale.wgsl: each element multiplied by a factor, in place.
//
// Twin      tests/it/recorder.rs, a loop
// Math      x = factor * x
// Shapes    x  [n] f32
// Grid      linear: one invocation per element, WORKGROUP_SIZE per workgroup
// Races     none: each invocation owns its element
// Needs     core WebGPU only (no f16, no subgroups)
// Precision one rounding

struct ScaleParams {
    n: u32,
    factor: f32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: ScaleParams;
@group(0) @binding(1) var<storage, read_write> x: array<f32>; // [n]

@compute @workgroup_size(WORKGROUP_SIZE)
fn scale(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if i >= params.n {
        return;
    }
    x[i] = params.factor * x[i];
}
