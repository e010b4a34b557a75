// places.wgsl: where tokens lie in pages (a snippet, prepended to the kernels that write and read tokens).

struct PlacesParams {
    n_items: u32,    // invocations or workgroups with work
    n_heads: u32,    // key-value heads
    seq: u32,        // tokens of a row of the batch
    features: u32,
    page_size: u32,
    n_slots: u32,    // places of the pool, for each head
    row_items: u32,  // items of one token and head
    part: u32,       // 0 for keys, 1 for values
}

@group(0) @binding(0) var<uniform> params: PlacesParams;
@group(0) @binding(1) var<storage, read> slots: array<u32>; // [batch, seq]: page * page_size + place

const NOWHERE: u32 = 0xffffffffu;

// The row of `[n_pages, n_heads, page_size]` in which row `index` of `[batch, n_heads, seq]` lies; NOWHERE if its slot is not in the pool.
fn place_of(index: u32) -> u32 {
    let token = index / (params.n_heads * params.seq) * params.seq + index % params.seq;
    let head = index / params.seq % params.n_heads;
    let slot = slots[token];
    if (slot >= params.n_slots) {
        return NOWHERE;
    }
    return (slot / params.page_size * params.n_heads + head) * params.page_size + slot % params.page_size;
}
