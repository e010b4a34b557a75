// four_bit_quantize.wgsl: numbers in blocks, each with the scale of its largest magnitude, in four bits each.
//
// Twin      src/four_bit/quantize.rs `quantize`; compared in tests/it/gpu/four_bit.rs
// Math      scale = max |x_i| over the block; code_i = the code whose value is nearest to x_i / scale, the lower one halfway
// Shapes    x       [n_elements] bits of f32
//           table   [31] u32: 15 bounds as keys, and the 16 codes in the order of their values
//           packed  [ceil(n_elements / 8)] u32, eight codes a word
//           scales  [n_blocks] bits of f32; NaN for a block with a number that is not finite, whose codes are those of zeros
//           status  [2] u32: the place of the first number that is not finite, or 0xffffffff
// Grid      linear, one workgroup per block
// Races     none: each workgroup writes its own block; places meet in a minimum
// Needs     core WebGPU only; 32 bytes of workgroup memory
// Precision that of the CPU, bit for bit: products and quotients are rounded in integers

struct FourBitQuantizeParams {
    n_elements: u32,
    n_blocks: u32,
    block: u32,
    smallest: u32,
}

@group(0) @binding(0) var<uniform> params: FourBitQuantizeParams;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read_write> packed: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>>;

const INVOCATIONS: u32 = 64u;
const N_BOUNDS: u32 = 15u;
const ONE: u32 = 0x3f800000u;
const NAN: u32 = 0x7fc00000u;

var<workgroup> largest: atomic<u32>;
// The bits of the factor or divisor, the same for all.
var<workgroup> factor: u32;

@compute @workgroup_size(INVOCATIONS)
fn four_bit_quantize(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let block = linear_workgroup(workgroup_id, num_workgroups);
    if (block >= params.n_blocks) {
        return;
    }
    let start = block * params.block;
    let n = min(params.block, params.n_elements - start);
    let is_full = n == params.block;
    if (local_index == 0u) {
        atomicStore(&largest, 0u);
    }
    workgroupBarrier();
    for (var i = local_index; i < n; i += INVOCATIONS) {
        let magnitude = x[start + i] & 0x7fffffffu;
        atomicMax(&largest, magnitude);
        if (magnitude >= INFINITY) {
            atomicMin(&status[0], start + i);
        }
    }
    workgroupBarrier();
    if (local_index == 0u) {
        let found = atomicLoad(&largest);
        let divisor = max(found, params.smallest);
        if (found >= INFINITY) {
            scales[block] = NAN;
            factor = 0u;
        } else if (is_full) {
            scales[block] = found;
            factor = single_quotient(ONE, divisor);
        } else {
            scales[block] = divisor;
            factor = divisor;
        }
    }
    workgroupBarrier();
    for (var at = local_index; 8u * at < n; at += INVOCATIONS) {
        var word = 0u;
        // An odd last element has a zero beside it; nobody reads what comes after.
        for (var place = 0u; place < 8u; place++) {
            var bits = 0u;
            if (8u * at + place < n) {
                bits = scaled(x[start + 8u * at + place], is_full);
            }
            let shift = 8u * (place / 2u) + 4u * (1u - place % 2u);
            word |= code_of(bits) << shift;
        }
        packed[start / 8u + at] = word;
    }
}

// A number of the block over its scale. What rounding moves beyond 1 has the code of 1.
fn scaled(bits: u32, is_full: bool) -> u32 {
    if (factor == 0u) {
        return 0u;
    }
    let magnitude = bits & 0x7fffffffu;
    var result = 0u;
    if (is_full) {
        result = single_product(magnitude, factor);
    } else {
        result = single_quotient(magnitude, factor);
    }
    return result | (bits & 0x80000000u);
}

// The code whose value is nearest: as many bounds are below.
fn code_of(bits: u32) -> u32 {
    var key = i32(bits & 0x7fffffffu);
    if (bits >= 0x80000000u) {
        key = -key;
    }
    var rank = 0u;
    for (var i = 0u; i < N_BOUNDS; i++) {
        rank += select(0u, 1u, key > i32(table[i]));
    }
    return table[N_BOUNDS + rank];
}
