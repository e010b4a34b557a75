// history_count.wgsl: how often each token occurred.
//
// Twin      src/presence_frequency.rs `apply`; compared in tests/it/gpu/penalties.rs
// Math      counts[r, i] = number of j in windows[r] with history[r, j] = i
// Shapes    history  [n_rows, length] u32; ids from vocab on are passed over
//           windows  [n_rows, 2] u32: first, and one past the last
//           counts   [n_rows, vocab] u32
// Grid      linear, one invocation per entry of the history
// Races     additions to a count are atomic, and of integers: their order changes nothing
// Needs     core WebGPU only
// Precision exact

struct HistoryCountParams {
    n_elements: u32,
    length: u32,
    vocab: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: HistoryCountParams;
@group(0) @binding(1) var<storage, read> history: array<u32>;
@group(0) @binding(2) var<storage, read> windows: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn history_count(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let row = element / params.length;
    let position = element % params.length;
    let token = history[element];
    if (position >= windows[2u * row] && position < windows[2u * row + 1u] && token < params.vocab) {
        atomicAdd(&counts[row * params.vocab + token], 1u);
    }
}
