// write_f32.wgsl: new tokens into pages of f32.
//
// Twin      src/paged/float.rs `write`; compared in tests/it/gpu/pages.rs
// Math      pages[place of (token, head), d] = x[b, head, t, d]
// Shapes    slots   [batch, seq] u32
//           status  [4] u32: if one is not 0, nothing is written
//           x       [batch, n_heads, seq, features] bits of f32
//           pages   [n_pages, n_heads, page_size, features] bits of f32
// Grid      linear, one invocation per number
// Races     none, as long as no slot is named twice
// Needs     core WebGPU only
// Precision exact: bits are copied

@group(0) @binding(3) var<storage, read> x: array<u32>;
@group(0) @binding(4) var<storage, read_write> pages: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn write_f32(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (item >= params.n_items || is_refused()) {
        return;
    }
    let place = place_of(item / params.features);
    if (place != NOWHERE) {
        pages[place * params.features + item % params.features] = x[item];
    }
}
