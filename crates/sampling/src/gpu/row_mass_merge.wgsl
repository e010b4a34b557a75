// row_mass_merge.wgsl: the sum of the weights of each row from those of its groups, and its logarithm.
//
// Twin      src/weights.rs `total`; compared in tests/it/gpu/log_normalization.rs
// Math      total = sum of the groups, ln total
// Shapes    partial  [n_rows, n_groups, 2] u32
//           mass     [n_rows, MASS_WORDS] u32: total in units of 2^-WEIGHT_BITS, ln total in units of 2^-32; lower words first
// Grid      linear, one invocation per row
// Races     none: each invocation writes the words of its row
// Needs     core WebGPU only
// Precision the sum is exact, the logarithm right to 2^-29

struct RowMassMergeParams {
    n_rows: u32,
    n_groups: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: RowMassMergeParams;
@group(0) @binding(1) var<storage, read> partial_sums: array<u32>;
@group(0) @binding(2) var<storage, read_write> masses: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn row_mass_merge(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    var total = vec2<u32>(0u, 0u);
    for (var group = 0u; group < params.n_groups; group++) {
        let start = 2u * (row * params.n_groups + group);
        total = wide_add(total, vec2<u32>(partial_sums[start], partial_sums[start + 1u]));
    }
    let logarithm = ln_of_weights(total);
    masses[row * MASS_WORDS] = total.x;
    masses[row * MASS_WORDS + 1u] = total.y;
    masses[row * MASS_WORDS + 2u] = logarithm.x;
    masses[row * MASS_WORDS + 3u] = logarithm.y;
}
