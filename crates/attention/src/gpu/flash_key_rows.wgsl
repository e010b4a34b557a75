// flash_key_rows.wgsl: scores of 32 keys and 32 queries, for gradients whose rows are keys (a snippet, prepended to kernels).
//
// Of the scores, rows are keys and columns are queries: row 4 ty + r and column tx + 8 c is component c of element r.

// What an invocation knows of the query of a column.
struct Column {
    query: u32,
    seen: vec2<u32>,   // the keys that the mask lets it see
    lse: f32,
    inner: f32,        // <dout, out>
}

struct Weight {
    value: f32,        // 0 if the key is hidden
    slope: f32,        // the derivative of the softcap
    factor: f32,       // what dropout multiplies the weight with
}

// <k_j, q_i> for the keys of the item and the queries from `first` on. All invocations have to call it: it has barriers.
fn key_products(item: Item, head: u32, first: u32, local_index: u32) -> array<vec4<f32>, 4> {
    var products = array<vec4<f32>, 4>();
    for (var feature = 0u; feature < params.head_dim; feature += 4u * VECTORS) {
        workgroupBarrier();
        for (var i = local_index; i < TILE * VECTORS; i += INVOCATIONS) {
            let row = i / VECTORS;
            let vector = i % VECTORS;
            let key = item.first + row;
            let query = first + row;
            left_tile[row * STRIDE + vector] =
                k_vector(kv_row(item, item.head, key), feature + 4u * vector, key < item.kv_len);
            right_tile[row * STRIDE + vector] =
                q_vector(q_row(item, head, query), feature + 4u * vector, query < item.q_len);
        }
        workgroupBarrier();
        tile_product(&products, local_index / 8u, local_index % 8u);
    }
    return products;
}

fn column_of(item: Item, head: u32, query: u32) -> Column {
    var column = Column(query, vec2<u32>(), LOWEST, 0.0);
    if (query < item.q_len) {
        column.seen = mask_keys(query, item.q_len, item.kv_len);
        let row = 2u * lse_row(item, head, query);
        column.lse = rows[row];
        column.inner = rows[row + 1u];
    }
    return column;
}

fn column_weight(product: f32, item: Item, head: u32, column: Column, key: u32) -> Weight {
    let score = score_at(product, item, head, column.query, key, column.seen);
    return Weight(weight_of(score.value, column.lse), score.slope, dropout_factor(item, head, column.query, key));
}
