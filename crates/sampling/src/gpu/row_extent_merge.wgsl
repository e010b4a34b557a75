// row_extent_merge.wgsl: the extent of each row from those of its groups, and whether the row is refused.
//
// Twin      src/rows.rs `finite_max`; compared in tests/it/gpu/temperature.rs
// Math      the extent is that of row_extent.wgsl; a row that was not refused is now, for the first of these that holds: a NaN; and where
//           asked for: a largest logit of +inf, one of -inf, one that overflows when it is divided by the temperature
// Shapes    partial  [n_rows, n_groups, EXTENT_WORDS] u32
//           extent   [n_rows, EXTENT_WORDS] u32
//           status   [n_rows, STATUS_WORDS] u32: reason, token, bits of its logit, bits of the divisor
// Grid      linear, one invocation per row
// Races     none: each invocation writes the words of its row
// Needs     core WebGPU only
// Precision exact, in integers

struct RowExtentMergeParams {
    divisor: vec4<u32>, // the temperature, if there is one
    n_rows: u32,
    n_groups: u32,
    forbids_infinity: u32,
    forbids_masked: u32,
    has_divisor: u32,
    divisor_low: u32, // the bits of its f64
    divisor_high: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: RowExtentMergeParams;
@group(0) @binding(1) var<storage, read> partial_extents: array<u32>;
@group(0) @binding(2) var<storage, read_write> extents: array<u32>;
@group(0) @binding(3) var<storage, read_write> status: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn row_extent_merge(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    var extent = NO_EXTENT;
    for (var group = 0u; group < params.n_groups; group++) {
        let start = (row * params.n_groups + group) * EXTENT_WORDS;
        let next = vec4<u32>(
            partial_extents[start],
            partial_extents[start + 1u],
            partial_extents[start + 2u],
            partial_extents[start + 3u],
        );
        extent = extent_merge(extent, next);
    }
    let to = row * EXTENT_WORDS;
    extents[to] = extent.x;
    extents[to + 1u] = extent.y;
    extents[to + 2u] = extent.z;
    extents[to + 3u] = extent.w;
    let place = row * STATUS_WORDS;
    if (status[place] != 0u) {
        return;
    }
    let largest = bits_of_key(extent.x);
    if (extent.z != NO_TOKEN) {
        status[place] = 1u; // NaN
        status[place + 1u] = extent.z;
    } else if (params.forbids_infinity == 1u && extent.w != NO_TOKEN) {
        status[place] = 2u; // +inf
        status[place + 1u] = extent.w;
    } else if (params.forbids_masked == 1u && extent.x <= MASKED_KEY) {
        status[place] = 3u; // all masked
    } else if (params.has_divisor == 1u && extent.w == NO_TOKEN && extent.x > MASKED_KEY) {
        let quotient = real_to_f32(real_div(real_of_f32(largest), real_of_words(params.divisor)));
        if ((quotient & 0x7fffffffu) == INFINITY) {
            status[place] = 4u; // overflow
            status[place + 1u] = extent.y;
            status[place + 2u] = largest;
            status[place + 3u] = params.divisor_low;
            status[place + 4u] = params.divisor_high;
        }
    }
}
