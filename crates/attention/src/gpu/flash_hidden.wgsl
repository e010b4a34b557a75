// flash_hidden.wgsl: whether a bias hides a whole tile, which is skipped then (a snippet, prepended to kernels).

var<workgroup> sees_any: array<u32, INVOCATIONS>;  // for each invocation, whether it found a key that is not hidden
var<workgroup> is_seen: u32;

// True if the bias is -inf for all of 32 queries and 32 keys. All invocations have to call it: it has barriers.
fn tile_is_hidden(item: Item, head: u32, first_query: u32, first_key: u32, local_index: u32) -> bool {
    if (params.has_bias == 0u) {
        return false;
    }
    var found = 0u;
    for (var i = local_index; i < TILE * TILE; i += INVOCATIONS) {
        let query = first_query + i / TILE;
        let key = first_key + i % TILE;
        if (query < item.q_len && key < item.kv_len && bias[bias_place(item, head, query, key)] != 0xff800000u) {
            found = 1u;
        }
    }
    sees_any[local_index] = found;
    workgroupBarrier();
    if (local_index == 0u) {
        var any = 0u;
        for (var i = 0u; i < INVOCATIONS; i++) {
            any |= sees_any[i];
        }
        is_seen = any;
    }
    // With a barrier before and one after.
    return workgroupUniformLoad(&is_seen) == 0u;
}
