// kerple.wgsl: the bias matrix of KERPLE.
//
// Twin      src/kerple.rs `bias`; compared in tests/it/gpu/kerple.rs
// Math      y = -r1 log(1 + r2 |m - n|) or -r1 |m - n|^r2; arXiv:2205.09921v2 section 3
// Shapes    r1, r2  [heads] f32
//           y       [heads, seq, kv_seq] f32; the last query stands at the last key
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision log, exp2 and log2 of the device: 2^-21 absolute near 1 and some units in the last place elsewhere

struct KerpleParams {
    n_elements: u32,
    seq: u32,
    kv_seq: u32,
    kernel: u32, // see kerple_score.wgsl
}

@group(0) @binding(0) var<uniform> params: KerpleParams;
@group(0) @binding(1) var<storage, read> r1: array<f32>;        // [heads]
@group(0) @binding(2) var<storage, read> r2: array<f32>;        // [heads]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;   // [heads, seq, kv_seq]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn kerple(
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
    let head = row / params.seq;
    let distance = abs(i32(query) + i32(params.kv_seq) - i32(params.seq) - i32(key));
    y[element] = kerple_score_bias(r1[head], r2[head], f32(distance), params.kernel);
}
