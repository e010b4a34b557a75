// flash_forward_1_subgroups.wgsl: attention by tiles of keys; adds to flash_forward: vector loads, shuffles, half of the barriers.
//
// Twin      src/flash.rs `forward_with_lse`; compared in tests/it/gpu/variants.rs
// Math      as flash_forward.wgsl
// Shapes    inputs as in flash_wide_inputs.wgsl and flash_params.wgsl
//           out    [batch, n_heads, q_len, value_dim] f32, or packed [total, n_heads, value_dim]
//           lse    [batch, n_heads, q_len] f32, or packed [n_heads, total]; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns of 32 queries of a head
// Races     none: each workgroup writes its own elements; the log-sum-exp is written by that of the first columns
// Needs     subgroups of 8 to 64 lanes; head_dim and value_dim in multiples of 4; 13.8 KiB of workgroup memory
// Precision f32 sums: over features in fours, over keys in the order of tiles, relative to the largest score so far

@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

alias TileVector = vec4<f32>;

fn to_tile(x: vec4<f32>) -> TileVector {
    return x;
}

fn from_tile(x: TileVector) -> vec4<f32> {
    return x;
}

@compute @workgroup_size(INVOCATIONS)
fn flash_forward_1_subgroups(
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
