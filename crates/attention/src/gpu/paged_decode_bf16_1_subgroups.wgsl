// paged_decode_bf16_1_subgroups.wgsl: attention to pages of bf16; adds to paged_decode_bf16: vector loads, no barrier between keys.
//
// Twin      src/paged.rs `forward_with_lse`; compared in tests/it/gpu/paged.rs
// Math      as flash_forward.wgsl, over the keys of one piece; sequence b has lengths[b] keys
// Shapes    q          [batch, n_heads, seq, head_dim] f32
//           block_table, lengths as in paged_inputs.wgsl
//           k          [n_pages, n_kv_heads, page_size, head_dim] bf16, two in a word
//           v          [n_pages, n_kv_heads, page_size, value_dim] bf16
//           pieces     [n_pieces, batch, n_heads, seq, value_dim] f32
//           piece_lse  [n_pieces, batch, n_heads, seq] f32; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns, piece, and ROWS rows of a key-value head
// Races     none: teams meet in workgroup memory between barriers; the log-sum-exp is written by the workgroup of the first columns
// Needs     subgroups of 4 to 64 lanes; head_dim and value_dim in multiples of 4; 9 KiB of workgroup memory
// Precision f32 sums: over features in fours, then lanes, over keys of a team in their order, then teams

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> v: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> pieces: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> piece_lse: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn paged_decode_bf16_1_subgroups(
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

fn q_at(i: u32) -> vec4<f32> {
    return q[i];
}

fn k_at(i: u32, place: u32) -> vec4<f32> {
    return vec4<f32>(bf16_unpack(k[i].x), bf16_unpack(k[i].y));
}

fn v_at(i: u32, place: u32) -> vec4<f32> {
    return vec4<f32>(bf16_unpack(v[i].x), bf16_unpack(v[i].y));
}
