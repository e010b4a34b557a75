// gather_int8.wgsl: tokens of pages of 8-bit integers, widened, one behind the other.
//
// Twin      src/paged/int8.rs `read`; compared in tests/it/gpu/int8.rs
// Math      out[b, head, t, d] = scales[place] * pages[place, d] for the place of (token, head), or 0 where a token has no place
// Shapes    slots   [batch, seq] u32
//           pages   [n_pages, n_heads, page_size, features] i8, four in a word, the first in the lowest byte
//           out     [batch, n_heads, seq, features] bits of f32
//           scales  [2, n_pages, n_heads, page_size] bits of f32: of the keys, then of the values
// Grid      linear, one invocation per number
// Races     none: each invocation writes its own number
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: f32 in integers

@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_int8(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (item >= params.n_items) {
        return;
    }
    let place = place_of(item / params.features);
    var bits = 0u;
    if (place != NOWHERE) {
        let i = place * params.features + item % params.features;
        let code = extractBits(bitcast<i32>(pages[i / 4u]), 8u * (i % 4u), 8u);
        let scale = scales[params.part * params.n_slots * params.n_heads + place];
        bits = single_multiple(scale, u32(abs(code))) | select(0u, 0x80000000u, code < 0);
    }
    out[item] = bits;
}
