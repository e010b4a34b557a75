// flash_params.wgsl: the parameters of all tiled kernels of attention, and what a workgroup has to do (a snippet, prepended to them).

struct FlashParams {
    n_items: u32,          // workgroups with work
    n_column_tiles: u32,   // tiles of 128 columns that the result has
    n_tiles: u32,          // tiles of a sequence; for packed sequences `small` lists them
    n_sequences: u32,
    n_heads: u32,
    n_kv_heads: u32,
    queries_per_kv: u32,
    head_dim: u32,
    value_dim: u32,
    q_len: u32,            // queries of each sequence, unless they are packed
    kv_len: u32,           // its keys
    q_batch: u32,          // strides of the queries, in rows of features
    q_head: u32,
    q_token: u32,
    kv_batch: u32,         // strides of the keys
    kv_head: u32,
    kv_token: u32,
    lse_batch: u32,        // strides of the log-sum-exp, whose tokens lie side by side
    lse_head: u32,
    is_packed: u32,
    cu_seqlens: u32,       // where in `small` the starts of packed queries are
    cu_kv_seqlens: u32,
    tiles: u32,            // where in `small` the tiles are: sequence and first row of each
    slopes: u32,           // where in `small` the slopes are
    alibi_origin: u32,     // 0 = no ALiBi; the others one more than in flash_score.wgsl
    has_bias: u32,
    bias_batch: u32,       // strides of the bias, 0 where it is broadcast
    bias_head: u32,
    bias_query: u32,
    bias_key: u32,
    bottom_right: u32,     // the mask, see mask.wgsl
    left: i32,
    right: i32,
    chunk: i32,
    prefix: i32,
    scale: f32,
    softcap: f32,          // 0 = none
    has_dropout: u32,
    last_dropped: u32,     // the largest word whose weight is dropped
    keep_scale: f32,       // what the others are multiplied with
    key_low: u32,          // the generator's key
    key_high: u32,
    stream_low: u32,       // the stream of the first row
    stream_high: u32,
    grad_batch: u32,       // strides of the gradient of the bias, 0 where it is broadcast
    grad_head: u32,
    grad_query: u32,
    grad_key: u32,
}

@group(0) @binding(0) var<uniform> params: FlashParams;
@group(0) @binding(4) var<storage, read> small: array<u32>;   // slopes, starts of sequences, tiles
@group(0) @binding(5) var<storage, read> bias: array<u32>;    // the bits of f32; -inf hides a key

// Stands for minus infinity, which compilers need not keep: no score and no log-sum-exp of a row that sees a key is as low.
const LOWEST: f32 = -3.4028234e38;

// One tile of one head.
struct Item {
    sequence: u32,
    head: u32,         // query head, or key-value head where the rows are keys
    first: u32,        // first row
    q_len: u32,
    kv_len: u32,
    q_start: u32,      // the sequence's first row of features, without the head
    kv_start: u32,
    lse_start: u32,
    bias_start: u32,   // where its first query and key are in the bias, without the head
    grad_start: u32,   // the same in the gradient of the bias
    first_stream: u32, // of dropout, without the head
    column: u32,       // first column of the result
}

fn item_at(index: u32, n_heads: u32) -> Item {
    let head_tile = index / params.n_column_tiles;
    let tile = head_tile / n_heads;
    var item = Item();
    if (params.is_packed == 0u) {
        item = item_of(tile / params.n_tiles, (tile % params.n_tiles) * TILE);
    } else {
        item = item_of(small[params.tiles + 2u * tile], small[params.tiles + 2u * tile + 1u]);
    }
    item.head = head_tile % n_heads;
    item.column = (index % params.n_column_tiles) * 128u;
    return item;
}

// The rows of a sequence from `first` on, of its first head.
fn item_of(sequence: u32, first: u32) -> Item {
    var item = Item();
    item.sequence = sequence;
    item.first = first;
    if (params.is_packed == 0u) {
        item.q_len = params.q_len;
        item.kv_len = params.kv_len;
        item.q_start = sequence * params.q_batch;
        item.kv_start = sequence * params.kv_batch;
        item.lse_start = sequence * params.lse_batch;
        item.bias_start = sequence * params.bias_batch;
        item.grad_start = sequence * params.grad_batch;
        item.first_stream = sequence * params.q_len * params.n_heads;
    } else {
        let queries = small[params.cu_seqlens + sequence];
        let keys = small[params.cu_kv_seqlens + sequence];
        item.q_len = small[params.cu_seqlens + sequence + 1u] - queries;
        item.kv_len = small[params.cu_kv_seqlens + sequence + 1u] - keys;
        item.q_start = queries * params.q_token;
        item.kv_start = keys * params.kv_token;
        item.lse_start = queries;
        item.bias_start = queries * params.bias_query + keys * params.bias_key; // packed sequences are one row of a batch
        item.grad_start = queries * params.grad_query + keys * params.grad_key;
        item.first_stream = queries * params.n_heads;                           // behind those of the sequences before
    }
    return item;
}

fn q_row(item: Item, head: u32, query: u32) -> u32 {
    return item.q_start + head * params.q_head + query * params.q_token;
}

fn kv_row(item: Item, head: u32, key: u32) -> u32 {
    return item.kv_start + head * params.kv_head + key * params.kv_token;
}

fn lse_row(item: Item, head: u32, query: u32) -> u32 {
    return item.lse_start + head * params.lse_head + query;
}
