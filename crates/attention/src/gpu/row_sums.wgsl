// row_sums.wgsl: the sum of each row.
//
// Twin      src/score_mods.rs `backward`; compared in tests/it/gpu/score_mods.rs
// Math      y[r] = sum over c of x[r, c]
// Shapes    x      [n_rows, n_columns] f32
//           y      [n_rows] f32
// Grid      linear, one workgroup per row
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the result
// Needs     core WebGPU only
// Precision f32 sum: over every 64th column, then invocations

struct RowSumsParams {
    n_rows: u32,
    n_columns: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: RowSumsParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(TREE_INVOCATIONS)
fn row_sums(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_workgroup(workgroup_id, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    var sum = 0.0;
    for (var column = local_index; column < params.n_columns; column += TREE_INVOCATIONS) {
        sum += x[row * params.n_columns + column];
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        y[row] = total;
    }
}
