// min_p.wgsl: the cut of min-p.
//
// Twin      src/min_p.rs `apply`; compared in tests/it/gpu/min_p.rs
// Math      cut = the smallest f32 that is at least max + ln min_p; with has_floor not above the cut that a search for the least number
//           of tokens has found
// Shapes    extent  [n_rows, EXTENT_WORDS] u32
//           status  [n_rows, STATUS_WORDS] u32
//           search  [n_rows, SEARCH_WORDS] u32
// Grid      linear, one invocation per row
// Races     none: each invocation writes the words of its row
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: the sum is one of f64, in integers

struct MinPParams {
    logarithm: vec4<u32>, // of min_p
    n_rows: u32,
    has_floor: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: MinPParams;
@group(0) @binding(1) var<storage, read> extents: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> search: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn min_p(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    let at = row * SEARCH_WORDS;
    if (status[row * STATUS_WORDS] != 0u) {
        search[at + PHASE] = REFUSED;
        return;
    }
    let bound = real_add(real_of_f32(bits_of_key(extents[row * EXTENT_WORDS])), real_of_words(params.logarithm));
    let rounded = real_to_f32(bound);
    var cut = key_of_bits(rounded);
    // A bound below all finite numbers keeps all of these.
    if ((rounded & 0x7fffffffu) != INFINITY && real_less(real_of_f32(rounded), bound)) {
        cut += 1u;
    }
    if (params.has_floor == 1u) {
        cut = min(cut, search[at + CUT]);
    }
    search[at + CUT] = cut;
    search[at + RULE] = ALL_STAY;
    search[at + PHASE] = FOUND;
}
