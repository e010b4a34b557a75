// greedy.wgsl: the token of the largest logit of each row.
//
// Twin      src/greedy.rs `argmax`; compared in tests/it/gpu/draws.rs
// Math      token = min { i : x_i = max_j x_j }; 2^32 - 1 for rows that were refused
// Shapes    extent  [n_rows, EXTENT_WORDS] u32
//           status  [n_rows, STATUS_WORDS] u32
//           tokens  [n_rows] u32
// Grid      linear, one invocation per row
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision exact

struct GreedyParams {
    n_rows: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: GreedyParams;
@group(0) @binding(1) var<storage, read> extents: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn greedy(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    tokens[row] = select(NO_TOKEN, extents[row * EXTENT_WORDS + 1u], status[row * STATUS_WORDS] == 0u);
}
