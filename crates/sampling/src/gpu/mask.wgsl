// mask.wgsl: logits of forbidden tokens become -inf.
//
// Twin      src/suppress.rs `apply`; compared in tests/it/gpu/mask.rs
// Math      x_i <- -inf where bit i of the mask equals hides
// Shapes    mask    [n_rows or 1, ceil(vocab / 32)] u32, the lowest bit first
//           status  [n_rows, STATUS_WORDS] u32: rows that were refused stay as they are
//           logits  [n_rows, vocab] bits of f32
// Grid      linear, one invocation per logit
// Races     none: each invocation changes its own logit
// Needs     core WebGPU only
// Precision exact

struct MaskParams {
    n_elements: u32,
    vocab: u32,
    mask_stride: u32, // 0 if all rows have one
    hides: u32,       // the bit of a forbidden token
}

@group(0) @binding(0) var<uniform> params: MaskParams;
@group(0) @binding(1) var<storage, read> mask_bits: array<u32>;
@group(0) @binding(2) var<storage, read> status: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn mask(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements || status[element / params.vocab * STATUS_WORDS] != 0u) {
        return;
    }
    let row = element / params.vocab;
    let token = element % params.vocab;
    let word = mask_bits[row * params.mask_stride + token / 32u];
    if (((word >> (token % 32u)) & 1u) == params.hides) {
        logits[element] = MASKED;
    }
}
