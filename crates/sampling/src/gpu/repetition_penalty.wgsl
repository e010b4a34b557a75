// repetition_penalty.wgsl: logits of tokens that occurred, divided by the penalty or multiplied with it.
//
// Twin      src/repetition_penalty.rs `penalize`; compared in tests/it/gpu/penalties.rs
// Math      x_i <- x_i / penalty where x_i > 0, x_i penalty else; where counts_i > 0
// Shapes    counts  [n_rows, vocab] u32
//           status  [n_rows, STATUS_WORDS] u32: rows that were refused stay as they are
//           logits  [n_rows, vocab] bits of f32
// Grid      linear, one invocation per logit
// Races     none: each invocation changes its own logit
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: one operation of f64 in integers, rounded once to f32

struct RepetitionPenaltyParams {
    penalty: vec4<u32>,
    n_elements: u32,
    vocab: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: RepetitionPenaltyParams;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn repetition_penalty(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements || status[element / params.vocab * STATUS_WORDS] != 0u) {
        return;
    }
    let bits = logits[element];
    if (counts[element] == 0u || (bits & 0x7fffffffu) == INFINITY) {
        return;
    }
    let x = real_of_f32(bits);
    let penalty = real_of_words(params.penalty);
    if (x.sign == 0u && !real_is_zero(x)) {
        logits[element] = real_to_limited_f32(real_div(x, penalty));
    } else {
        logits[element] = real_to_limited_f32(real_scale(penalty, x));
    }
}
