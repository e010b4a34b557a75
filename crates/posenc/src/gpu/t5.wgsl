// t5.wgsl: T5's relative bias.
//
// Twin      src/t5.rs `bias`; compared in tests/it/gpu/t5.rs
// Math      y[h, i, j] = table[bucket(j - i - past), h]; arXiv:1910.10683v4 section 2.1
// Shapes    table    [n_buckets, heads] f32
//           buckets  [seq + kv_seq - 1] u32, the bucket of each diagonal key - query + seq - 1
//           y        [heads, seq, kv_seq] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision exact

struct T5Params {
    n_elements: u32,
    heads: u32,
    seq: u32,
    kv_seq: u32,
}

@group(0) @binding(0) var<uniform> params: T5Params;
@group(0) @binding(1) var<storage, read> table: array<u32>;     // [n_buckets, heads], bits of f32
@group(0) @binding(2) var<storage, read> buckets: array<u32>;   // [seq + kv_seq - 1]
@group(0) @binding(3) var<storage, read_write> y: array<u32>;   // [heads, seq, kv_seq], bits of f32

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn t5(
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
    // As bits, so that NaN and denormal numbers pass unchanged.
    y[element] = table[buckets[key + params.seq - 1u - query] * params.heads + head];
}
