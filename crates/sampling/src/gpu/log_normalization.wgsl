// log_normalization.wgsl: logits replaced by the logarithms of their probabilities.
//
// Twin      src/log_normalization.rs `apply`; compared in tests/it/gpu/log_normalization.rs
// Math      x_i <- x_i - max - ln total; -inf stays
// Shapes    extent  [n_rows, EXTENT_WORDS] u32
//           mass    [n_rows, MASS_WORDS] u32
//           status  [n_rows, STATUS_WORDS] u32: rows that were refused stay as they are
//           logits  [n_rows, vocab] bits of f32
// Grid      linear, one invocation per logit
// Races     none: each invocation changes its own logit
// Needs     core WebGPU only
// Precision half a unit in the last place of f32, and 2^-28 + vocab 2^-44

struct LogNormalizationParams {
    n_elements: u32,
    vocab: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: LogNormalizationParams;
@group(0) @binding(1) var<storage, read> extents: array<u32>;
@group(0) @binding(2) var<storage, read> masses: array<u32>;
@group(0) @binding(3) var<storage, read> status: array<u32>;
@group(0) @binding(4) var<storage, read_write> logits: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn log_normalization(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let row = element / params.vocab;
    if (status[row * STATUS_WORDS] != 0u) {
        return;
    }
    let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
    let logarithm = vec2<u32>(masses[row * MASS_WORDS + 2u], masses[row * MASS_WORDS + 3u]);
    logits[element] = log_probability_bits(logits[element], largest, logarithm);
}
