// low_rank_project.wgsl: rows times the first factor of a low-rank update.
//
// Twin      src/matmul/low_rank.rs `project_few`; compared in tests/it/gpu/low_rank.rs
// Math      low_tr = sum_i x_ti * f_ir, where f_ir is the factor number i * inner_stride + r * outer_stride
// Shapes    x  [seq, inner] f32
//           factors  [inner, rank] f32 with strides
//           low  [seq, rank] f32
// Grid      linear, one workgroup per element of low
// Races     none: each workgroup writes its own element
// Needs     core WebGPU only; 256 bytes of workgroup memory
// Precision f32: 64 running sums and a tree over them

struct LowRankProjectParams {
    n_items: u32,
    inner: u32,
    rank: u32,
    inner_stride: u32,
    outer_stride: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: LowRankProjectParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> low: array<f32>;

@compute @workgroup_size(TREE_INVOCATIONS)
fn low_rank_project(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_workgroup(workgroup_id, num_workgroups);
    if (item >= params.n_items) {
        return;
    }
    let row = item / params.rank;
    let column = item % params.rank;
    var sum = 0.0;
    for (var i = local_index; i < params.inner; i += TREE_INVOCATIONS) {
        sum += x[row * params.inner + i] * factors[i * params.inner_stride + column * params.outer_stride];
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        low[item] = total;
    }
}
