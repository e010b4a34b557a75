// flash_dbias.wgsl: the gradient of a bias that was added to the scores.
//
// Twin      src/score_mods.rs `backward`; compared in tests/it/gpu/score_mods.rs
// Math      dbias = sum of ds_ij, see flash_ds.wgsl, over the axes along which the bias has the length 1
// Shapes    inputs as in flash_inputs.wgsl and flash_backward_inputs.wgsl
//           dbias  [batch, n_heads, q_len, kv_len] f32, where each axis may have the length 1
// Grid      linear, one workgroup per 32 by 32 elements, or 32, or 1 where axes have the length 1
// Races     none: each workgroup writes its own elements
// Needs     core WebGPU only; 13.4 KiB of workgroup memory
// Precision f32 sums: over batch, heads and tiles in their order, then rows, then columns of a tile

@group(0) @binding(8) var<storage, read_write> dbias: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn flash_dbias(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    let ty = local_index / 8u;
    let tx = local_index % 8u;
    // An axis that is summed has one part, which loops over all of it.
    let all = vec4<u32>(params.n_sequences, params.n_heads, tiles_of(params.q_len), tiles_of(params.kv_len));
    let strides = vec4<u32>(params.grad_batch, params.grad_head, params.grad_query, params.grad_key);
    let parts = select(max(all, vec4<u32>(1u)), vec4<u32>(1u), strides == vec4<u32>());
    let part = vec4<u32>(
        index / (parts.w * parts.z * parts.y),
        index / (parts.w * parts.z) % parts.y,
        index / parts.w % parts.z,
        index % parts.w,
    );
    let past = select(part + vec4<u32>(1u), all, strides == vec4<u32>());
    var sums: array<vec4<f32>, 4>;
    for (var sequence = part.x; sequence < past.x; sequence++) {
        for (var head = part.y; head < past.y; head++) {
            for (var query_tile = part.z; query_tile < past.z; query_tile++) {
                var item = item_of(sequence, query_tile * TILE);
                item.head = head;
                let last = min(item.first + TILE, item.q_len) - 1u;
                let start = mask_keys(item.first, item.q_len, item.kv_len).x;
                let end = mask_keys(last, item.q_len, item.kv_len).y;
                let row = rows_of(item, head, ty);
                for (var key_tile = part.w; key_tile < past.w; key_tile++) {
                    let first = key_tile * TILE;
                    if (first >= end || first + TILE <= start) {
                        continue; // hidden
                    }
                    if (tile_is_hidden(item, head, item.first, first, local_index)) {
                        continue;
                    }
                    var ds = ds_tile(item, head, head / params.queries_per_kv, first, end, local_index, row, false);
                    for (var r = 0u; r < 4u; r++) {
                        sums[r] += ds.rows[r];
                    }
                }
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        for (var c = 0u; c < 4u; c++) {
            weights[(4u * ty + r) * 33u + tx + 8u * c] = sums[r][c];
        }
    }
    workgroupBarrier();
    // Elements of the tile, and how many rows and columns each sums.
    let added = select(vec2<u32>(1u), vec2<u32>(TILE), strides.zw == vec2<u32>());
    let size = vec2<u32>(TILE) / added;
    for (var i = local_index; i < size.x * size.y; i += INVOCATIONS) {
        let place = vec2<u32>(i / size.y, i % size.y);
        let at = part.zw * TILE + place;
        // Without queries or keys a summed axis still has its one element.
        let is_element = (strides.z == 0u || at.x < params.q_len) && (strides.w == 0u || at.y < params.kv_len);
        if (is_element) {
            var sum = 0.0;
            for (var x = 0u; x < added.x; x++) {
                for (var y = 0u; y < added.y; y++) {
                    sum += weights[(place.x * added.x + x) * 33u + place.y * added.y + y];
                }
            }
            dbias[part.x * strides.x + part.y * strides.y + at.x * strides.z + at.y * strides.w] = sum;
        }
    }
}

fn tiles_of(length: u32) -> u32 {
    return (length + TILE - 1u) / TILE;
}
