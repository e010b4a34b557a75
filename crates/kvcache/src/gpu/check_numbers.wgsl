// check_numbers.wgsl: whether new keys or values can be quantized.
//
// Twin      src/affine.rs `check`; compared in tests/it/gpu/int8.rs
// Math      status[1 + part] = max of 2^32 - 1 - i over the numbers i (token, then head, then feature) with |x| above the limit or NaN
// Shapes    slots   [batch, seq] u32: tokens without a slot are not looked at
//           x       [batch, n_heads, seq, features] bits of f32
//           status  [4] u32; [3] is the limit, if something was found
// Grid      linear, one invocation per number
// Races     maxima by atomic operations: their order changes nothing
// Needs     core WebGPU only
// Precision exact: bits are compared

// `row_items` has the bits of the limit.
@group(0) @binding(2) var<storage, read> x: array<u32>;
@group(0) @binding(3) var<storage, read_write> status: array<atomic<u32>>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn check_numbers(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (item >= params.n_items || (x[item] & 0x7fffffffu) <= params.row_items) {
        return;
    }
    let row = item / params.features;
    if (place_of(row) == NOWHERE) {
        return;
    }
    let token = row / (params.n_heads * params.seq) * params.seq + row % params.seq;
    let head = row / params.seq % params.n_heads;
    let index = (token * params.n_heads + head) * params.features + item % params.features;
    atomicMax(&status[1u + params.part], 0xffffffffu - index);
    atomicMax(&status[3], params.row_items);
}
