// write_half.wgsl: one word of pages with two numbers in a word (a snippet, prepended to the kernels of f16 and bf16).
//
// The kernel has `half_bits(bits)`, which rounds an f32.

@group(0) @binding(3) var<storage, read> x: array<u32>;
@group(0) @binding(4) var<storage, read_write> pages: array<atomic<u32>>;

// An odd number of features lets a word belong to two tokens: then only the half of the own one is changed.
fn write_word(item: u32) {
    let row = item / params.row_items;
    let place = place_of(row);
    if (place == NOWHERE) {
        return;
    }
    let first = place * params.features;
    let word = first / 2u + item % params.row_items;
    var bits = 0u;
    var mask = 0u;
    for (var i = 0u; i < 2u; i++) {
        let feature = 2u * word + i - first; // wraps around before the first
        if (feature < params.features) {
            bits |= half_bits(x[row * params.features + feature]) << (16u * i);
            mask |= 0xffffu << (16u * i);
        }
    }
    if (mask == 0xffffffffu) {
        atomicStore(&pages[word], bits);
    } else if (mask != 0u) {
        atomicAnd(&pages[word], ~mask);
        atomicOr(&pages[word], bits);
    }
}
