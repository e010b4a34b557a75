// alibi.wgsl: the bias matrix of ALiBi.
//
// Twin      src/alibi.rs `bias`; compared in tests/it/gpu/alibi.rs
// Math      y = slope * distance, by the origin; arXiv:2108.12409v2 section 3
// Shapes    slopes  [heads] f32
//           y       [heads, seq, kv_seq] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision one product in f32; distances are exact below 2^24

struct AlibiParams {
    n_elements: u32,
    seq: u32,
    kv_seq: u32,
    origin: u32, // see alibi_score.wgsl
}

@group(0) @binding(0) var<uniform> params: AlibiParams;
@group(0) @binding(1) var<storage, read> slopes: array<f32>;      // [heads]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;     // [heads, seq, kv_seq]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn alibi(
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
    let query = row % params.seq;
    let slope = slopes[row / params.seq];
    y[element] = alibi_score_bias(slope, query, key, params.seq, params.kv_seq, params.origin);
}
