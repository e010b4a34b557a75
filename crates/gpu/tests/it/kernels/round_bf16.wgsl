// round_bf16.wgsl: f32 to packed bf16, and what that is in f32.
//
// Twin      half::bf16::from_f32 and to_f32; compared in tests/it/snippets.rs
// Math      packed = bf16(x), back = f32(bf16(x))
// Shapes    x, back  [2 n_words] f32
//           packed   [n_words] u32, two bf16 each
// Grid      linear: one invocation per word, 64 per workgroup
// Races     none: each invocation owns its word of packed and its two elements of back
// Needs     core WebGPU only (no f16, no subgroups)
// Precision one rounding, to nearest

struct RoundBf16Params {
    n_words: u32,
}

@group(0) @binding(0) var<uniform> params: RoundBf16Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;          // [n_words, 2]
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;     // [n_words]
@group(0) @binding(3) var<storage, read_write> back: array<vec2<f32>>; // [n_words, 2]

@compute @workgroup_size(64)
fn round_bf16(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
) {
    let i = linear_invocation(workgroup_id, local_index, 64u, num_workgroups);
    if i >= params.n_words {
        return;
    }
    let word = bf16_pack(x[i]);
    packed[i] = word;
    back[i] = bf16_unpack(word);
}
