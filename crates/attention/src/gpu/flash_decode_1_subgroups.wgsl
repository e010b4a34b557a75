// flash_decode_1_subgroups.wgsl: attention of a single query of each head; adds to flash_decode: vector loads, no barrier from key to key.
//
// Twin      src/flash.rs `forward_with_lse`; compared in tests/it/gpu/decode.rs
// Math      as flash_forward.wgsl, over the keys of one piece
// Shapes    q          [batch, n_heads, seq, head_dim] f32
//           k          [batch, n_kv_heads, kv_len, head_dim] f32
//           v          [batch, n_kv_heads, kv_len, value_dim] f32
//           pieces     [n_pieces, batch, n_heads, seq, value_dim] f32
//           piece_lse  [n_pieces, batch, n_heads, seq] f32; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns, piece, and ROWS rows of a key-value head
// Races     none: teams meet in workgroup memory between barriers; the log-sum-exp is written by the workgroup of the first columns
// Needs     subgroups of 4 to 64 lanes; head_dim and value_dim in multiples of 4; 9 KiB of workgroup memory
// Precision f32 sums: over features in fours, then lanes, over keys of a team in their order, then teams

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> pieces: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> piece_lse: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn flash_decode_1_subgroups(
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
    decode_piece(index, role_of(subgroup, lane, subgroup_size));
}

fn length_of(batch: u32) -> u32 {
    return params.kv_len;
}

fn place_of(batch: u32, kv_head: u32, key: u32) -> u32 {
    return (batch * params.n_kv_heads + kv_head) * params.kv_len + key;
}

fn q_at(i: u32) -> vec4<f32> {
    return q[i];
}

fn k_at(i: u32, place: u32) -> vec4<f32> {
    return k[i];
}

fn v_at(i: u32, place: u32) -> vec4<f32> {
    return v[i];
}
