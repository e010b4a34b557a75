// sinusoidal.wgsl: the sinusoidal encoding of positions.
//
// Twin      src/sinusoidal.rs `encode`; compared in tests/it/gpu/sinusoidal.rs
// Math      sin(m w_i) and cos(m w_i), interleaved or in halves; arXiv:1706.03762v7 section 3.5
// Shapes    positions    [seq] u32
//           frequencies  [n_sines] vec2<u32>, turns per token times 2^64, upper word first
//           y            [seq, d_model] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision 3e-7 for angles up to 2^30 radians

struct SinusoidalParams {
    n_elements: u32,
    d_model: u32,
    n_sines: u32,
    n_cosines: u32,        // n_sines, or one less; features beyond both are 0
    halves: u32,            // 0 = interleaved, 1 = half-split
    padding_idx: u32,      // the position whose row is zero
    has_padding_idx: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: SinusoidalParams;
@group(0) @binding(1) var<storage, read> positions: array<u32>;         // [seq]
@group(0) @binding(2) var<storage, read> frequencies: array<vec2<u32>>; // [n_sines]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;           // [seq, d_model]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn sinusoidal(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let position = positions[element / params.d_model];
    let feature = element % params.d_model;
    var index = feature / 2u;
    var is_cosine = (feature & 1u) == 1u;
    if (params.halves == 1u) {
        is_cosine = feature >= params.n_sines;
        index = select(feature, feature - params.n_sines, is_cosine);
    }
    let is_padding = params.has_padding_idx == 1u && position == params.padding_idx;
    if (is_padding || index >= select(params.n_sines, params.n_cosines, is_cosine)) {
        y[element] = 0.0;
        return;
    }
    // ANCHOR: value
    let value = cos_sin_of_turn(turn_of(position, frequencies[index]));
    y[element] = select(value.y, value.x, is_cosine);
    // ANCHOR_END: value
}
