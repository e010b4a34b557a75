// paged_inputs.wgsl: where the keys of a sequence are in a pool of pages (a snippet, prepended to kernels).

@group(0) @binding(2) var<storage, read> block_table: array<u32>;   // [batch, max_pages]
@group(0) @binding(3) var<storage, read> lengths: array<u32>;       // [batch]

fn length_of(batch: u32) -> u32 {
    return min(lengths[batch], params.kv_len);
}

// A page that is not in the pool has no keys.
// ANCHOR: place
fn place_of(batch: u32, kv_head: u32, key: u32) -> u32 {
    let page = block_table[batch * params.max_pages + key / params.page_size];
    if (page >= params.n_pages) {
        return NOWHERE;
    }
    return (page * params.n_kv_heads + kv_head) * params.page_size + key % params.page_size;
}
// ANCHOR_END: place
