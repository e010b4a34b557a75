// row_mass.wgsl: the sum of the weights of each group of a row.
//
// Twin      src/weights.rs `total`; compared in tests/it/gpu/log_normalization.rs
// Math      sum over i of e^(x_i - max), in units of 2^-WEIGHT_BITS
// Shapes    logits   [n_rows, vocab] bits of f32
//           extent   [n_rows, EXTENT_WORDS] u32
//           status   [n_rows, STATUS_WORDS] u32: rows that were refused have sums of no meaning
//           partial  [n_rows, n_groups, 2] u32, lower word first
// Grid      linear, one workgroup per group of a row
// Races     none: sums meet in workgroup memory behind barriers; invocation 0 writes the result
// Needs     core WebGPU only
// Precision a weight is right to 2^-28 of itself and half a unit; sums are exact

struct RowMassParams {
    n_rows: u32,
    vocab: u32,
    n_groups: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: RowMassParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> extents: array<u32>;
@group(0) @binding(3) var<storage, read> status: array<u32>;
@group(0) @binding(4) var<storage, read_write> partial_sums: array<u32>;

var<workgroup> sums: array<vec2<u32>, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS)
fn row_mass(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let place = linear_workgroup(workgroup_id, num_workgroups);
    if (place >= params.n_rows * params.n_groups) {
        return;
    }
    let row = place / params.n_groups;
    if (status[row * STATUS_WORDS] != 0u) {
        return;
    }
    let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
    let first = place % params.n_groups * GROUP_TOKENS;
    let end = min(first + GROUP_TOKENS, params.vocab);
    var sum = vec2<u32>(0u, 0u);
    for (var token = first + local_index; token < end; token += INVOCATIONS) {
        sum = wide_add(sum, weight_of_logit(logits[row * params.vocab + token], largest));
    }
    sums[local_index] = sum;
    for (var width = INVOCATIONS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (local_index < width) {
            sums[local_index] = wide_add(sums[local_index], sums[local_index + width]);
        }
    }
    if (local_index == 0u) {
        partial_sums[2u * place] = sums[0].x;
        partial_sums[2u * place + 1u] = sums[0].y;
    }
}
