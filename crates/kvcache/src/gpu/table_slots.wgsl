// table_slots.wgsl: the slots of the last tokens of sequences, from the table and the lengths that attention reads.
//
// Twin      src/paged/table.rs `block_table`, read backwards; compared in tests/it/gpu/slots.rs
// Math      p = lengths[b] - seq + t;  slots[b, t] = block_table[b, p / page_size] * page_size + p % page_size, or NO_SLOT for p < 0
// Shapes    block_table  [batch, max_pages] u32
//           lengths      [batch] u32
//           slots        [batch, seq] u32
//           status       [4] u32: status[0] as in check_slots.wgsl, for tokens that the table gives no page of the pool
// Grid      linear, one invocation per slot
// Races     none in the slots; the status is a maximum by atomic operations
// Needs     core WebGPU only
// Precision exact

struct TableSlotsParams {
    n_tokens: u32,
    seq: u32,
    max_pages: u32,
    page_size: u32,
    n_pages: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: TableSlotsParams;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> lengths: array<u32>;
@group(0) @binding(3) var<storage, read_write> slots: array<u32>;
@group(0) @binding(4) var<storage, read_write> status: array<atomic<u32>>;

const NO_SLOT: u32 = 0xffffffffu;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn table_slots(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let token = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (token >= params.n_tokens) {
        return;
    }
    let row = token / params.seq;
    let from_end = params.seq - token % params.seq;
    let length = lengths[row];
    var slot = NO_SLOT;
    if (from_end <= length) {
        let position = length - from_end;
        let index = position / params.page_size;
        var page = params.n_pages;
        if (index < params.max_pages) {
            page = block_table[row * params.max_pages + index];
        }
        if (page < params.n_pages) {
            slot = page * params.page_size + position % params.page_size;
        } else {
            atomicMax(&status[0], 0xffffffffu - token);
        }
    }
    slots[token] = slot;
}
