// check_slots.wgsl: whether slots that the device made are in the pool.
//
// Twin      src/paged/table/state.rs `check_write`, for slots; compared in tests/it/gpu/slots.rs
// Math      status[0] = max of 2^32 - 1 - i over the slots i that are neither in the pool nor NO_SLOT; 0 without any
// Shapes    slots   [n_tokens] u32
//           status  [4] u32
// Grid      linear, one invocation per slot
// Races     a maximum by atomic operations: their order changes nothing
// Needs     core WebGPU only
// Precision exact

struct CheckSlotsParams {
    n_tokens: u32,
    n_slots: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: CheckSlotsParams;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read_write> status: array<atomic<u32>>;

const NO_SLOT: u32 = 0xffffffffu;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn check_slots(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let token = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (token >= params.n_tokens) {
        return;
    }
    let slot = slots[token];
    if (slot >= params.n_slots && slot != NO_SLOT) {
        atomicMax(&status[0], 0xffffffffu - token);
    }
}
