// write_bf16.wgsl: new tokens into pages of bf16.
//
// Twin      src/paged/float.rs `write`, after a rounding to bf16; compared in tests/it/gpu/pages.rs
// Math      pages[place of (token, head), d] = bf16(x[b, head, t, d])
// Shapes    slots   [batch, seq] u32
//           status  [4] u32: if one is not 0, nothing is written
//           x       [batch, n_heads, seq, features] bits of f32
//           pages   [n_pages, n_heads, page_size, features] bf16, two in a word
// Grid      linear, one invocation per word that a token and head has a part of
// Races     tokens that share a word change their own half of it, atomically; no slot may be named twice
// Needs     core WebGPU only
// Precision rounded to nearest, ties to even, in integers; a NaN stays one

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn write_bf16(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (item >= params.n_items || is_refused()) {
        return;
    }
    write_word(item);
}

fn half_bits(bits: u32) -> u32 {
    return bf16_bits(bits);
}
