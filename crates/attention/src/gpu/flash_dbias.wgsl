// flash_dbias.wgsl: the gradient of a bias that was added to the scores.
//
// Twin      src/score_mods.rs and src/varlen/score_mods.rs `backward`; compared in tests/it/gpu/score_mods.rs and
//           tests/it/gpu/packed_bias.rs
// Math      dbias = sum of ds_ij, see flash_ds.wgsl, over the axes along which the bias has the length 1
// Shapes    inputs as in flash_inputs.wgsl and flash_backward_inputs.wgsl
//           dbias  [batch, n_heads, q_len, kv_len] f32, or packed [1, n_heads, total, kv_total], where each axis may have the
//                  length 1; what stands for a query and a key of different sequences is not written
// Grid      linear, one workgroup per 32 by 32 elements of a sequence, or 32, or 1 where axes have the length 1
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
    // The batch, heads, queries and keys: an axis that is summed has one part, which loops over all of it.
    let is_summed = vec4<u32>(params.grad_batch, params.grad_head, params.grad_query, params.grad_key) == vec4<u32>();
    let own = item_at(index, select(params.n_heads, 1u, is_summed.y));
    var own_tiles = vec2<u32>(own.first / TILE, index % params.n_column_tiles);
    // Packed sequences are summed where both their queries and their keys are; where queries are, `small` lists tiles of keys.
    var sums_sequences = is_summed.x;
    if (params.is_packed != 0u) {
        sums_sequences = is_summed.z && is_summed.w;
        if (is_summed.z) {
            own_tiles = own_tiles.yx;
        }
    }
    var sums: array<vec4<f32>, 4>;
    let past_sequence = select(own.sequence + 1u, params.n_sequences, sums_sequences);
    for (var sequence = select(own.sequence, 0u, sums_sequences); sequence < past_sequence; sequence++) {
        let lengths = item_of(sequence, 0u);
        let past_tiles = select(
            own_tiles + vec2<u32>(1u),
            vec2<u32>(tiles_of(lengths.q_len), tiles_of(lengths.kv_len)),
            is_summed.zw,
        );
        let past_head = select(own.head + 1u, params.n_heads, is_summed.y);
        for (var head = own.head; head < past_head; head++) {
            for (var query_tile = own_tiles.x; query_tile < past_tiles.x; query_tile++) {
                let item = item_of(sequence, query_tile * TILE);
                let last = min(item.first + TILE, item.q_len) - 1u;
                let start = mask_keys(item.first, item.q_len, item.kv_len).x;
                let end = mask_keys(last, item.q_len, item.kv_len).y;
                let row = rows_of(item, head, ty);
                for (var key_tile = own_tiles.y; key_tile < past_tiles.y; key_tile++) {
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
    let added = select(vec2<u32>(1u), vec2<u32>(TILE), is_summed.zw);
    let size = vec2<u32>(TILE) / added;
    for (var i = local_index; i < size.x * size.y; i += INVOCATIONS) {
        let place = vec2<u32>(i / size.y, i % size.y);
        let at = own_tiles * TILE + place;
        // A sequence without queries or keys still has the one element of an axis that is summed.
        let is_element = (is_summed.z || at.x < own.q_len) && (is_summed.w || at.y < own.kv_len);
        if (is_element) {
            var sum = 0.0;
            for (var x = 0u; x < added.x; x++) {
                for (var y = 0u; y < added.y; y++) {
                    sum += weights[(place.x * added.x + x) * 33u + place.y * added.y + y];
                }
            }
            dbias[own.grad_start + own.head * params.grad_head + at.x * params.grad_query + at.y * params.grad_key] = sum;
        }
    }
}

fn tiles_of(length: u32) -> u32 {
    return (length + TILE - 1u) / TILE;
}
