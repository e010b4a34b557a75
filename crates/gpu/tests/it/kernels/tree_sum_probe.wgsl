// tree_sum_probe.wgsl: what each invocation gets from `tree_sum`, in two calls one after the other.
//
// Twin      tests/it/snippets.rs, sums of whole numbers
// Math      out[i, 0] = sum over j of x[j],  out[i, 1] = sum over j of j x[j]
// Shapes    x    [64] f32
//           out  [64, 2] f32
// Grid      one workgroup of 64 invocations
// Races     none: each invocation writes its own row; barriers stand in tree_sum.wgsl
// Needs     core WebGPU only (no f16, no subgroups)
// Precision exact for whole numbers below 2^24

@group(0) @binding(1) var<storage, read> x: array<f32>;                // [64]
@group(0) @binding(2) var<storage, read_write> out: array<vec2<f32>>;  // [64, 2]

@compute @workgroup_size(TREE_INVOCATIONS)
fn tree_sum_probe(@builtin(local_invocation_index) local_index: u32) {
    let mine = x[local_index];
    let first = tree_sum(local_index, mine);
    let second = tree_sum(local_index, f32(local_index) * mine);
    out[local_index] = vec2<f32>(first, second);
}
