// four_bit_matvec.wgsl: a few rows times packed weights, each weight read once, and times a low-rank update of them.
//
// Twin      src/matmul.rs `forward`, src/matmul/low_rank.rs `forward`; compared in tests/it/gpu/matmul.rs, tests/it/gpu/low_rank.rs
// Math      y_tj = sum_i x_ti * value(code_ji) * scale of the block of ji + scaling * sum_r low_tr * factor_jr
// Shapes    packed, scales, nested_scales, table as in four_bit_dequantize.wgsl, of [d_out, d_in]
//           x  [seq, d_in] f32, at most 4 rows from first_row on
//           low  [seq, rank] f32, factors  [d_out, rank] f32; any if rank is 0
//           y  [seq, d_out] f32
// Grid      linear, one workgroup per row of weights
// Races     none: each workgroup writes the elements of its row
// Needs     core WebGPU only, all of its eight storage buffers; 256 bytes of workgroup memory
// Precision f32: each weight is rounded, 64 running sums and a tree over them

struct FourBitMatvecParams {
    d_in: u32,
    d_out: u32,
    first_row: u32,
    n_rows: u32,
    block: u32,
    is_nested: u32,
    rank: u32,
    scaling: f32,
}

@group(0) @binding(0) var<uniform> params: FourBitMatvecParams;
@group(0) @binding(1) var<storage, read> packed: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read> nested_scales: array<f32>;
@group(0) @binding(4) var<storage, read> table: array<f32>;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read> low: array<f32>;
@group(0) @binding(7) var<storage, read> factors: array<f32>;
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

const ROWS: u32 = 4u;

@compute @workgroup_size(TREE_INVOCATIONS)
fn four_bit_matvec(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let feature = linear_workgroup(workgroup_id, num_workgroups);
    if (feature >= params.d_out) {
        return;
    }
    let start = feature * params.d_in;
    let end = start + params.d_in;
    var sums = vec4<f32>();
    // A row may begin and end within a word.
    for (var at = start / 8u + local_index; 8u * at < end; at += TREE_INVOCATIONS) {
        let word = packed[at];
        let scale = scale_of(8u * at / params.block);
        let first = max(8u * at, start);
        for (var element = first; element < min(8u * at + 8u, end); element++) {
            let value = value_of(word, element % 8u) * scale;
            let column = element - start;
            for (var row = 0u; row < params.n_rows; row++) {
                sums[row] += x[(params.first_row + row) * params.d_in + column] * value;
            }
        }
    }
    for (var r = local_index; r < params.rank; r += TREE_INVOCATIONS) {
        let factor = params.scaling * factors[feature * params.rank + r];
        for (var row = 0u; row < params.n_rows; row++) {
            sums[row] += low[(params.first_row + row) * params.rank + r] * factor;
        }
    }
    for (var row = 0u; row < params.n_rows; row++) {
        let sum = tree_sum(local_index, sums[row]);
        if (local_index == 0u) {
            y[(params.first_row + row) * params.d_out + feature] = sum;
        }
    }
}
