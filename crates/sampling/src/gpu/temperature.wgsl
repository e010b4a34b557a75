// temperature.wgsl: logits divided by a number.
//
// Twin      src/temperature.rs `divide`; compared in tests/it/gpu/temperature.rs
// Math      x_i <- x_i / T in f64, rounded once to f32; -inf and +inf stay
// Shapes    status  [n_rows, STATUS_WORDS] u32: rows that were refused stay as they are
//           logits  [n_rows, vocab] bits of f32
// Grid      linear, one invocation per logit
// Races     none: each invocation changes its own logit
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: the division is done in integers

struct TemperatureParams {
    divisor: vec4<u32>,
    n_elements: u32,
    vocab: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: TemperatureParams;
@group(0) @binding(1) var<storage, read> status: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn temperature(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements || status[element / params.vocab * STATUS_WORDS] != 0u) {
        return;
    }
    let bits = logits[element];
    if ((bits & 0x7fffffffu) == INFINITY) {
        return;
    }
    logits[element] = real_to_f32(real_div(real_of_f32(bits), real_of_words(params.divisor)));
}
