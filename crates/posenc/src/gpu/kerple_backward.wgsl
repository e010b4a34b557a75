// kerple_backward.wgsl: the gradients of KERPLE's parameters, from the sums of the diagonals.
//
// Twin      src/kerple.rs `backward`; compared in tests/it/gpu/kerple.rs
// Math      dr[h] = sum over diagonals d of sums[h, d] * derivative of the bias at d's distance
// Shapes    r1, r2    [heads] f32
//           sums      [heads, n_diagonals] f32, from diagonal_sums.wgsl; n_diagonals = seq + kv_seq - 1
//           dr1, dr2  [heads] f32
// Grid      linear, one workgroup per head
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the results
// Needs     core WebGPU only
// Precision f32 sums over diagonals, then invocations; log, exp2 and log2 of the device

struct KerpleBackwardParams {
    heads: u32,
    n_diagonals: u32,
    zero_diagonal: u32, // the diagonal of distance 0: kv_seq - 1
    kernel: u32,        // see kerple_score.wgsl
}

@group(0) @binding(0) var<uniform> params: KerpleBackwardParams;
@group(0) @binding(1) var<storage, read> r1: array<f32>;          // [heads]
@group(0) @binding(2) var<storage, read> r2: array<f32>;          // [heads]
@group(0) @binding(3) var<storage, read> sums: array<f32>;        // [heads, n_diagonals]
@group(0) @binding(4) var<storage, read_write> dr1: array<f32>;   // [heads]
@group(0) @binding(5) var<storage, read_write> dr2: array<f32>;   // [heads]

@compute @workgroup_size(TREE_INVOCATIONS)
fn kerple_backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let head = linear_workgroup(workgroup_id, num_workgroups);
    if (head >= params.heads) {
        return;
    }
    var sum = vec2<f32>(0.0, 0.0);
    for (var diagonal = local_index; diagonal < params.n_diagonals; diagonal += TREE_INVOCATIONS) {
        let distance = f32(abs(i32(diagonal) - i32(params.zero_diagonal)));
        sum += sums[head * params.n_diagonals + diagonal]
            * kerple_gradient(r1[head], r2[head], distance, params.kernel);
    }
    let total1 = tree_sum(local_index, sum.x);
    let total2 = tree_sum(local_index, sum.y);
    if (local_index == 0u) {
        dr1[head] = total1;
        dr2[head] = total2;
    }
}
