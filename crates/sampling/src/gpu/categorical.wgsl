// categorical.wgsl: the token of each row at which the sum of the weights passes a share of the total.
//
// Twin      src/categorical.rs `draw`; compared in tests/it/gpu/draws.rs
// Math      token = min { i : w_0 + .. + w_i > u total }; 2^32 - 1 for rows that were refused
// Shapes    logits    [n_rows, vocab] bits of f32
//           extent    [n_rows, EXTENT_WORDS] u32
//           status    [n_rows, STATUS_WORDS] u32
//           partial   [n_rows, n_groups, 2] u32, from row_mass.wgsl
//           uniforms  [n_rows, 2] u32, in units of 2^-64, lower word first
//           tokens    [n_rows] u32
// Grid      linear, one workgroup per row
// Races     none: sums meet in workgroup memory behind barriers; the one invocation that has the token writes it
// Needs     core WebGPU only
// Precision weights as in row_mass.wgsl; sums are exact, in the order of ids

struct CategoricalParams {
    n_rows: u32,
    vocab: u32,
    n_groups: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: CategoricalParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> extents: array<u32>;
@group(0) @binding(3) var<storage, read> status: array<u32>;
@group(0) @binding(4) var<storage, read> partial_sums: array<u32>;
@group(0) @binding(5) var<storage, read> uniforms: array<u32>;
@group(0) @binding(6) var<storage, read_write> tokens: array<u32>;

// Neighbors that one invocation looks at.
const RUN: u32 = GROUP_TOKENS / INVOCATIONS;

var<workgroup> sums: array<vec2<u32>, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS)
fn categorical(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_workgroup(workgroup_id, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    if (status[row * STATUS_WORDS] != 0u) {
        if (local_index == 0u) {
            tokens[row] = NO_TOKEN;
        }
        return;
    }
    var total = vec2<u32>(0u, 0u);
    for (var group = 0u; group < params.n_groups; group++) {
        total = wide_add(total, group_sum(row, group));
    }
    // The first token whose sum is at least this.
    let share = wide_high_product(vec2<u32>(uniforms[2u * row], uniforms[2u * row + 1u]), total);
    var goal = wide_add(share, vec2<u32>(1u, 0u));
    var group = 0u;
    for (; group + 1u < params.n_groups; group++) {
        let sum = group_sum(row, group);
        if (!wide_less(sum, goal)) {
            break;
        }
        goal = wide_sub(goal, sum);
    }
    let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
    let first = group * GROUP_TOKENS + local_index * RUN;
    let end = min(first + RUN, params.vocab);
    var own = vec2<u32>(0u, 0u);
    for (var token = first; token < end; token++) {
        own = wide_add(own, weight_of_logit(logits[row * params.vocab + token], largest));
    }
    sums[local_index] = own;
    for (var distance = 1u; distance < INVOCATIONS; distance *= 2u) {
        workgroupBarrier();
        var sum = sums[local_index];
        if (local_index >= distance) {
            sum = wide_add(sum, sums[local_index - distance]);
        }
        workgroupBarrier();
        sums[local_index] = sum;
    }
    let up_to = sums[local_index];
    var before = wide_sub(up_to, own);
    if (!wide_less(before, goal) || wide_less(up_to, goal)) {
        return;
    }
    for (var token = first; token < end; token++) {
        before = wide_add(before, weight_of_logit(logits[row * params.vocab + token], largest));
        if (!wide_less(before, goal)) {
            tokens[row] = token;
            return;
        }
    }
}

fn group_sum(row: u32, group: u32) -> vec2<u32> {
    let start = 2u * (row * params.n_groups + group);
    return vec2<u32>(partial_sums[start], partial_sums[start + 1u]);
}
