// double_quantize.wgsl: scales less their mean, in blocks with a scale of their own, in eight bits each.
//
// Twin      src/double.rs `quantize_with_offset`; compared in tests/it/gpu/double.rs
// Math      absmax = max |scale_i - offset| over the block; code_i = how many bounds are below (scale_i - offset) / absmax
// Shapes    scales  [n_scales] bits of f32
//           bounds  [255] keys: bits of f32, negative ones as the negative of their magnitude
//           codes   [ceil(n_scales / 4)] u32, four codes a word
//           nested  [1 + n_blocks] bits of f32: the offset, which is read, then absmax; NaN for a block with a difference that is not finite
//           status  [2] u32: the place of the first such difference, or 0xffffffff
// Grid      linear, one workgroup per block of 256 scales
// Races     none: each workgroup writes its own block; places meet in a minimum
// Needs     core WebGPU only; 32 bytes of workgroup memory
// Precision that of the CPU, bit for bit: differences, products and quotients are rounded in integers

struct DoubleQuantizeParams {
    n_scales: u32,
    n_blocks: u32,
    smallest: u32,
    is_by_table: u32,
}

@group(0) @binding(0) var<uniform> params: DoubleQuantizeParams;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> bounds: array<i32>;
@group(0) @binding(3) var<storage, read_write> codes: array<u32>;
@group(0) @binding(4) var<storage, read_write> nested: array<u32>;
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>>;

const INVOCATIONS: u32 = 64u;
const NESTED_BLOCK: u32 = 256u;
const ONE: u32 = 0x3f800000u;

var<workgroup> largest: atomic<u32>;
// The bits of the factor or divisor, the same for all.
var<workgroup> factor: u32;

@compute @workgroup_size(INVOCATIONS)
fn double_quantize(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let block = linear_workgroup(workgroup_id, num_workgroups);
    if (block >= params.n_blocks) {
        return;
    }
    let start = block * NESTED_BLOCK;
    let n = min(NESTED_BLOCK, params.n_scales - start);
    // The table's code multiplies by the reciprocal everywhere.
    let is_full = n == NESTED_BLOCK || params.is_by_table != 0u;
    if (local_index == 0u) {
        atomicStore(&largest, 0u);
    }
    workgroupBarrier();
    for (var i = local_index; i < n; i += INVOCATIONS) {
        let magnitude = moved(start + i) & MAGNITUDE;
        atomicMax(&largest, magnitude);
        if (magnitude >= INFINITY) {
            atomicMin(&status[0], start + i);
        }
    }
    workgroupBarrier();
    if (local_index == 0u) {
        set_factor(block, is_full);
    }
    workgroupBarrier();
    if (4u * local_index < n) {
        var word = 0u;
        for (var place = 0u; place < min(4u, n - 4u * local_index); place++) {
            word |= code_of(moved(start + 4u * local_index + place), is_full) << (8u * place);
        }
        codes[start / 4u + local_index] = word;
    }
}

// A scale less the offset.
fn moved(i: u32) -> u32 {
    return signed_sum(scales[i], nested[0] ^ SIGN);
}

// A factor of 0 gives all numbers the code 0.
fn set_factor(block: u32, is_full: bool) {
    let found = atomicLoad(&largest);
    var stored = found;
    var divisor = max(found, params.smallest);
    factor = 0u;
    if (found >= INFINITY) {
        stored = NAN;
    } else if (params.is_by_table != 0u) {
        // It knows no smallest scale.
        if (found != 0u) {
            factor = single_quotient(ONE, found);
        }
    } else if (is_full) {
        factor = single_quotient(ONE, divisor);
    } else {
        stored = divisor;
        factor = divisor;
    }
    nested[1u + block] = stored;
}

// As many bounds as are below the number over the scale of its block.
fn code_of(bits: u32, is_full: bool) -> u32 {
    let magnitude = bits & MAGNITUDE;
    if (factor == 0u || (factor == INFINITY && magnitude == 0u)) {
        return 0u;
    }
    var scaled = 0u;
    if (is_full) {
        scaled = single_product(magnitude, factor);
    } else {
        scaled = single_quotient(magnitude, factor);
    }
    // What rounding moves beyond 1 has the code of 1.
    var key = i32(scaled);
    if ((bits & SIGN) != 0u) {
        key = -key;
    }
    var code = 0u;
    for (var step = 128u; step > 0u; step /= 2u) {
        if (key > bounds[code + step - 1u]) {
            code += step;
        }
    }
    return code;
}
