// packed_lists.wgsl: the lists of packed sequences and the slopes of ALiBi in one array, as the tiled kernels read them.
//
// Twin      src/varlen/score_mods.rs; compared in tests/it/gpu/varlen.rs
// Math      y = lists, and behind them the bits of slopes
// Shapes    lists   [n_words] u32
//           slopes  [n_elements - n_words] u32, the bits of f32
//           y       [n_elements] u32
// Grid      linear, one invocation per word
// Races     none: each invocation writes its own word
// Needs     core WebGPU only
// Precision exact

struct PackedListsParams {
    n_elements: u32,
    n_words: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: PackedListsParams;
@group(0) @binding(1) var<storage, read> lists: array<u32>;
@group(0) @binding(2) var<storage, read> slopes: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn packed_lists(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (index >= params.n_elements) {
        return;
    }
    if (index < params.n_words) {
        y[index] = lists[index];
    } else {
        y[index] = slopes[index - params.n_words];
    }
}
