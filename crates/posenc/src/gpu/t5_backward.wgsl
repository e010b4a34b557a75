// t5_backward.wgsl: the gradient of T5's table, from the sums of the diagonals.
//
// Twin      src/t5.rs `backward`; compared in tests/it/gpu/t5.rs
// Math      dtable[b, h] = sum over diagonals d with buckets[d] = b of sums[h, d]
// Shapes    sums     [heads, n_diagonals] f32, from diagonal_sums.wgsl
//           buckets  [n_diagonals] u32
//           dtable   [n_buckets, heads] f32
// Grid      linear, one invocation per element of dtable
// Races     none: each invocation writes its own element; no atomics, so the order of the sum is fixed
// Needs     core WebGPU only
// Precision f32 sum in the order of the diagonals

struct T5BackwardParams {
    n_elements: u32,
    heads: u32,
    n_diagonals: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: T5BackwardParams;
@group(0) @binding(1) var<storage, read> sums: array<f32>;           // [heads, n_diagonals]
@group(0) @binding(2) var<storage, read> buckets: array<u32>;        // [n_diagonals]
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;   // [n_buckets, heads]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn t5_backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let bucket = element / params.heads;
    let head = element % params.heads;
    var sum = 0.0;
    for (var diagonal = 0u; diagonal < params.n_diagonals; diagonal++) {
        if (buckets[diagonal] == bucket) {
            sum += sums[head * params.n_diagonals + diagonal];
        }
    }
    dtable[element] = sum;
}
