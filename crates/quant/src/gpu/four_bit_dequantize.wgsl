// four_bit_dequantize.wgsl: the numbers that packed weights stand for.
//
// Twin      src/four_bit/dequantize.rs `dequantize`; compared in tests/it/gpu/four_bit.rs
// Math      y_i = value(code_i) * scale of the block of i
// Shapes    packed  [ceil(n_elements / 8)] u32, eight codes a word
//           scales  bits of [n_blocks] f32, or bytes of [n_blocks] codes, four a word
//           nested_scales  [1 + ceil(n_blocks / 256)] f32, the offset first
//           table   [272] f32: the values of the codes, and of the codes of nested scales
//           y       [n_elements] f32
// Grid      linear, one invocation per word
// Races     none: each invocation writes its own eight elements
// Needs     core WebGPU only
// Precision one product in f32; a nested scale is a product and a sum, which the device may round once

struct FourBitDequantizeParams {
    n_elements: u32,
    block: u32,
    is_nested: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: FourBitDequantizeParams;
@group(0) @binding(1) var<storage, read> packed: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read> nested_scales: array<f32>;
@group(0) @binding(4) var<storage, read> table: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn four_bit_dequantize(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (index >= (params.n_elements + 7u) / 8u) {
        return;
    }
    let first = 8u * index;
    let word = packed[index];
    let scale = scale_of(first / params.block); // blocks are multiples of eight elements
    for (var place = 0u; place < min(8u, params.n_elements - first); place++) {
        y[first + place] = value_of(word, place) * scale;
    }
}
