// clear_places.wgsl: zeros where tokens will be written.
//
// Twin      src/paged/data.rs `clear`; compared in tests/it/gpu/pages.rs
// Math      all bytes of (token, head) = 0
// Shapes    slots   [n_tokens] u32
//           status  [4] u32: if one is not 0, nothing is written
//           pages   [n_pages, n_heads, page_size, features] bytes, four in a word
// Grid      linear, one invocation per word that a token and head has a part of
// Races     tokens that share a word change their own bytes of it, atomically
// Needs     core WebGPU only
// Precision exact

// `features` are bytes here, and `seq` is all tokens.
@group(0) @binding(3) var<storage, read_write> pages: array<atomic<u32>>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn clear_places(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (item >= params.n_items || is_refused()) {
        return;
    }
    let place = place_of(item / params.row_items);
    if (place == NOWHERE) {
        return;
    }
    let first = (params.part * params.n_slots * params.n_heads + place) * params.features;
    let word = first / 4u + item % params.row_items;
    let mask = byte_mask(word, first, params.features);
    if (mask != 0u) {
        atomicAnd(&pages[word], ~mask);
    }
}
