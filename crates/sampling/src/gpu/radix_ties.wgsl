// radix_ties.wgsl: how many of the tokens at the cut stay, and the search for the last or first of them.
//
// Twin      src/top_p.rs `apply_sum_inplace`; compared in tests/it/gpu/top_k.rs, tests/it/gpu/top_p.rs
// Math      w = e^(cut - max), R = what is left of the target
//           EXACT     R of the lowest ids stay
//           LARGEST   ceil(R / w) of the lowest ids stay
//           SMALLEST  floor((R - 1) / w) of the lowest ids go
//           at least `least` tokens stay (LARGEST, SMALLEST): else the cut is that of the search before
//           FLOOR     what this search found is kept for that
// Shapes    extent  [n_rows, EXTENT_WORDS] u32; read for weights only
//           search  [n_rows, SEARCH_WORDS] u32
// Grid      linear, one invocation per row
// Races     none: each invocation writes the words of its row
// Needs     core WebGPU only
// Precision weights as in row_mass.wgsl

struct RadixTiesParams {
    n_rows: u32,
    vocab: u32,
    kind: u32,
    least: u32,
}

const EXACT: u32 = 0u;
const LARGEST: u32 = 1u;
const SMALLEST: u32 = 2u;
const FLOOR: u32 = 3u;

@group(0) @binding(0) var<uniform> params: RadixTiesParams;
@group(0) @binding(1) var<storage, read> extents: array<u32>;
@group(0) @binding(2) var<storage, read_write> search: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn radix_ties(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    let at = row * SEARCH_WORDS;
    if (search[at + PHASE] == REFUSED) {
        return;
    }
    let rest = vec2<u32>(search[at + TARGET], search[at + TARGET + 1u]);
    var equals = search[at + EQUALS];
    if (params.kind == FLOOR) {
        search[at + FLOOR_CUT] = search[at + CUT];
        search[at + FLOOR_STAY] = rest.x;
        search[at + FLOOR_EQUALS] = equals;
        return;
    }
    var stay = rest.x;
    if (params.kind != EXACT) {
        let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
        let weight = weight_of_logit(bits_of_key(search[at + CUT]), largest);
        let less = wide_quotient(wide_sub(rest, vec2<u32>(1u, 0u)), weight);
        var kept = 0u;
        if (params.kind == LARGEST) {
            stay = min(less + 1u, equals);
            kept = search[at + BEFORE] + stay;
        } else {
            stay = equals - min(less, equals - 1u);
            kept = params.vocab - search[at + BEFORE] - (equals - stay);
        }
        if (kept < params.least) {
            search[at + CUT] = search[at + FLOOR_CUT];
            stay = search[at + FLOOR_STAY];
            equals = search[at + FLOOR_EQUALS];
        }
    }
    // The search goes on along the ids of these, from the lowest.
    let is_low = params.kind != SMALLEST;
    let goal = select(equals - stay, stay, is_low);
    let none = stay >= equals;
    search[at + PHASE] = select(SEARCHING, FOUND, none);
    search[at + RULE] = select(select(HIGH_STAY, LOW_STAY, is_low), ALL_STAY, none);
    search[at + TARGET] = goal;
    search[at + TARGET + 1u] = 0u;
}
