// sum_1_tree.wgsl: the sum of an array, by one workgroup, as a tree in workgroup memory.
//
// Twin      tests/it/recorder.rs, a sum in f64
// Math      sum = x[0] + … + x[n - 1]
// Shapes    x    [n] f32
//           sum  [1] f32
// Grid      one workgroup of 64 invocations
// Races     none: barriers stand in tree_sum.wgsl; invocation 0 writes the result
// Needs     core WebGPU only (no f16, no subgroups)
// Precision f32; each invocation adds every 64th element, then six steps of a tree

struct SumParams {
    n: u32,
}

@group(0) @binding(0) var<uniform> params: SumParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // [n]
@group(0) @binding(2) var<storage, read_write> sum: array<f32>; // [1]

@compute @workgroup_size(TREE_INVOCATIONS)
fn sum_1_tree(@builtin(local_invocation_index) local_index: u32) {
    var mine = 0.0;
    for (var i = local_index; i < params.n; i += TREE_INVOCATIONS) {
        mine += x[i];
    }
    let all = tree_sum(local_index, mine);
    if local_index == 0u {
        sum[0] = all;
    }
}
