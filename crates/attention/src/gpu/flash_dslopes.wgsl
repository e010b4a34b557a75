// flash_dslopes.wgsl: what each tile of queries adds to the gradient of ALiBi's slopes.
//
// Twin      src/score_mods.rs `backward`; compared in tests/it/gpu/score_mods.rs
// Math      sums[h, t] = sum over the queries of tile t and all keys of ds_ij d_ij; ds as in flash_ds.wgsl, d as in flash_score.wgsl
// Shapes    inputs as in flash_inputs.wgsl and flash_backward_inputs.wgsl
//           sums   [n_heads, tiles of all sequences] f32
// Grid      linear, one workgroup per 32 queries of a head
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the result
// Needs     core WebGPU only; 9.6 KiB of workgroup memory
// Precision f32 sums: over keys, then columns and rows of an invocation, then invocations

@group(0) @binding(8) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(INVOCATIONS)
fn flash_dslopes(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    let item = item_at(index, params.n_heads);
    let ty = local_index / 8u;
    let tx = local_index % 8u;
    let row = rows_of(item, item.head, ty);
    let last = min(item.first + TILE, item.q_len) - 1u;
    let end = mask_keys(last, item.q_len, item.kv_len).y;
    var sum = 0.0;
    for (var first = mask_keys(item.first, item.q_len, item.kv_len).x; first < end; first += TILE) {
        if (tile_is_hidden(item, item.head, item.first, first, local_index)) {
            continue;
        }
        var ds = ds_tile(item, item.head, item.head / params.queries_per_kv, first, end, local_index, row, false);
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < 4u; c++) {
                let query = item.first + 4u * ty + r;
                let key = first + tx + 8u * c;
                sum += ds.rows[r][c] * score_distance(query, key, item.q_len, item.kv_len);
            }
        }
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        let n_tiles = params.n_items / params.n_heads; // of all sequences
        sums[item.head * n_tiles + index / params.n_heads] = total;
    }
}
