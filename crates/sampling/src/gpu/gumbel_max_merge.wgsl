// gumbel_max_merge.wgsl: the token of each row from the best ones of its groups.
//
// Twin      src/gumbel_max.rs `choose`; compared in tests/it/gpu/draws.rs
// Math      token of the largest score, of equals the lowest; 2^32 - 1 for rows that were refused
// Shapes    partial  [n_rows, n_groups, 3] u32
//           status   [n_rows, STATUS_WORDS] u32
//           tokens   [n_rows] u32
// Grid      linear, one invocation per row
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision exact

struct GumbelMaxMergeParams {
    n_rows: u32,
    n_groups: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: GumbelMaxMergeParams;
@group(0) @binding(1) var<storage, read> partial_best: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gumbel_max_merge(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    var score = vec2<u32>(0u, 0u);
    var token = NO_TOKEN;
    for (var group = 0u; group < params.n_groups; group++) { // in the order of ids
        let start = 3u * (row * params.n_groups + group);
        let next = vec2<u32>(partial_best[start], partial_best[start + 1u]);
        if (wide_less(score, next)) {
            score = next;
            token = partial_best[start + 2u];
        }
    }
    tokens[row] = select(NO_TOKEN, token, status[row * STATUS_WORDS] == 0u);
}
