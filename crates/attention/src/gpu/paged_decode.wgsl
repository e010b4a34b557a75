// paged_decode.wgsl: attention to keys and values in pages of f32, in pieces of the keys.
//
// Twin      src/paged.rs `forward_with_lse`; compared in tests/it/gpu/paged.rs
// Math      as flash_forward.wgsl, over the keys of one piece; sequence b has lengths[b] keys
// Shapes    q         [batch, n_heads, seq, head_dim] f32
//           block_table, lengths as in paged_inputs.wgsl
//           k         [n_pages, n_kv_heads, page_size, head_dim] f32
//           v         [n_pages, n_kv_heads, page_size, value_dim] f32
//           pieces    [n_pieces, batch, n_heads, seq, value_dim] f32
//           piece_lse [n_pieces, batch, n_heads, seq] f32; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns, piece, and 8 rows of a key-value head
// Races     none: each workgroup writes its own elements; the log-sum-exp is written by that of the first columns
// Needs     core WebGPU only; 6.7 KiB of workgroup memory
// Precision f32 sums: over features in fours, over keys in their order, relative to the largest score so far

@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read> k: array<f32>;
@group(0) @binding(5) var<storage, read> v: array<f32>;
@group(0) @binding(6) var<storage, read_write> pieces: array<f32>;
@group(0) @binding(7) var<storage, read_write> piece_lse: array<f32>;

@compute @workgroup_size(64)
fn paged_decode(
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
    return k[i];
}

fn v_element(i: u32, place: u32) -> f32 {
    return v[i];
}
