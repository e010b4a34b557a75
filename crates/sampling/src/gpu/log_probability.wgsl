// log_probability.wgsl: the log-probability of the chosen token of each row.
//
// Twin      src/weights.rs `log_probability`; compared in tests/it/gpu/draws.rs
// Math      y_r = x_(r, token_r) - max_r - ln total_r; NaN where no token was chosen, and for rows that were refused
// Shapes    logits  [n_rows, vocab] bits of f32
//           extent  [n_rows, EXTENT_WORDS] u32
//           mass    [n_rows, MASS_WORDS] u32
//           status  [n_rows, STATUS_WORDS] u32
//           tokens  [n_rows] u32
//           y       [n_rows] bits of f32
// Grid      linear, one invocation per row
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision half a unit in the last place of f32, and 2^-28 + vocab 2^-44

struct LogProbabilityParams {
    n_rows: u32,
    vocab: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: LogProbabilityParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> extents: array<u32>;
@group(0) @binding(3) var<storage, read> masses: array<u32>;
@group(0) @binding(4) var<storage, read> status: array<u32>;
@group(0) @binding(5) var<storage, read> tokens: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn log_probability(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (row >= params.n_rows) {
        return;
    }
    let token = tokens[row];
    if (token >= params.vocab || status[row * STATUS_WORDS] != 0u) {
        y[row] = 0x7fc00000u; // NaN
        return;
    }
    let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
    let logarithm = vec2<u32>(masses[row * MASS_WORDS + 2u], masses[row * MASS_WORDS + 3u]);
    y[row] = log_probability_bits(logits[row * params.vocab + token], largest, logarithm);
}
