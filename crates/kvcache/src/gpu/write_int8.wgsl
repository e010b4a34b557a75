// write_int8.wgsl: new tokens into pages of 8-bit integers, each token and head with the scale that has the least error.
//
// Twin      src/paged/int8.rs `best_scale` and `nearest`; compared in tests/it/gpu/int8.rs
// Math      scale = max |x| / n for the first n of 127, 127.5, 126.5, 126, 125.5 … 123.5 with the least sum of (x - scale code)^2;
//           code = x / scale rounded to even, in -127..=127
// Shapes    slots   [batch, seq] u32
//           status  [4] u32: if one is not 0, nothing is written
//           x       [batch, n_heads, seq, features] bits of f32
//           pages   [n_pages, n_heads, page_size, features] i8, four in a word, the first in the lowest byte
//           scales  [2, n_pages, n_heads, page_size] bits of f32: of the keys, then of the values
// Grid      linear, one workgroup per token and head
// Races     tokens that share a word change their own bytes of it, atomically; no slot may be named twice; a workgroup meets at barriers
// Needs     core WebGPU only; 3 KiB of workgroup memory
// Precision that of the CPU, bit for bit: f32 in integers, sums in its order

@group(0) @binding(3) var<storage, read> x: array<u32>;
@group(0) @binding(4) var<storage, read_write> pages: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> scales: array<u32>;

const INVOCATIONS: u32 = 64u;
const DIVISORS: u32 = 9u;

var<workgroup> largest: atomic<u32>;                            // bits order as magnitudes do
var<workgroup> candidates: array<u32, DIVISORS>;                // scales
var<workgroup> squares: array<u32, 576>;                        // [DIVISORS, INVOCATIONS]
var<workgroup> errors: array<u32, DIVISORS>;

@compute @workgroup_size(INVOCATIONS)
fn write_int8(
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
    }
    workgroupBarrier();
    for (var feature = local_index; feature < params.features; feature += INVOCATIONS) {
        atomicMax(&largest, x[first + feature] & 0x7fffffffu);
    }
    workgroupBarrier();
    if (local_index < DIVISORS) {
        candidates[local_index] = single_quotient(atomicLoad(&largest), int8_divisor(local_index));
    }
    workgroupBarrier();
    var error = 0u; // of the candidate of this invocation
    for (var start = 0u; start < params.features; start += INVOCATIONS) {
        if (start + local_index < params.features) {
            let magnitude = x[first + start + local_index] & 0x7fffffffu;
            for (var i = 0u; i < DIVISORS; i++) {
                let scale = candidates[i];
                let near = single_multiple(scale, int8_code(magnitude, scale));
                squares[i * INVOCATIONS + local_index] = single_square(single_distance(magnitude, near));
            }
        }
        workgroupBarrier();
        if (local_index < DIVISORS) {
            let n = min(INVOCATIONS, params.features - start);
            for (var i = 0u; i < n; i++) {
                error = single_sum(error, squares[local_index * INVOCATIONS + i]);
            }
        }
        workgroupBarrier();
    }
    if (local_index < DIVISORS) {
        errors[local_index] = error;
    }
    workgroupBarrier();
    // The first with the least error. If the first scale is zero, its error is: squares of numbers so small are.
    var scale = candidates[0];
    var least = INFINITY;
    for (var i = 0u; i < DIVISORS; i++) {
        if (errors[i] < least) {
            scale = candidates[i];
            least = errors[i];
        }
    }
    if (local_index == 0u) {
        scales[params.part * params.n_slots * params.n_heads + place] = scale;
    }
    let first_byte = place * params.features;
    let n_words = (params.features + 2u) / 4u + 1u; // that it may have a part of
    for (var i = local_index; i < n_words; i += INVOCATIONS) {
        let word = first_byte / 4u + i;
        let mask = byte_mask(word, first_byte, params.features);
        var bits = 0u;
        for (var j = 0u; j < 4u; j++) {
            let feature = 4u * word + j - first_byte; // wraps around before the first
            if (feature < params.features) {
                let number = x[first + feature];
                let code = int8_code(number & 0x7fffffffu, scale);
                bits |= (select(code, 0u - code, (number >> 31u) == 1u) & 0xffu) << (8u * j);
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
