// words.wgsl: the words of a tensor as they are, whatever its elements.
//
// Twin      tests/it/transfer.rs, bits on the host
// Math      y = x
// Shapes    x, y  [n] u32, n at most 64
// Grid      one workgroup of 64 invocations
// Races     none: each invocation owns its element of y
// Needs     core WebGPU only (no f16, no subgroups)
// Precision exact

@group(0) @binding(1) var<storage, read> x: array<u32>;       // [n]
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // [n]

@compute @workgroup_size(64)
fn words(@builtin(local_invocation_index) local_index: u32) {
    if local_index < min(arrayLength(&x), arrayLength(&y)) {
        y[local_index] = x[local_index];
    }
}
