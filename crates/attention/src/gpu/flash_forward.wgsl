// flash_forward.wgsl: attention by tiles of keys with an online softmax.
//
// Twin      src/flash.rs `forward_with_lse`; compared in tests/it/gpu/flash.rs
// Math      out_i = sum_j e^(s_ij - lse_i) v_j, lse_i = ln sum_j e^(s_ij); s_ij as in flash_score.wgsl, over the keys of mask.wgsl
// Shapes    inputs as in flash_inputs.wgsl
//           out    [batch, n_heads, q_len, value_dim] f32, or packed [total, n_heads, value_dim]
//           lse    [batch, n_heads, q_len] f32, or packed [n_heads, total]; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns of 32 queries of a head
// Races     none: each workgroup writes its own elements; the log-sum-exp is written by that of the first columns
// Needs     core WebGPU only; 15.4 KiB of workgroup memory
// Precision f32 sums: over features in fours, over keys in the order of tiles, relative to the largest score so far

@group(0) @binding(6) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

var<workgroup> partial_top: array<f32, 256>;   // [TILE, 8]
var<workgroup> partial_total: array<f32, 256>;

@compute @workgroup_size(INVOCATIONS)
fn flash_forward(
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
    for (var r = 0u; r < 4u; r++) {
        seen[r] = mask_keys(item.first + 4u * ty + r, item.q_len, item.kv_len);
        if (item.first + 4u * ty + r >= item.q_len) {
            seen[r] = vec2<u32>();
        }
    }
    let last = min(item.first + TILE, item.q_len) - 1u;
    let end = mask_keys(last, item.q_len, item.kv_len).y;
    var sums: array<vec4<f32>, 16>;
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    // Tiles before the first key that the first query sees, and behind the last that the last one does, are skipped.
    for (var first = mask_keys(item.first, item.q_len, item.kv_len).x; first < end; first += TILE) {
        if (tile_is_hidden(item, item.head, item.first, first, local_index)) {
            continue;
        }
        // Zeroed in words: a driver was seen that did it only once for a declaration in a loop.
        var scores = array<vec4<f32>, 4>();
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
                    k_vector(kv_row(item, kv_head, key), feature + 4u * vector, key < item.kv_len);
            }
            workgroupBarrier();
            tile_product(&scores, ty, tx);
        }
        for (var r = 0u; r < 4u; r++) {
            var largest = LOWEST;
            for (var c = 0u; c < 4u; c++) {
                let key = first + tx + 8u * c;
                let score = score_at(scores[r][c], item, item.head, item.first + 4u * ty + r, key, seen[r]);
                scores[r][c] = score.value;
                largest = max(largest, score.value);
            }
            partial_top[(4u * ty + r) * 8u + tx] = largest;
        }
        workgroupBarrier();
        // ANCHOR: online_softmax
        // All eight invocations of a row find the same numbers.
        var rescale = vec4<f32>();
        for (var r = 0u; r < 4u; r++) {
            var largest = top[r];
            for (var x = 0u; x < 8u; x++) {
                largest = max(largest, partial_top[(4u * ty + r) * 8u + x]);
            }
            rescale[r] = exp(max(top[r] - largest, -200.0));
            top[r] = largest;
            var sum = 0.0;
            for (var c = 0u; c < 4u; c++) {
                let column = tx + 8u * c;
                var weight = 0.0;
                if (scores[r][c] > LOWEST) {
                    weight = exp(max(scores[r][c] - largest, -200.0));
                    sum += weight;
                    weight *= dropout_factor(item, item.head, item.first + 4u * ty + r, first + column);
                }
                weights[(4u * ty + r) * 33u + column] = weight;
            }
            partial_total[(4u * ty + r) * 8u + tx] = sum;
        }
        workgroupBarrier();
        for (var r = 0u; r < 4u; r++) {
            var sum = 0.0;
            for (var x = 0u; x < 8u; x++) {
                sum += partial_total[(4u * ty + r) * 8u + x];
            }
            total[r] = total[r] * rescale[r] + sum;
            for (var c = 0u; c < COLUMN_VECTORS; c++) {
                sums[4u * r + c] *= rescale[r];
            }
        }
        // ANCHOR_END: online_softmax
        for (var part = 0u; part < TILE && first + part < end; part += 8u) {
            for (var i = local_index; i < 256u; i += INVOCATIONS) {
                let key = first + part + i / 32u;
                right_tile[i] = v_vector(kv_row(item, kv_head, key), item.column + 4u * (i % 32u), key < end);
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
        let inverse = select(0.0, 1.0 / max(total[r], 1e-30), total[r] > 0.0);
        let row = q_row(item, item.head, query) * params.value_dim;
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            let column = item.column + 4u * (tx + 8u * c);
            let x = sums[4u * r + c] * inverse;
            for (var i = 0u; i < 4u; i++) {
                if (column + i < params.value_dim) {
                    out[row + column + i] = x[i];
                }
            }
        }
        if (item.column == 0u && tx == 0u) {
            lse[lse_row(item, item.head, query)] = select(LOWEST, top[r] + log(max(total[r], 1e-30)), total[r] > 0.0);
        }
    }
}
