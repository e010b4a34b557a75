// linear_probe.wgsl: what `linear_invocation` says for places that no real grid reaches.
//
// Twin      tests/it/snippets.rs, in u128
// Math      out = min((((z * ny + y) * nx) + x) * size + local, 2^32 - 1)
// Shapes    places  [n, 8] u32: x, y, z, nx, ny, nz, size, local
//           out     [n] u32
// Grid      linear: one invocation per place, 64 per workgroup
// Races     none: each invocation owns its element of out
// Needs     core WebGPU only (no f16, no subgroups)
// Precision exact

struct LinearProbeParams {
    n: u32,
}

@group(0) @binding(0) var<uniform> params: LinearProbeParams;
@group(0) @binding(1) var<storage, read> places: array<u32>;    // [n, 8]
@group(0) @binding(2) var<storage, read_write> out: array<u32>; // [n]

@compute @workgroup_size(64)
fn linear_probe(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.n {
        return;
    }
    let p = 8u * id.x;
    let workgroup_id = vec3<u32>(places[p], places[p + 1u], places[p + 2u]);
    let num_workgroups = vec3<u32>(places[p + 3u], places[p + 4u], places[p + 5u]);
    out[id.x] = linear_invocation(workgroup_id, places[p + 7u], places[p + 6u], num_workgroups);
}
