//! Everything this crate can refuse.

/// Everything this crate can refuse, one variant per rule a caller can break.
///
/// Whatever the error, the cache is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KvCacheError {
    /// The product of the axes does not fit.
    #[error(
        "batch * n_kv_heads * capacity * features * {element_bytes} bytes must be at most {}, got axes [{}, {}, {}, {}]",
        isize::MAX, axes[0], axes[1], axes[2], axes[3]
    )]
    Size {
        /// `[batch, n_kv_heads, capacity, head_dim]` (or `value_dim`), as asked for.
        axes: [usize; 4],
        /// Bytes of one element.
        element_bytes: usize,
    },
    /// A count of bytes does not fit in 64 bits.
    #[error("a count of bytes must be below 2^64, got a product of {factors:?}")]
    ByteCount {
        /// What was to be multiplied; unused places are 1.
        factors: [u64; 5],
    },
    /// The memory could not be had.
    #[error("{bytes} bytes must be available, the allocator refused them")]
    Allocation {
        /// What was asked for.
        bytes: usize,
    },
    /// There is no such sequence.
    #[error("row must be below {batch} (batch), got {row}")]
    Row {
        /// The sequence that was named.
        row: usize,
        /// Sequences in the cache.
        batch: usize,
    },
    /// Keys and values for all rows do not have one entry per row.
    #[error("keys and values must have batch {expected}, got {keys} and {values}")]
    Batch {
        /// Sequences in the cache.
        expected: usize,
        /// First axis of the keys.
        keys: usize,
        /// First axis of the values.
        values: usize,
    },
    /// The keys do not fit the cache.
    #[error("keys must have shape [{n_kv_heads}, seq, {head_dim}], got {got:?}")]
    KeyShape {
        /// Key-value heads of the cache.
        n_kv_heads: usize,
        /// Features of a key.
        head_dim: usize,
        /// Shape of the keys, without the batch.
        got: [usize; 3],
    },
    /// The values do not fit the cache or the keys.
    #[error(
        "values must have shape [{n_kv_heads}, {seq}, {value_dim}] (seq of the keys), got {got:?}"
    )]
    ValueShape {
        /// Key-value heads of the cache.
        n_kv_heads: usize,
        /// Tokens that the keys have.
        seq: usize,
        /// Features of a value.
        value_dim: usize,
        /// Shape of the values, without the batch.
        got: [usize; 3],
    },
    /// The new tokens do not fit behind the old ones.
    #[error("row {row} must have room for {seq} tokens, got {len} of {capacity} (capacity) taken")]
    Full {
        /// The sequence.
        row: usize,
        /// Tokens that it holds.
        len: usize,
        /// Tokens that were to be added.
        seq: usize,
        /// Tokens that it can hold.
        capacity: usize,
    },
    /// A sequence cannot be cropped to more than it holds.
    #[error("the length to crop row {row} to must be at most {len}, got {got}")]
    CropLen {
        /// The sequence.
        row: usize,
        /// Tokens that it holds.
        len: usize,
        /// Tokens that were to remain.
        got: usize,
    },
    /// A reordering does not name one source per row.
    #[error("rows must have length {batch} (batch), got {got}")]
    ReorderLen {
        /// Sequences in the cache.
        batch: usize,
        /// Sources that were named.
        got: usize,
    },
    /// A cache cannot grow by nothing.
    #[error("block must be at least 1 token, got 0")]
    Block,
    /// A window without the newest token is none.
    #[error("window must be at least 1 token, got 0")]
    Window,
    /// More tokens than can be counted.
    #[error("row {row} must see at most 2^64 - 1 tokens, got {seen} and {seq} more")]
    Seen {
        /// The sequence.
        row: usize,
        /// Tokens that it has seen.
        seen: usize,
        /// Tokens that were to be added.
        seq: usize,
    },
    /// The tokens that the window would need again have been overwritten.
    #[error(
        "row {row} must still hold token {needed} to be cropped to {got} tokens, the oldest that it holds is {oldest}"
    )]
    CropLost {
        /// The sequence.
        row: usize,
        /// Tokens that were to remain.
        got: usize,
        /// The oldest token of the window then.
        needed: usize,
        /// The oldest token that is there.
        oldest: usize,
    },
    /// A page that holds no token.
    #[error("page_size must be at least 1 token, got 0")]
    PageSize,
    /// There is no such sequence: it was never made, or it was freed.
    #[error("sequence {id} must be in the pool")]
    Sequence {
        /// Its number.
        id: u64,
    },
    /// All numbers of sequences have been given.
    #[error("a pool must have at most 2^64 - 1 sequences in its life, they were all given")]
    SequenceNumbers,
    /// A sequence cannot become one of another salt: it would publish its tokens under that one.
    #[error(
        "sequence {id} must have the salt of sequence {from} to become what that is, got another"
    )]
    Salts {
        /// The sequence that would change.
        id: u64,
        /// What it was to become.
        from: u64,
    },
    /// A batch names a sequence twice.
    #[error("sequence {id} must be named once, got it twice")]
    Repeated {
        /// Its number.
        id: u64,
    },
    /// Keys and values are not given for every layer.
    #[error("keys and values must be for {expected} layers, got {keys} and {values}")]
    Layers {
        /// Layers of the pool.
        expected: usize,
        /// Layers of the keys.
        keys: usize,
        /// Layers of the values.
        values: usize,
    },
    /// The layers have different numbers of new tokens.
    #[error("keys of all layers must have {expected} tokens, as those of the first, got {got}")]
    LayerTokens {
        /// Tokens in the first layer.
        expected: usize,
        /// Tokens in another.
        got: usize,
    },
    /// There is no such layer.
    #[error("layer must be below {n_layers}, got {layer}")]
    Layer {
        /// The layer that was named.
        layer: usize,
        /// Layers of the pool.
        n_layers: usize,
    },
    /// The pool has too few pages left.
    #[error("{needed} pages must be free or only cached, got {available} of {n_pages}")]
    PoolExhausted {
        /// Pages that the call takes.
        needed: usize,
        /// Pages that no sequence holds.
        available: usize,
        /// Pages of the pool.
        n_pages: usize,
    },
    /// A pool that shrinks gives up its last pages, and they must be free.
    #[error("the {needed} last pages of {n_pages} must be free to be given up, {free} of them are")]
    PagesHeld {
        /// Pages to give up.
        needed: usize,
        /// Those of them that are free.
        free: usize,
        /// Pages of the pool.
        n_pages: usize,
    },
    /// Tokens that a sequence does not hold cannot be read.
    #[error("tokens to read of row {row} must be within its {len}, got {start} to {end}")]
    ReadRange {
        /// The sequence.
        row: usize,
        /// Tokens that it holds.
        len: usize,
        /// The first to read.
        start: usize,
        /// One behind the last.
        end: usize,
    },
    /// Tokens that the sequence does not hold cannot be written.
    #[error("tokens to write in sequence {id} must be within its {len}, got {start} to {end}")]
    WriteRange {
        /// The sequence.
        id: u64,
        /// Tokens that it holds.
        len: usize,
        /// The first to write.
        start: usize,
        /// One behind the last.
        end: usize,
    },
    /// A page that others read must not be written.
    #[error("page {page} of sequence {id} must belong to it alone to be written")]
    SharedPage {
        /// The sequence.
        id: u64,
        /// The page.
        page: u32,
    },
    /// A sequence in the pool cannot be cropped to more than it holds.
    #[error("the length to crop sequence {id} to must be at most {len}, got {got}")]
    SequenceCrop {
        /// The sequence.
        id: u64,
        /// Tokens that it holds.
        len: usize,
        /// Tokens that were to remain.
        got: usize,
    },
    /// Indices of tokens to keep do not rise, or leave the sequence.
    #[error(
        "index {place} of the tokens to keep must be at least {least} and below {len}, got {got}"
    )]
    Keep {
        /// Place in the list.
        place: usize,
        /// One more than the index before.
        least: usize,
        /// Tokens of the sequence.
        len: usize,
        /// The index.
        got: usize,
    },
    /// The ids of a sequence that is published are not as many as its tokens.
    #[error("sequence {id} must have as many ids as tokens ({len}), got {got}")]
    TokenIds {
        /// The sequence.
        id: u64,
        /// Tokens that it holds.
        len: usize,
        /// Ids that were given.
        got: usize,
    },
    /// A number that cannot be quantized.
    #[error(
        "{name} must have absolute values of at most {max:e} to be quantized, got another in head {head}, token {token}, feature {feature}"
    )]
    NotQuantizable {
        /// `k` or `v`.
        name: &'static str,
        /// The largest absolute value, as bits would round it.
        max: Largest,
        /// Its head.
        head: usize,
        /// Its token, counted among the new ones.
        token: usize,
        /// Its feature.
        feature: usize,
    },
    /// A setting of a quantized cache is out of range.
    #[error("{name} must be {rule}, got {got}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What must hold.
        rule: &'static str,
        /// What came.
        got: usize,
    },
    /// A power of the channels' ranges that is none between nothing and all.
    #[error("alpha must be from 0 to 1, got {}", f32::from_bits(*bits))]
    SmoothAlpha {
        /// The number, as its bits.
        bits: u32,
    },
    /// The queries do not fit the keys that were smoothed.
    #[error(
        "queries must have shape [a multiple of {n_kv_heads} (n_kv_heads), seq, {head_dim}], got {got:?}"
    )]
    QueryShape {
        /// Key-value heads.
        n_kv_heads: usize,
        /// Features of a key.
        head_dim: usize,
        /// Shape of the queries.
        got: [usize; 3],
    },
    /// There is not one for each feature of each head.
    #[error("{name} must have shape {expected:?} ([n_kv_heads, head_dim]), got {got:?}")]
    ChannelShape {
        /// `statistics`, `means` or `factors`.
        name: &'static str,
        /// What it must have.
        expected: [usize; 2],
        /// What it has.
        got: [usize; 2],
    },
    /// A mean or a factor that keys cannot be smoothed with.
    #[error("{name} must be {rule}, got {} in head {head}, feature {feature}", f32::from_bits(*bits))]
    ChannelNumber {
        /// `means` or `factors`.
        name: &'static str,
        /// What must hold.
        rule: &'static str,
        /// Its head.
        head: usize,
        /// Its feature.
        feature: usize,
        /// The number, as its bits.
        bits: u32,
    },
    /// A number that has no smoothed one.
    #[error(
        "{name} must have absolute values of at most 3.40e38 once they are smoothed, not so in head {head}, token {token}, feature {feature}"
    )]
    Smoothed {
        /// `k` or `q`.
        name: &'static str,
        /// Its head.
        head: usize,
        /// Its token, counted among the new ones.
        token: usize,
        /// Its feature.
        feature: usize,
    },
    /// Scores do not fit each other or the number of tokens.
    #[error("{name} must have shape {expected:?}, got {got:?}")]
    Scores {
        /// The array.
        name: &'static str,
        /// What it must have.
        expected: [usize; 3],
        /// What it has.
        got: [usize; 3],
    },
    /// A score is not a number.
    #[error("scores must not be NaN, got one for token {token}")]
    ScoreNan {
        /// Its token.
        token: usize,
    },
    /// The system could not read or write.
    #[error("reading and writing must succeed, got {kind:?}")]
    Io {
        /// What the system says.
        kind: std::io::ErrorKind,
    },
    /// The file ends too early.
    #[error("the file must go on in its section {section}, it ends there")]
    FileTruncated {
        /// The part of the file.
        section: &'static str,
    },
    /// The file is none of ours.
    #[error("the file must begin with {expected:?}, got {got:?}")]
    FileMagic {
        /// What a file begins with.
        expected: [u8; 8],
        /// What this one begins with.
        got: [u8; 8],
    },
    /// The file is of another version, store or number type.
    #[error("{name} of the file must be {expected}, got {got}")]
    FileKind {
        /// What is said in the header.
        name: &'static str,
        /// What can be read.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// The file was changed.
    #[error("the checksum of section {section} must be {expected:08x}, got {got:08x}")]
    FileChecksum {
        /// The part of the file.
        section: &'static str,
        /// What the file says.
        expected: u32,
        /// What its bytes give.
        got: u32,
    },
    /// A number in the file is impossible.
    #[error("{name} of the file must be at least {min} and at most {max}, got {got}")]
    FileField {
        /// The number.
        name: &'static str,
        /// The least that it may be.
        min: u64,
        /// The most that it may be.
        max: u64,
        /// What came.
        got: u64,
    },
    /// A number that no cache writes in this place.
    #[error("{name} of the file must be {rule}, got {got}")]
    FileInconsistent {
        /// What is wrong.
        name: &'static str,
        /// What must hold.
        rule: &'static str,
        /// The number; a floating-point one as its bits.
        got: u64,
    },
    /// What the file holds would take more memory than the caller gives.
    #[error("the cache must take at most {limit} bytes (max_bytes), the file needs {needed}")]
    FileLimit {
        /// What the caller gives.
        limit: u64,
        /// What the cache would take; `u64::MAX` if that does not fit.
        needed: u64,
    },
}

/// The largest absolute value that a quantized store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Largest {
    /// 3.4e38, a little below the largest finite `f32`: so a scale times a code is finite.
    F32,
    /// The largest finite `f16`.
    F16,
}

impl std::fmt::LowerExp for Largest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "3.40e38",
            Self::F16 => "65504",
        })
    }
}
