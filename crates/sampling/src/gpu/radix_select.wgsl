// radix_select.wgsl: the digit at which a search reaches its target.
//
// Twin      src/top_p.rs `reach`; compared in tests/it/gpu/top_k.rs, tests/it/gpu/top_p.rs
// Math      the first bucket, in the order of the search, with which the sum is the target or more
// Shapes    partial  [n_rows, n_groups, BUCKETS, BUCKET_WORDS] u32
//           search   [n_rows, SEARCH_WORDS] u32
// Grid      linear, one workgroup per row, one invocation per bucket
// Races     none: sums meet in workgroup memory behind barriers; the one invocation whose bucket it is writes, after all have read
// Needs     core WebGPU only
// Precision exact, in integers

struct RadixSelectParams {
    n_rows: u32,
    n_groups: u32,
    word: u32, // of the composite key
    shift: u32,
    use_mass: u32,
    from_smallest: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: RadixSelectParams;
@group(0) @binding(1) var<storage, read> partial_buckets: array<u32>;
@group(0) @binding(2) var<storage, read_write> search: array<u32>;

// Sums of what is searched along, lower word first, and of numbers.
var<workgroup> sums: array<vec3<u32>, BUCKETS>;

@compute @workgroup_size(INVOCATIONS)
fn radix_select(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_workgroup(workgroup_id, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    let at = row * SEARCH_WORDS;
    let goal = vec2<u32>(search[at + TARGET], search[at + TARGET + 1u]);
    let bucket = select(BUCKETS - 1u - local_index, local_index, params.from_smallest == 1u);
    var number = 0u;
    var mass = vec2<u32>(0u, 0u);
    for (var group = 0u; group < params.n_groups; group++) {
        let start = ((row * params.n_groups + group) * BUCKETS + bucket) * BUCKET_WORDS;
        number += partial_buckets[start];
        mass = wide_add(mass, vec2<u32>(partial_buckets[start + 1u], partial_buckets[start + 2u]));
    }
    let own = select(vec2<u32>(number, 0u), mass, params.use_mass == 1u);
    // Sums up to here, by doubling distances.
    sums[local_index] = vec3<u32>(own, number);
    storageBarrier();
    for (var distance = 1u; distance < BUCKETS; distance *= 2u) {
        workgroupBarrier();
        var sum = sums[local_index];
        if (local_index >= distance) {
            let earlier = sums[local_index - distance];
            sum = vec3<u32>(wide_add(sum.xy, earlier.xy), sum.z + earlier.z);
        }
        workgroupBarrier();
        sums[local_index] = sum;
    }
    let up_to = sums[local_index];
    let before = wide_sub(up_to.xy, own);
    let reaches = wide_less(before, goal) && !wide_less(up_to.xy, goal);
    if (reaches && search[at + PHASE] == SEARCHING) {
        let rest = wide_sub(goal, before);
        search[at + CUT + params.word] |= bucket << params.shift;
        search[at + TARGET] = rest.x;
        search[at + TARGET + 1u] = rest.y;
        search[at + BEFORE] += up_to.z - number;
        search[at + EQUALS] = number;
    }
}
