// round_trip.wgsl: f32 to packed halves, and what these are in f32; a snippet says which kind of half.
//
// Twin      `from_f32` and `to_f32` of the crate half; compared in tests/it/snippets.rs
// Math      packed = half(x), back = f32(half(x))
// Shapes    x, back  [2 n_words] f32
//           packed   [n_words] u32, two halves each
// Grid      linear: one invocation per word, 64 per workgroup
// Races     none: each invocation owns its word of packed and its two elements of back
// Needs     core WebGPU only (no f16, no subgroups)
// Precision one rounding, to nearest

struct RoundTripParams {
    n_words: u32,
}

@group(0) @binding(0) var<uniform> params: RoundTripParams;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;          // [n_words, 2]
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;     // [n_words]
@group(0) @binding(3) var<storage, read_write> back: array<vec2<f32>>; // [n_words, 2]

@compute @workgroup_size(64)
fn round_trip(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, local_index, 64u, num_workgroups);
    if i >= params.n_words {
        return;
    }
    let word = half_pack(x[i]);
    packed[i] = word;
    back[i] = half_unpack(word);
}
