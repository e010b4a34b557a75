// flash_dq.wgsl: the gradient of the queries, by tiles of keys.
//
// Twin      src/flash.rs `backward`; compared in tests/it/gpu/flash.rs
// Math      p_ij = e^(s_ij - lse_i), ds_ij = p_ij (<dout_i, v_j> - <dout_i, out_i>), dq_i = scale sum_j ds_ij k_j
// Shapes    inputs as in flash_inputs.wgsl and flash_backward_inputs.wgsl
//           dq     as q
// Grid      linear, one workgroup per 128 columns of 32 queries of a head
// Races     none: each workgroup writes its own elements
// Needs     core WebGPU only; 13.4 KiB of workgroup memory
// Precision f32 sums: over features in fours, over keys in their order

@group(0) @binding(8) var<storage, read_write> dq: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn flash_dq(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    let item = item_at(index, params.n_heads);
    let kv_head = item.head / params.queries_per_kv;
    let ty = local_index / 8u;
    let tx = local_index % 8u;
    let row = rows_of(item, item.head, ty);
    let last = min(item.first + TILE, item.q_len) - 1u;
    let end = mask_keys(last, item.q_len, item.kv_len).y;
    var sums: array<vec4<f32>, 16>;
    for (var first = mask_keys(item.first, item.q_len, item.kv_len).x; first < end; first += TILE) {
        if (tile_is_hidden(item, item.head, item.first, first, local_index)) {
            continue;
        }
        var ds = ds_tile(item, item.head, kv_head, first, end, local_index, row, true);
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < 4u; c++) {
                weights[(4u * ty + r) * 33u + tx + 8u * c] = ds.rows[r][c];
            }
        }
        workgroupBarrier();
        for (var part = 0u; part < TILE && first + part < end; part += 8u) {
            for (var i = local_index; i < 256u; i += INVOCATIONS) {
                let key = first + part + i / 32u;
                right_tile[i] = k_vector(kv_row(item, kv_head, key), item.column + 4u * (i % 32u), key < end);
            }
            workgroupBarrier();
            tile_accumulate(&sums, part, ty, tx);
            workgroupBarrier();
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let query = item.first + 4u * ty + r;
        if (query >= item.q_len) {
            continue;
        }
        let at = q_row(item, item.head, query) * params.head_dim;
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            let column = item.column + 4u * (tx + 8u * c);
            let x = params.scale * sums[4u * r + c];
            for (var i = 0u; i < 4u; i++) {
                if (column + i < params.head_dim) {
                    dq[at + column + i] = x[i];
                }
            }
        }
    }
}
