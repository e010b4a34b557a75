// rope_table.wgsl: cosines and sines of positions, for the rotary embedding.
//
// Twin      src/rope/table.rs `RopeTable::new`; compared in tests/it/gpu/rope.rs
// Math      cos = factor cos(m w_i), sin = factor sin(m w_i); m w_i in turns, formed in 64-bit integers
// Shapes    positions    [table_rows] u32
//           frequencies  [n_planes] vec2<u32>, turns per token times 2^64, upper word first
//           cos, sin     [table_rows, n_planes] f32
// Grid      linear, one invocation per element of cos
// Races     none: each invocation writes its own elements
// Needs     core WebGPU only
// Precision 3e-7 times the factor for angles up to 2^30 radians

struct RopeTableParams {
    n_elements: u32,
    n_planes: u32,
    factor: f32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: RopeTableParams;
@group(0) @binding(1) var<storage, read> positions: array<u32>;         // [table_rows]
@group(0) @binding(2) var<storage, read> frequencies: array<vec2<u32>>; // [n_planes]
@group(0) @binding(3) var<storage, read_write> cosines: array<f32>;     // [table_rows, n_planes]
@group(0) @binding(4) var<storage, read_write> sines: array<f32>;       // [table_rows, n_planes]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn rope_table(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let turn = turn_of(positions[element / params.n_planes], frequencies[element % params.n_planes]);
    let value = params.factor * cos_sin_of_turn(turn);
    cosines[element] = value.x;
    sines[element] = value.y;
}
