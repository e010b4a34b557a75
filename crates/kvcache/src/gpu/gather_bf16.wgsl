// gather_bf16.wgsl: tokens of pages of bf16, widened, one behind the other.
//
// Twin      src/paged/float.rs `read`, and then widened; compared in tests/it/gpu/pages.rs
// Math      out[b, head, t, d] = pages[place of (token, head), d], or 0 where a token has no place
// Shapes    slots  [batch, seq] u32
//           pages  [n_pages, n_heads, page_size, features] bf16, two in a word
//           out    [batch, n_heads, seq, features] bits of f32
// Grid      linear, one invocation per number
// Races     none: each invocation writes its own number
// Needs     core WebGPU only
// Precision exact; a NaN stays one

@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_bf16(
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
        bits = widened((pages[i / 2u] >> (16u * (i % 2u))) & 0xffffu);
    }
    out[item] = bits;
}

// The bits of the same number as f32. A NaN becomes a quiet one.
fn widened(half: u32) -> u32 {
    let quiet = select(0u, 0x40u, (half & 0x7fffu) > 0x7f80u);
    return (half | quiet) << 16u;
}
