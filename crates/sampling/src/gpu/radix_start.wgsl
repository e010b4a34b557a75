// radix_start.wgsl: the beginning of a search for the cut of each row.
//
// Twin      src/top_p.rs `apply_sum_inplace`; compared in tests/it/gpu/top_p.rs
// Math      target = n elements; or ceil(share total) of the weights, from the largest; or floor(share total) + 1, from the smallest
// Shapes    mass     [n_rows, MASS_WORDS] u32; not read for numbers of elements
//           status   [n_rows, STATUS_WORDS] u32
//           search   [n_rows, SEARCH_WORDS] u32
// Grid      linear, one invocation per row
// Races     none: each invocation writes the words of its row
// Needs     core WebGPU only
// Precision exact, in integers

struct RadixStartParams {
    share: vec2<u32>, // of 2^64, lower word first
    n_rows: u32,
    n: u32,
    use_mass: u32,
    from_smallest: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: RadixStartParams;
@group(0) @binding(1) var<storage, read> masses: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> search: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn radix_start(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    let at = row * SEARCH_WORDS;
    for (var word = 0u; word <= RULE; word++) { // what is behind is of an earlier search
        search[at + word] = 0u;
    }
    if (status[row * STATUS_WORDS] != 0u) {
        search[at + PHASE] = REFUSED;
        return;
    }
    var goal = vec2<u32>(params.n, 0u);
    if (params.use_mass == 1u) {
        let total = vec2<u32>(masses[row * MASS_WORDS], masses[row * MASS_WORDS + 1u]);
        goal = wide_high_product(params.share, total);
        let is_whole = wide_is_zero(wide_low_product(params.share, total));
        if (params.from_smallest == 1u || !is_whole) {
            goal = wide_add(goal, vec2<u32>(1u, 0u));
        }
    }
    search[at + TARGET] = goal.x;
    search[at + TARGET + 1u] = goal.y;
}
