// presence_frequency.wgsl: what is taken off the logits of tokens that occurred.
//
// Twin      src/presence_frequency.rs `apply`; compared in tests/it/gpu/penalties.rs
// Math      x_i <- x_i - (counts_i frequency + presence), where counts_i > 0; infinite x_i stay
// Shapes    counts  [n_rows, vocab] u32
//           status  [n_rows, STATUS_WORDS] u32: rows that were refused stay as they are
//           logits  [n_rows, vocab] bits of f32
// Grid      linear, one invocation per logit
// Races     none: each invocation changes its own logit
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: three operations of f64 in integers, then rounded to f32

struct PresenceFrequencyParams {
    presence: vec4<u32>,
    frequency: vec4<u32>,
    n_elements: u32,
    vocab: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: PresenceFrequencyParams;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn presence_frequency(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements || status[element / params.vocab * STATUS_WORDS] != 0u) {
        return;
    }
    let bits = logits[element];
    let count = counts[element];
    if (count == 0u || (bits & 0x7fffffffu) == INFINITY) {
        return;
    }
    let times = real_scale(real_of_words(params.frequency), real_of_u32(count));
    var penalty = real_add(times, real_of_words(params.presence));
    if (real_overflows(times)) {
        penalty = times; // infinite in f64
    }
    logits[element] = real_to_limited_f32(real_sub(real_of_f32(bits), penalty));
}
