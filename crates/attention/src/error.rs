//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// An array does not have the shape that the others ask for.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    Shape {
        /// The argument.
        name: &'static str,
        /// What it must be: `[batch, heads, seq, features]`, or for pages
        /// `[n_pages, n_kv_heads, page_size, features]`.
        expected: [usize; 4],
        /// What was passed.
        got: [usize; 4],
    },
    /// The log-sum-exp array does not have the shape that the queries ask for.
    #[error("lse must have shape {expected:?}, got {got:?}")]
    LseShape {
        /// What it must be: `[batch, n_heads, seq]`.
        expected: [usize; 3],
        /// What was passed.
        got: [usize; 3],
    },
    /// An array of packed sequences does not have the shape that the others ask for.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    PackedShape {
        /// The argument.
        name: &'static str,
        /// What it must be: `[tokens, heads, features]`.
        expected: [usize; 3],
        /// What was passed.
        got: [usize; 3],
    },
    /// The log-sum-exp array of packed sequences does not have the shape that the queries ask for.
    #[error("lse must have shape {expected:?}, got {got:?}")]
    PackedLseShape {
        /// What it must be: `[n_heads, total]`.
        expected: [usize; 2],
        /// What was passed.
        got: [usize; 2],
    },
    /// A list of where sequences start is no rising list from 0 to the number of tokens.
    #[error("{name} must rise from 0 to {total}, got {} at index {index}", number(*got))]
    CuSeqlens {
        /// The argument.
        name: &'static str,
        /// The first number that is wrong.
        index: usize,
        /// That number; `None` if the list is empty.
        got: Option<usize>,
        /// How many tokens there are.
        total: usize,
    },
    /// One list has more sequences than the other.
    #[error("queries and keys must have as many sequences, got {queries} and {keys}")]
    CuSeqlensLength {
        /// Sequences in `cu_seqlens`.
        queries: usize,
        /// Sequences in `cu_kv_seqlens`.
        keys: usize,
    },
    /// The query heads cannot be shared out evenly to the key-value heads.
    #[error("n_heads must be a multiple of n_kv_heads, got {n_heads} and {n_kv_heads}")]
    Heads {
        /// Heads of the queries.
        n_heads: usize,
        /// Heads of the keys and values.
        n_kv_heads: usize,
    },
    /// The scale is not a number of the type that is computed in.
    #[error("scale must be finite in the type of the arrays, got {got}")]
    Scale {
        /// The `scale` of the config.
        got: f64,
    },
    /// The softcap bends nothing.
    #[error("softcap must be positive and finite in the type of the arrays, got {got}")]
    Softcap {
        /// The `softcap` of the config.
        got: f64,
    },
    /// There is not one sink for each query head.
    #[error("sinks must have one number for each of {n_heads} query heads, got {got}")]
    Sinks {
        /// Heads of the queries.
        n_heads: usize,
        /// How many sinks were passed.
        got: usize,
    },
    /// There is not one slope for each query head.
    #[error("slopes must have one number for each of {n_heads} query heads, got {got}")]
    Slopes {
        /// Heads of the queries.
        n_heads: usize,
        /// How many slopes were passed.
        got: usize,
    },
    /// A bias or a mask fits the scores along some axis neither by its length nor by being 1 there.
    #[error("each axis of {name} must be 1 or as in {expected:?}, got shape {got:?}")]
    Broadcast {
        /// The argument.
        name: &'static str,
        /// The shape of the scores: `[batch, n_heads, seq, kv_seq]`, of packed sequences
        /// `[1, n_heads, total, kv_total]`.
        expected: [usize; 4],
        /// What was passed.
        got: [usize; 4],
    },
    /// The share of weights to drop is none.
    #[error("the dropout rate must be at least 0 and below 1, got {got}")]
    DropoutRate {
        /// The `rate` of the dropout.
        got: f64,
    },
    /// A page holds no token.
    #[error("page_size must be at least 1, got 0")]
    PageSize,
    /// The scales of 8-bit pages do not have the shape that the pages ask for.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    ScalesShape {
        /// The argument.
        name: &'static str,
        /// What it must be: `[n_pages, n_kv_heads, page_size]`.
        expected: [usize; 3],
        /// What was passed.
        got: [usize; 3],
    },
    /// Words on a device are not as many as pages of 8-bit integers take.
    #[error("words must have length {expected} (four 8-bit integers in each), got {got}")]
    PageWords {
        /// What the pages take.
        expected: usize,
        /// What was passed.
        got: usize,
    },
    /// The block table or the lengths are not for as many sequences as there are.
    #[error("{name} must have a row for each of {batch} sequences, got {got}")]
    Rows {
        /// The argument.
        name: &'static str,
        /// Sequences of the queries.
        batch: usize,
        /// Rows that were passed.
        got: usize,
    },
    /// A sequence is longer than its row of the block table.
    #[error(
        "lengths[{row}] must be at most {max_pages} pages of {page_size} tokens, got {got} tokens"
    )]
    Length {
        /// Which sequence.
        row: usize,
        /// Its length.
        got: u32,
        /// Columns of the block table.
        max_pages: usize,
        /// Tokens of a page.
        page_size: usize,
    },
    /// A sequence needs a page that the pool does not have.
    #[error("block_table[{row}, {index}] must be below {n_pages} (n_pages), got {got}")]
    Page {
        /// Which sequence.
        row: usize,
        /// Which of its pages.
        index: usize,
        /// What the table holds.
        got: u32,
        /// Pages of the pool.
        n_pages: usize,
    },
    /// A chunk of a mask holds no position.
    #[error("chunk must be at least 1, got 0")]
    Chunk,
    /// A tile has no rows or no columns.
    #[error("query_tile and key_tile must be at least 1, got {query_tile} and {key_tile}")]
    Tile {
        /// The `query_tile` of the config.
        query_tile: usize,
        /// The `key_tile` of the config.
        key_tile: usize,
    },
    /// A result, or an array that would be walked through, does not fit into memory.
    #[error("arrays must fit into memory, got shape {shape:?}")]
    TooLarge {
        /// Its shape.
        shape: [usize; 4],
    },
    /// There is nothing to merge.
    #[error("outs must have at least 1 piece, got 0")]
    NoPieces,
    /// A piece lacks its output or its log-sum-exp.
    #[error("outs and lses must have one array for each piece, got {outs} and {lses}")]
    Pieces {
        /// Length of `outs`.
        outs: usize,
        /// Length of `lses`.
        lses: usize,
    },
    /// A piece's output does not have the shape of the first one.
    #[error("outs[{piece}] must have shape {expected:?} as outs[0], got {got:?}")]
    PieceShape {
        /// Which piece, from 0.
        piece: usize,
        /// What it must be: `[batch, n_heads, seq, value_dim]`.
        expected: [usize; 4],
        /// What was passed.
        got: [usize; 4],
    },
    /// A piece's log-sum-exp does not have the shape that the first output asks for.
    #[error("lses[{piece}] must have shape {expected:?}, got {got:?}")]
    PieceLseShape {
        /// Which piece, from 0.
        piece: usize,
        /// What it must be: `[batch, n_heads, seq]`.
        expected: [usize; 3],
        /// What was passed.
        got: [usize; 3],
    },
    /// The gradient of the log-sum-exp does not have the shape of the log-sum-exp.
    #[error("dlse must have shape {expected:?}, got {got:?}")]
    DlseShape {
        /// What it must be: `[batch, n_heads, seq]`.
        expected: [usize; 3],
        /// What was passed.
        got: [usize; 3],
    },
    /// A conversion from or to no heads at all.
    #[error("n_heads and n_kv_heads must be at least 1, got {n_heads} and {n_kv_heads}")]
    NoHeads {
        /// Heads of the weight that is converted.
        n_heads: usize,
        /// Heads that shall be left.
        n_kv_heads: usize,
    },
    /// A tensor on the device has another number of axes.
    #[error("{name} must have {expected} axes, got shape {got:?}")]
    Rank {
        /// The argument.
        name: &'static str,
        /// How many axes it must have.
        expected: usize,
        /// The shape that was passed.
        got: Vec<usize>,
    },
    /// A sequence is longer than what shaders count.
    #[error("{name} must be at most {max} on the GPU, got {got}")]
    TooLong {
        /// The length.
        name: &'static str,
        /// The largest.
        max: usize,
        /// What was passed.
        got: usize,
    },
    /// A kernel that loads four numbers at a time was asked for, and features do not come in fours.
    #[error(
        "head_dim and value_dim must be multiples of 4 and not 0 for this variant, got {head_dim} and {value_dim}"
    )]
    VectorFeatures {
        /// Features of a query.
        head_dim: usize,
        /// Features of a value.
        value_dim: usize,
    },
    /// The device refuses, or cannot do it.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] llm_gpu::GpuError),
    /// The rows of a projection cannot be shared out evenly to its heads.
    #[error("the rows of a projection must be a multiple of n_heads, got {rows} and {n_heads}")]
    HeadRows {
        /// Rows of the weight, or elements of the bias.
        rows: usize,
        /// Heads that they belong to.
        n_heads: usize,
    },
    /// The shared rotated key of latent attention is longer than a query.
    #[error("rotary_dim must be at most {head_dim}, the features of a query, got {rotary_dim}")]
    RotaryDim {
        /// Features of `k_rope`.
        rotary_dim: usize,
        /// Features of a query, rotated or not.
        head_dim: usize,
    },
    /// More features that are not rotated than a query of latent attention has.
    #[error("nope_dim must be at most {head_dim}, the features of a query, got {nope_dim}")]
    NopeDim {
        /// What was passed.
        nope_dim: usize,
        /// Features of a query, rotated or not.
        head_dim: usize,
    },
    /// A head of `kv_b_proj` has not even the rows of its keys.
    #[error("kv_b_proj must have at least nope_dim = {nope_dim} rows for each head, got {rows}")]
    NopeRows {
        /// Rows of a head.
        rows: usize,
        /// Features of a query that are not rotated.
        nope_dim: usize,
    },
    /// `kv_b_proj` does not take latents of this length.
    #[error("kv_b_proj must have latent_dim = {latent_dim} columns, got {got}")]
    LatentDim {
        /// Features of a latent.
        latent_dim: usize,
        /// Columns of `kv_b_proj`.
        got: usize,
    },
    /// A matrix does not have the shape that the others ask for.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    MatrixShape {
        /// The argument.
        name: &'static str,
        /// What it must be: `[tokens, features]`.
        expected: [usize; 2],
        /// What was passed.
        got: [usize; 2],
    },
    /// A shared prefix does not have the shape that the keys and values ask for.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    PrefixShape {
        /// The argument.
        name: &'static str,
        /// What it must be: `[n_kv_heads, prefix, features]`.
        expected: [usize; 3],
        /// What was passed.
        got: [usize; 3],
    },
    /// There is not one `lambda` for each head of differential attention.
    #[error("lambda must have one number for each of {n_heads} heads, got {got}")]
    Lambda {
        /// Heads of the first queries.
        n_heads: usize,
        /// How many numbers were passed.
        got: usize,
    },
    /// The vectors that `lambda` is made from differ in length.
    #[error("q[0], k[0], q[1] and k[1] must have the same length, got {got:?}")]
    LambdaVectors {
        /// Their lengths.
        got: [usize; 4],
    },
    /// What `lambda` starts from is no number.
    #[error("lambda_init must be finite, got {got}")]
    LambdaInit {
        /// What was passed.
        got: f64,
    },
    /// What a norm adds to the mean square is no number, or negative.
    #[error("eps must be finite and not negative, got {got}")]
    Eps {
        /// What was passed.
        got: f64,
    },
}

/// A number of a list, or that there is none.
fn number(got: Option<usize>) -> String {
    got.map_or_else(|| "nothing".to_owned(), |got| got.to_string())
}
