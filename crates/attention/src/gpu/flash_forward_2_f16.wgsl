// flash_forward_2_f16.wgsl: attention by tiles of keys; adds to flash_forward_1_subgroups: tiles in f16, so less workgroup memory.
//
// Twin      src/flash.rs `forward_with_lse`; compared in tests/it/gpu/variants.rs
// Math      as flash_forward.wgsl, with queries, keys and values rounded to f16
// Shapes    inputs as in flash_wide_inputs.wgsl and flash_params.wgsl
//           out    [batch, n_heads, q_len, value_dim] f32, or packed [total, n_heads, value_dim]
//           lse    [batch, n_heads, q_len] f32, or packed [n_heads, total]; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns of 32 queries of a head
// Races     none: each workgroup writes its own elements; the log-sum-exp is written by that of the first columns
// Needs     f16; subgroups of 8 to 64 lanes; head_dim and value_dim in multiples of 4; 9.3 KiB of workgroup memory
// Precision queries, keys and values rounded to f16, those beyond 65504 to that; weights and sums in f32, as flash_forward.wgsl

@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

alias TileVector = vec4<f16>;

fn to_tile(x: vec4<f32>) -> TileVector {
    return TileVector(clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

fn from_tile(x: TileVector) -> vec4<f32> {
    return vec4<f32>(x);
}

@compute @workgroup_size(INVOCATIONS)
fn flash_forward_2_f16(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    forward_tile(index, role_of(subgroup, lane, subgroup_size));
}
