// four_bit.wgsl: the numbers that packed weights stand for.
//
// A kernel that includes this binds `packed`, `scales`, `nested_scales` and `table`, and has the members of `FourBitParams` in its
// parameter block `params`.

// The sixteen values of the codes.
const VALUES: u32 = 0u;
// The 256 values of the codes of nested scales.
const MAP: u32 = 16u;
// Scales that share a scale of their own.
const NESTED_BLOCK: u32 = 256u;

// ANCHOR: weight
// The scale of a block: a number, or a code of a byte.
fn scale_of(block: u32) -> f32 {
    if (params.is_nested == 0u) {
        return bitcast<f32>(scales[block]);
    }
    let code = (scales[block / 4u] >> (8u * (block % 4u))) & 255u;
    return table[MAP + code] * nested_scales[1u + block / NESTED_BLOCK] + nested_scales[0];
}

// The value of one of the eight codes of a word: two a byte, the earlier in the high half.
fn value_of(word: u32, place: u32) -> f32 {
    let shift = 8u * (place / 2u) + 4u * (1u - place % 2u);
    return table[VALUES + ((word >> shift) & 15u)];
}

// Element number `index` in row-major order.
fn weight(index: u32) -> f32 {
    return value_of(packed[index / 8u], index % 8u) * scale_of(index / params.block);
}
// ANCHOR_END: weight
