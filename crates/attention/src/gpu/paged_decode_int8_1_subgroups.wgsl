// paged_decode_int8_1_subgroups.wgsl: attention to pages of 8-bit integers; adds to paged_decode_int8: vector loads, no barrier between keys.
//
// Twin      src/paged.rs `forward_with_lse`; compared in tests/it/gpu/paged.rs
// Math      as flash_forward.wgsl, over the keys of one piece; sequence b has lengths[b] keys
// Shapes    q          [batch, n_heads, seq, head_dim] f32
//           block_table, lengths as in paged_inputs.wgsl
//           k          [n_pages, n_kv_heads, page_size, head_dim] i8, four in a word, the first in the lowest byte
//           v          [n_pages, n_kv_heads, page_size, value_dim] i8
//           scales     [2, n_pages, n_kv_heads, page_size] f32: of the keys, then of the values
//           pieces     [n_pieces, batch, n_heads, seq, value_dim] f32
//           piece_lse  [n_pieces, batch, n_heads, seq] f32; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns, piece, and ROWS rows of a key-value head
// Races     none: teams meet in workgroup memory between barriers; the log-sum-exp is written by the workgroup of the first columns
// Needs     subgroups of 4 to 64 lanes; head_dim and value_dim in multiples of 4; 9 KiB of workgroup memory
// Precision f32 sums: over features in fours, then lanes, over keys of a team in their order, then teams

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k: array<u32>;
@group(0) @binding(5) var<storage, read> v: array<u32>;
@group(0) @binding(6) var<storage, read> scales: array<f32>;
@group(0) @binding(7) var<storage, read_write> pieces: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> piece_lse: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn paged_decode_int8_1_subgroups(
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
    return scales[place] * int8_vector(k[i]);
}

fn v_at(i: u32, place: u32) -> vec4<f32> {
    let n_places = params.n_pages * params.n_kv_heads * params.page_size;
    return scales[n_places + place] * int8_vector(v[i]);
}

fn int8_vector(word: u32) -> vec4<f32> {
    let x = bitcast<i32>(word);
    return vec4<f32>(vec4<i32>(extractBits(x, 0u, 8u), extractBits(x, 8u, 8u), extractBits(x, 16u, 8u), extractBits(x, 24u, 8u)));
}
