// keys.wgsl: f32 as words of the same order, and what a row of logits is divided into (a snippet, prepended to kernels).

const MASKED: u32 = 0xff800000u;      // the bits of -inf
const MASKED_KEY: u32 = 0x7fffffu;    // its key
const INFINITY: u32 = 0x7f800000u;
const NO_TOKEN: u32 = 0xffffffffu;

// Tokens of a row that one workgroup looks at; `GROUP_TOKENS` on the host.
const GROUP_TOKENS: u32 = 8192u;
const INVOCATIONS: u32 = 256u;

// Words of a row's status, extent, mass and search; of the same names on the host.
const STATUS_WORDS: u32 = 8u;
const EXTENT_WORDS: u32 = 4u;
const MASS_WORDS: u32 = 4u;
const SEARCH_WORDS: u32 = 16u;

fn is_nan_bits(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > INFINITY;
}

// The larger the number, the larger its key. Both zeros have one.
fn key_of_bits(bits: u32) -> u32 {
    let x = select(bits, 0u, bits == 0x80000000u);
    return select(x | 0x80000000u, ~x, (x >> 31u) == 1u);
}

fn bits_of_key(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u);
}
