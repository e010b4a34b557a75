// gather_f32.wgsl: tokens of pages of f32, one behind the other.
//
// Twin      src/paged/float.rs `read`; compared in tests/it/gpu/pages.rs
// Math      out[b, head, t, d] = pages[place of (token, head), d], or 0 where a token has no place
// Shapes    slots  [batch, seq] u32
//           pages  [n_pages, n_heads, page_size, features] bits of f32
//           out    [batch, n_heads, seq, features] bits of f32
// Grid      linear, one invocation per number
// Races     none: each invocation writes its own number
// Needs     core WebGPU only
// Precision exact: bits are copied

@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_f32(
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
        bits = pages[place * params.features + item % params.features];
    }
    out[item] = bits;
}
