// flash_ds.wgsl: the gradients of the scores of 32 queries and 32 keys (a snippet, prepended to kernels).

// What an invocation knows of its four queries.
struct Rows {
    seen: array<vec2<u32>, 4>,   // the keys that the mask lets them see
    lse: vec4<f32>,
    inner: vec4<f32>,            // <dout, out>
}

// The rows 4 ty + r of a tile; row 4 ty + r and column tx + 8 c is component c of rows[r].
struct Scores {
    rows: array<vec4<f32>, 4>,
}

fn rows_of(item: Item, head: u32, ty: u32) -> Rows {
    var mine = Rows();
    mine.lse = vec4<f32>(LOWEST);
    for (var r = 0u; r < 4u; r++) {
        let query = item.first + 4u * ty + r;
        if (query < item.q_len) {
            mine.seen[r] = mask_keys(query, item.q_len, item.kv_len);
            let row = 2u * lse_row(item, head, query);
            mine.lse[r] = rows[row];
            mine.inner[r] = rows[row + 1u];
        }
    }
    return mine;
}

// ds_ij = p_ij (<dout_i, v_j> - <dout_i, out_i>) for the queries of the item and the keys first.. before `end`, times the slope of
// the softcap if wanted. All invocations have to call it: it has barriers.
fn ds_tile(
    item: Item, head: u32, kv_head: u32, first: u32, end: u32, local_index: u32, row: Rows, before_softcap: bool,
) -> Scores {
    let ty = local_index / 8u;
    let tx = local_index % 8u;
    var mine = row;
    var scores = array<vec4<f32>, 4>();
    for (var feature = 0u; feature < params.head_dim; feature += 4u * VECTORS) {
        workgroupBarrier();
        for (var i = local_index; i < TILE * VECTORS; i += INVOCATIONS) {
            let place = i / VECTORS;
            let vector = i % VECTORS;
            let query = item.first + place;
            let key = first + place;
            left_tile[place * STRIDE + vector] =
                q_vector(q_row(item, head, query), feature + 4u * vector, query < item.q_len);
            right_tile[place * STRIDE + vector] =
                k_vector(kv_row(item, kv_head, key), feature + 4u * vector, key < end);
        }
        workgroupBarrier();
        tile_product(&scores, ty, tx);
    }
    var grads = array<vec4<f32>, 4>();
    for (var feature = 0u; feature < params.value_dim; feature += 4u * VECTORS) {
        workgroupBarrier();
        for (var i = local_index; i < TILE * VECTORS; i += INVOCATIONS) {
            let place = i / VECTORS;
            let vector = i % VECTORS;
            let query = item.first + place;
            let key = first + place;
            left_tile[place * STRIDE + vector] =
                dout_vector(q_row(item, head, query), feature + 4u * vector, query < item.q_len);
            right_tile[place * STRIDE + vector] =
                v_vector(kv_row(item, kv_head, key), feature + 4u * vector, key < end);
        }
        workgroupBarrier();
        tile_product(&grads, ty, tx);
    }
    var ds = Scores();
    for (var r = 0u; r < 4u; r++) {
        let query = item.first + 4u * ty + r;
        for (var c = 0u; c < 4u; c++) {
            let key = first + tx + 8u * c;
            let score = score_at(scores[r][c], item, head, query, key, mine.seen[r]);
            let weight = weight_of(score.value, mine.lse[r]);
            if (weight > 0.0) {
                let factor = dropout_factor(item, head, query, key);
                ds.rows[r][c] = weight * (factor * grads[r][c] - mine.inner[r]);
                if (before_softcap) {
                    ds.rows[r][c] *= score.slope;
                }
            }
        }
    }
    return ds;
}
