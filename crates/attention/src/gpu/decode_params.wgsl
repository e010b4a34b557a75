// decode_params.wgsl: the parameters of the decode kernels (a snippet, prepended to them).

struct DecodeParams {
    n_items: u32,          // workgroups with work
    n_column_tiles: u32,   // tiles of 128 columns that the values have
    n_pieces: u32,         // pieces of the keys
    keys_per_piece: u32,   // a multiple of 32
    n_row_tiles: u32,      // tiles of 8 rows, or of ROWS in decode_subgroups.wgsl: the queries of all heads that share a key-value head
    batch: u32,
    n_heads: u32,
    n_kv_heads: u32,
    queries_per_kv: u32,
    head_dim: u32,
    value_dim: u32,
    seq: u32,              // queries of each head, few
    kv_len: u32,           // keys, or the most that the block table can name
    page_size: u32,
    max_pages: u32,
    n_pages: u32,
    bottom_right: u32,     // the mask, see mask.wgsl
    left: i32,
    right: i32,
    chunk: i32,
    prefix: i32,
    scale: f32,
    softcap: f32,          // 0 = none
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: DecodeParams;

// Stands for minus infinity, see flash_params.wgsl.
const LOWEST: f32 = -3.4028234e38;
