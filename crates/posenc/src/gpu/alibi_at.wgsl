// alibi_at.wgsl: the bias of ALiBi where each batch row has key positions of its own, as with padding.
//
// Twin      src/alibi/at.rs `bias_at`; compared in tests/it/gpu/alibi.rs
// Math      y[b, h, 0, j] = slopes[h] * positions[b, j], as Bloom in transformers 5.23
// Shapes    slopes     [heads] f32
//           positions  [batch, kv_seq] u32
//           y          [batch, heads, 1, kv_seq] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision one product in f32, positions exact below 2^24; with rounding to bfloat16, three roundings to 8 bits

struct AlibiAtParams {
    n_elements: u32,
    heads: u32,
    kv_seq: u32,
    to_bfloat16: u32, // 1 = round slopes, positions and product to bfloat16, as Falcon
}

@group(0) @binding(0) var<uniform> params: AlibiAtParams;
@group(0) @binding(1) var<storage, read> slopes: array<f32>;      // [heads]
@group(0) @binding(2) var<storage, read> positions: array<u32>;   // [batch, kv_seq]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;     // [batch, heads, 1, kv_seq]

override WORKGROUP_SIZE: u32 = 64u;

// To nearest, ties to even; the argument is finite.
fn to_bfloat16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn alibi_at(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let key = element % params.kv_seq;
    let row = element / params.kv_seq;
    let batch = row / params.heads;
    let slope = slopes[row % params.heads];
    let position = f32(positions[batch * params.kv_seq + key]);
    if (params.to_bfloat16 == 1u) {
        y[element] = to_bfloat16(to_bfloat16(slope) * to_bfloat16(position));
    } else {
        y[element] = slope * position;
    }
}
