// runs.wgsl: runs of tokens that go from some places to others (a snippet, prepended to the kernels that copy them).
//
// The kernel has `source_word(i)`, word i of where tokens come from, and `put(i, bits, mask)`, which changes a part of a word.

struct RunsParams {
    n_items: u32,         // invocations with work
    n_parts: u32,         // arrays one behind the other
    n_heads: u32,
    row_bytes: u32,       // bytes of one token and head
    run_words: u32,       // words that the longest run has a part of, for one head
    from_page_size: u32,
    to_page_size: u32,
    from_slots: u32,      // places of a part, for each head
    to_slots: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: RunsParams;
@group(0) @binding(1) var<storage, read> runs: array<u32>; // [n_runs, 3]: first slot to read, first slot to write, tokens; all of one page

// The first byte of a slot and head.
fn byte_of(part: u32, slot: u32, head: u32, page_size: u32, n_slots: u32) -> u32 {
    let row = (slot / page_size * params.n_heads + head) * page_size + slot % page_size;
    return (part * n_slots * params.n_heads + row) * params.row_bytes;
}

// One word of the target.
fn copy_word(item: u32) {
    let head = item / params.run_words % params.n_heads;
    let part = item / params.run_words / params.n_heads % params.n_parts;
    let run = 3u * (item / params.run_words / params.n_heads / params.n_parts);
    let from_slot = runs[run];
    let to_slot = runs[run + 1u];
    let n_tokens = runs[run + 2u];
    // The host has looked; so this is only for the case that it erred.
    if (from_slot >= params.from_slots || to_slot >= params.to_slots) {
        return;
    }
    let n = n_tokens * params.row_bytes;
    let source = byte_of(part, from_slot, head, params.from_page_size, params.from_slots);
    let first = byte_of(part, to_slot, head, params.to_page_size, params.to_slots);
    let word = first / 4u + item % params.run_words;
    let mask = byte_mask(word, first, n);
    if (mask == 0u) {
        return;
    }
    let at = source + (4u * word - first); // the byte for the lowest one, wraps around where that is not meant
    if (mask == 0xffffffffu && at % 4u == 0u) {
        put(word, source_word(at / 4u), mask);
        return;
    }
    var bits = 0u;
    for (var i = 0u; i < 4u; i++) {
        if (((mask >> (8u * i)) & 1u) == 1u) {
            let byte = at + i;
            bits |= ((source_word(byte / 4u) >> (8u * (byte % 4u))) & 0xffu) << (8u * i);
        }
    }
    put(word, bits, mask);
}
