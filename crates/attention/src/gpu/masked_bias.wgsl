// masked_bias.wgsl: a bias and a boolean mask as one bias: -inf where the mask hides a key.
//
// Twin      src/score_mods.rs `forward`; compared in tests/it/gpu/score_mods.rs
// Math      y = -inf where mask = hides, else bias, or 0 without one
// Shapes    mask   u32, 0 is false; bias the bits of f32; each with strides, 0 along axes of length 1
//           y      [shape] the bits of f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision exact: bits are copied, so that -inf is one

struct MaskedBiasParams {
    n_elements: u32,
    true_hides: u32,
    has_bias: u32,
    n_heads: u32,
    n_queries: u32,
    n_keys: u32,
    mask_batch: u32,
    mask_head: u32,
    mask_query: u32,
    mask_key: u32,
    bias_batch: u32,
    bias_head: u32,
    bias_query: u32,
    bias_key: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: MaskedBiasParams;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn masked_bias(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let key = element % params.n_keys;
    let query = element / params.n_keys % params.n_queries;
    let head = element / params.n_keys / params.n_queries % params.n_heads;
    let batch = element / params.n_keys / params.n_queries / params.n_heads;
    let m = mask[batch * params.mask_batch + head * params.mask_head + query * params.mask_query + key * params.mask_key];
    var bits = 0u;
    if ((m != 0u) == (params.true_hides != 0u)) {
        bits = 0xff800000u;
    } else if (params.has_bias != 0u) {
        bits = bias[batch * params.bias_batch + head * params.bias_head + query * params.bias_query + key * params.bias_key];
    }
    y[element] = bits;
}
