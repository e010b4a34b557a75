// gather_int4.wgsl: tokens of pages of 4-bit integers, widened, one behind the other.
//
// Twin      src/paged/int4.rs `read`; compared in tests/it/gpu/int4.rs
// Math      out[b, head, t, d] = least + step * code for the place of (token, head), or 0 where a token has no place
// Shapes    slots   [batch, seq] u32
//           pages   [n_pages, n_heads, page_size, ceil(features / 2)] bytes, the even feature in the lower half; four in a word
//           out     [batch, n_heads, seq, features] bits of f32
//           groups  [2, n_pages, n_heads, page_size] u32: of the keys, then of the values; the step in the lower half, the least value in the upper
// Grid      linear, one invocation per number
// Races     none: each invocation writes its own number
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: f32 in integers

@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<storage, read> groups: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_int4(
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
        let feature = item % params.features;
        let byte = place * ((params.features + 1u) / 2u) + feature / 2u;
        let code = (pages[byte / 4u] >> (8u * (byte % 4u) + 4u * (feature % 2u))) & 0xfu;
        let group = groups[params.part * params.n_slots * params.n_heads + place];
        bits = int4_sum(f16_widened(group >> 16u), single_multiple(f16_widened(group & 0xffffu), code));
    }
    out[item] = bits;
}
