// flash_dv.wgsl: the gradient of the values, by tiles of queries.
//
// Twin      src/flash.rs `backward`; compared in tests/it/gpu/flash.rs
// Math      dv_j = sum_i e^(s_ij - lse_i) dout_i
//           over the queries of all heads that share the key-value head
// Shapes    inputs as in flash_inputs.wgsl and flash_backward_inputs.wgsl
//           dv     as v
// Grid      linear, one workgroup per 128 columns of 32 keys of a key-value head
// Races     none: each workgroup writes its own elements
// Needs     core WebGPU only; 13.4 KiB of workgroup memory
// Precision f32 sums: over features in fours, over heads and queries in their order

@group(0) @binding(8) var<storage, read_write> dv: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn flash_dv(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    let item = item_at(index, params.n_kv_heads);
    let ty = local_index / 8u;
    let tx = local_index % 8u;
    let past = min(item.first + TILE, item.kv_len);
    // Other queries see no key of the tile.
    let queries = mask_queries(item.first, past, item.q_len, item.kv_len);
    var sums: array<vec4<f32>, 16>;
    for (var in_group = 0u; in_group < params.queries_per_kv; in_group++) {
        let head = item.head * params.queries_per_kv + in_group;
        for (var first = queries.x; first < queries.y; first += TILE) {
            if (tile_is_hidden(item, head, first, item.first, local_index)) {
                continue;
            }
            let scores = key_products(item, head, first, local_index);
            for (var c = 0u; c < 4u; c++) {
                let column = column_of(item, head, first + tx + 8u * c);
                for (var r = 0u; r < 4u; r++) {
                    let weight = column_weight(scores[r][c], item, head, column, item.first + 4u * ty + r);
                    weights[(4u * ty + r) * 33u + tx + 8u * c] = weight.value * weight.factor;
                }
            }
            workgroupBarrier();
            for (var part = 0u; part < TILE && first + part < queries.y; part += 8u) {
                for (var i = local_index; i < 256u; i += INVOCATIONS) {
                    let query = first + part + i / 32u;
                    right_tile[i] = dout_vector(q_row(item, head, query), item.column + 4u * (i % 32u), query < queries.y);
                }
                workgroupBarrier();
                tile_accumulate(&sums, part, ty, tx);
                workgroupBarrier();
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let key = item.first + 4u * ty + r;
        if (key >= item.kv_len) {
            continue;
        }
        let row = kv_row(item, item.head, key) * params.value_dim;
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            let column = item.column + 4u * (tx + 8u * c);
            let x = sums[4u * r + c];
            for (var i = 0u; i < 4u; i++) {
                if (column + i < params.value_dim) {
                    dv[row + column + i] = x[i];
                }
            }
        }
    }
}
