// write_int4.wgsl: new tokens into pages of 4-bit integers.
//
// Twin      src/affine.rs `Group::of` and `code`; compared in tests/it/gpu/int4.rs
// Math      least = min x, rounded down to f16; step = (max x - least) / 15, rounded up to f16;
//           code = (x - least) / step rounded to even, in 0..=15
// Shapes    slots   [batch, seq] u32
//           status  [4] u32: if one is not 0, nothing is written
//           x       [batch, n_heads, seq, features] bits of f32
//           pages   [n_pages, n_heads, page_size, ceil(features / 2)] bytes, the even feature in the lower half; four in a word
//           groups  [2, n_pages, n_heads, page_size] u32: of the keys, then of the values; the step in the lower half, the least value in the upper
// Grid      linear, one workgroup per token and head
// Races     tokens that share a word change their own bytes of it, atomically; no slot may be named twice; a workgroup meets at barriers
// Needs     core WebGPU only; 32 bytes of workgroup memory
// Precision that of the CPU, bit for bit: in integers

@group(0) @binding(3) var<storage, read> x: array<u32>;
@group(0) @binding(4) var<storage, read_write> pages: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> groups: array<u32>;

const INVOCATIONS: u32 = 64u;

var<workgroup> largest: atomic<u32>;  // keys
var<workgroup> smallest: atomic<u32>;

@compute @workgroup_size(INVOCATIONS)
fn write_int4(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let row = linear_workgroup(workgroup_id, num_workgroups);
    if (row >= params.n_items || is_refused()) {
        return;
    }
    let place = place_of(row);
    if (place == NOWHERE) {
        return;
    }
    let first = row * params.features;
    if (local_index == 0u) {
        atomicStore(&largest, 0u);
        atomicStore(&smallest, 0xffffffffu);
    }
    workgroupBarrier();
    for (var feature = local_index; feature < params.features; feature += INVOCATIONS) {
        let key = int4_key(x[first + feature]);
        atomicMax(&largest, key);
        atomicMin(&smallest, key);
    }
    workgroupBarrier();
    var least = 0u;
    var step = 0u;
    if (params.features > 0u) {
        least = int4_least(int4_bits_of_key(atomicLoad(&smallest)));
        step = int4_step(int4_bits_of_key(atomicLoad(&largest)), least);
    }
    if (local_index == 0u) {
        groups[params.part * params.n_slots * params.n_heads + place] = step | (least << 16u);
    }
    let row_bytes = (params.features + 1u) / 2u;
    let first_byte = place * row_bytes;
    let n_words = (row_bytes + 2u) / 4u + 1u; // that it may have a part of
    for (var i = local_index; i < n_words; i += INVOCATIONS) {
        let word = first_byte / 4u + i;
        let mask = byte_mask(word, first_byte, row_bytes);
        var bits = 0u;
        for (var j = 0u; j < 8u; j++) {
            let byte = 4u * word + j / 2u - first_byte; // wraps around before the first
            let feature = 2u * byte + j % 2u;
            if (byte < row_bytes && feature < params.features) {
                bits |= int4_code(x[first + feature], step, least) << (4u * j);
            }
        }
        if (mask == 0xffffffffu) {
            atomicStore(&pages[word], bits);
        } else if (mask != 0u) {
            atomicAnd(&pages[word], ~mask);
            atomicOr(&pages[word], bits);
        }
    }
}
