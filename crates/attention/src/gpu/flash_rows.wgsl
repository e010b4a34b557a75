// flash_rows.wgsl: what the backward pass needs of each query: its log-sum-exp and <dout, out>, side by side.
//
// Twin      src/flash.rs `backward`; compared in tests/it/gpu/flash.rs
// Math      rows[r] = (lse_r, sum_d dout_rd out_rd); a log-sum-exp of -inf becomes the finite one that stands for it
// Shapes    lse       [n_rows] f32, in the order of its tensor
//           dout, out [n_rows, value_dim] f32, in the order of theirs: row (r % n_inner) * inner_stride + r / n_inner * outer_stride
//           rows      [n_rows, 2] f32
// Grid      linear, one workgroup per row
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the row
// Needs     core WebGPU only
// Precision f32 sum: over features, then invocations

struct FlashRowsParams {
    n_rows: u32,
    value_dim: u32,
    n_inner: u32,
    inner_stride: u32,
    outer_stride: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: FlashRowsParams;
@group(0) @binding(1) var<storage, read> lse: array<u32>;         // the bits of f32
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(TREE_INVOCATIONS)
fn flash_rows(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_workgroup(workgroup_id, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    let at = ((row % params.n_inner) * params.inner_stride + row / params.n_inner * params.outer_stride) * params.value_dim;
    var sum = 0.0;
    for (var d = local_index; d < params.value_dim; d += TREE_INVOCATIONS) {
        sum += dout[at + d] * out[at + d];
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        let bits = lse[row];
        if (bits == 0xff800000u) {
            rows[2u * row] = -3.4028234e38;
        } else {
            rows[2u * row] = bitcast<f32>(bits);
        }
        rows[2u * row + 1u] = total;
    }
}
