// barrier_in_branch.wgsl: wrong on purpose; the last invocation does not wait for the others.
//
// Twin      none: it must never run
// Math      none
// Shapes    x  [64] f32
// Grid      one workgroup of 64
// Races     yes: the barrier is reached by some invocations only
// Needs     core WebGPU only (no f16, no subgroups)
// Precision none

@group(0) @binding(1) var<storage, read_write> x: array<f32>; // [64]

var<workgroup> shared_x: array<f32, 64>;

@compute @workgroup_size(64)
fn barrier_in_branch(@builtin(local_invocation_index) local_index: u32) {
    shared_x[local_index] = x[local_index];
    if local_index < 63u {
        workgroupBarrier();
        x[local_index] = shared_x[local_index + 1u];
    }
}
