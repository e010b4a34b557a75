// flash_dq.wgsl: the gradient of the queries, by tiles of keys.
//
// Twin      src/flash.rs `backward`; compared in tests/it/gpu/flash.rs
// Math      p_ij = e^(s_ij - lse_i), ds_ij = p_ij (<dout_i, v_j> - <dout_i, out_i>), dq_i = scale sum_j ds_ij k_j
// Shapes    inputs as in flash_inputs.wgsl and flash_backward_inputs.wgsl
//           dq     as q
// Grid      linear, one workgroup per 128 columns of 32 queries of a head
// Races     none: each workgroup writes its own elements
// Needs     core WebGPU only; 13.1 KiB of workgroup memory
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
    var seen: array<vec2<u32>, 4>;
    var row_lse = vec4<f32>(LOWEST);
    var row_inner = vec4<f32>();
    for (var r = 0u; r < 4u; r++) {
        let query = item.first + 4u * ty + r;
        if (query < item.q_len) {
            seen[r] = mask_keys(query, item.q_len, item.kv_len);
            let row = 2u * lse_row(item, item.head, query);
            row_lse[r] = rows[row];
            row_inner[r] = rows[row + 1u];
        }
    }
    let last = min(item.first + TILE, item.q_len) - 1u;
    let end = mask_keys(last, item.q_len, item.kv_len).y;
    var sums: array<vec4<f32>, 16>;
    for (var first = mask_keys(item.first, item.q_len, item.kv_len).x; first < end; first += TILE) {
        var scores: array<vec4<f32>, 4>;
        for (var feature = 0u; feature < params.head_dim; feature += 4u * VECTORS) {
            workgroupBarrier();
            for (var i = local_index; i < TILE * VECTORS; i += INVOCATIONS) {
                let row = i / VECTORS;
                let vector = i % VECTORS;
                let query = item.first + row;
                let key = first + row;
                left_tile[row * STRIDE + vector] =
                    q_vector(q_row(item, item.head, query), feature + 4u * vector, query < item.q_len);
                right_tile[row * STRIDE + vector] =
                    k_vector(kv_row(item, kv_head, key), feature + 4u * vector, key < end);
            }
            workgroupBarrier();
            tile_product(&scores, ty, tx);
        }
        var grads: array<vec4<f32>, 4>;
        for (var feature = 0u; feature < params.value_dim; feature += 4u * VECTORS) {
            workgroupBarrier();
            for (var i = local_index; i < TILE * VECTORS; i += INVOCATIONS) {
                let row = i / VECTORS;
                let vector = i % VECTORS;
                let query = item.first + row;
                let key = first + row;
                left_tile[row * STRIDE + vector] =
                    dout_vector(q_row(item, item.head, query), feature + 4u * vector, query < item.q_len);
                right_tile[row * STRIDE + vector] =
                    v_vector(kv_row(item, kv_head, key), feature + 4u * vector, key < end);
            }
            workgroupBarrier();
            tile_product(&grads, ty, tx);
        }
        for (var r = 0u; r < 4u; r++) {
            let query = item.first + 4u * ty + r;
            for (var c = 0u; c < 4u; c++) {
                let column = tx + 8u * c;
                let score = score_at(scores[r][c], item, item.head, query, first + column, seen[r]);
                let weight = weight_of(score.value, row_lse[r]);
                let factor = dropout_factor(item, item.head, query, first + column);
                let ds = weight * (factor * grads[r][c] - row_inner[r]) * score.slope;
                weights[(4u * ty + r) * 33u + column] = ds;
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
        let row = q_row(item, item.head, query) * params.head_dim;
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            let column = item.column + 4u * (tx + 8u * c);
            let x = params.scale * sums[4u * r + c];
            for (var i = 0u; i < 4u; i++) {
                if (column + i < params.head_dim) {
                    dq[row + column + i] = x[i];
                }
            }
        }
    }
}
