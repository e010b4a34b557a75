// row_extent.wgsl: the largest logit of each group of a row, and what must not be there.
//
// Twin      src/rows.rs `finite_max`; compared in tests/it/gpu/temperature.rs
// Math      largest key and its lowest id; lowest id of a NaN; lowest id of +inf
// Shapes    logits   [n_rows, vocab] bits of f32
//           counts   [n_rows, vocab] u32: with only_counted, tokens of count 0 are passed over; else not read
//           partial  [n_rows, n_groups, EXTENT_WORDS] u32
// Grid      linear, one workgroup per group of a row
// Races     none: partial results meet in workgroup memory behind barriers; invocation 0 writes the result
// Needs     core WebGPU only
// Precision exact, in integers

struct RowExtentParams {
    n_rows: u32,
    vocab: u32,
    n_groups: u32,
    only_counted: u32,
}

@group(0) @binding(0) var<uniform> params: RowExtentParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read_write> partial_extents: array<u32>;

var<workgroup> extents: array<vec4<u32>, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS)
fn row_extent(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let place = linear_workgroup(workgroup_id, num_workgroups);
    if (place >= params.n_rows * params.n_groups) {
        return;
    }
    let row = place / params.n_groups;
    let first = place % params.n_groups * GROUP_TOKENS;
    let end = min(first + GROUP_TOKENS, params.vocab);
    var extent = NO_EXTENT;
    for (var token = first + local_index; token < end; token += INVOCATIONS) {
        let index = row * params.vocab + token;
        if (params.only_counted == 1u && counts[index] == 0u) {
            continue;
        }
        extent = extent_merge(extent, extent_of(logits[index], token));
    }
    extents[local_index] = extent;
    for (var width = INVOCATIONS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (local_index < width) {
            extents[local_index] = extent_merge(extents[local_index], extents[local_index + width]);
        }
    }
    if (local_index == 0u) {
        let extent = extents[0];
        let to = place * EXTENT_WORDS;
        partial_extents[to] = extent.x;
        partial_extents[to + 1u] = extent.y;
        partial_extents[to + 2u] = extent.z;
        partial_extents[to + 3u] = extent.w;
    }
}
