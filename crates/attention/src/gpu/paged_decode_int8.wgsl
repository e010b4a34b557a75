// paged_decode_int8.wgsl: attention to keys and values in pages of 8-bit integers, in pieces of the keys.
//
// Twin      src/paged.rs `forward_with_lse`; compared in tests/it/gpu/paged.rs
// Math      as flash_forward.wgsl, over the keys of one piece; sequence b has lengths[b] keys
// Shapes    q         [batch, n_heads, seq, head_dim] f32
//           block_table, lengths as in paged_inputs.wgsl
//           k         [n_pages, n_kv_heads, page_size, head_dim] i8, four in a word, the first in the lowest byte
//           v         [n_pages, n_kv_heads, page_size, value_dim] i8
//           scales    [2, n_pages, n_kv_heads, page_size] f32: of the keys, then of the values
//           pieces    [n_pieces, batch, n_heads, seq, value_dim] f32
//           piece_lse [n_pieces, batch, n_heads, seq] f32; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns, piece, and 8 rows of a key-value head
// Races     none: each workgroup writes its own elements; the log-sum-exp is written by that of the first columns
// Needs     core WebGPU only; 6.7 KiB of workgroup memory
// Precision f32 sums: over features in fours, over keys in their order, relative to the largest score so far

@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read> k: array<u32>;
@group(0) @binding(5) var<storage, read> v: array<u32>;
@group(0) @binding(6) var<storage, read> scales: array<f32>;
@group(0) @binding(7) var<storage, read_write> pieces: array<f32>;
@group(0) @binding(8) var<storage, read_write> piece_lse: array<f32>;

@compute @workgroup_size(64)
fn paged_decode_int8(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    decode_piece(index, local_index);
}

fn q_element(i: u32) -> f32 {
    return q[i];
}

fn k_element(i: u32, place: u32) -> f32 {
    return scales[place] * int8_at(k[i / 4u], i % 4u);
}

fn v_element(i: u32, place: u32) -> f32 {
    let n_places = params.n_pages * params.n_kv_heads * params.page_size;
    return scales[n_places + place] * int8_at(v[i / 4u], i % 4u);
}

fn int8_at(word: u32, place: u32) -> f32 {
    return f32(extractBits(bitcast<i32>(word), 8u * place, 8u));
}
