// four_bit_fault.wgsl: the first number that is not finite, or whose difference from a mean is not.
//
// Twin      src/four_bit/blocks.rs `first_error`; compared in tests/it/gpu/four_bit.rs
// Math      value = x at the place that was found
// Shapes    x       [n_elements] bits of f32
//           status  [2] u32: the place, or 0xffffffff; the bits of the number
// Grid      one workgroup
// Races     none: there is one invocation
// Needs     core WebGPU only
// Precision the bits themselves

struct FourBitFaultParams {
    n_elements: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: FourBitFaultParams;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: array<u32>;

@compute @workgroup_size(1)
fn four_bit_fault() {
    let place = status[0];
    if (place < params.n_elements) {
        status[1] = x[place];
    }
}
