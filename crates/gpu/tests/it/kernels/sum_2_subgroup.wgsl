// sum_2_subgroup.wgsl: the sum of an array, by one workgroup; adds to sum_1_tree: subgroups add without memory between.
//
// Twin      tests/it/recorder.rs, sum_1_tree
// Math      sum = x[0] + … + x[n - 1]
// Shapes    x    [n] f32
//           sum  [1] f32
// Grid      one workgroup of 64 invocations
// Races     none: a barrier between writing and reading the subgroups' sums; invocation 0 writes the result
// Needs     subgroups of any size that divides 64
// Precision f32; the order of adding within a subgroup is the driver's

struct SumParams {
    n: u32,
}

@group(0) @binding(0) var<uniform> params: SumParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // [n]
@group(0) @binding(2) var<storage, read_write> sum: array<f32>; // [1]

var<workgroup> partial: array<f32, 64>; // one for each subgroup, at most 64

@compute @workgroup_size(64)
fn sum_2_subgroup(
    @builtin(local_invocation_index) local_index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
) {
    var mine = 0.0;
    for (var i = local_index; i < params.n; i += 64u) {
        mine += x[i];
    }
    let ours = subgroupAdd(mine);
    if lane == 0u {
        partial[subgroup] = ours;
    }
    workgroupBarrier();
    if local_index == 0u {
        var all = 0.0;
        for (var i = 0u; i < 64u / subgroup_size; i += 1u) {
            all += partial[i];
        }
        sum[0] = all;
    }
}
