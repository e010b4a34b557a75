// move_runs.wgsl: runs of tokens from pages to others.
//
// Twin      src/paged/float.rs `copy_token`; compared in tests/it/gpu/moves.rs
// Math      target[to + i, head] = source[from + i, head] for i < tokens, for each run
// Shapes    runs    [n_runs, 3] u32
//           source  [n_parts, n_pages, n_heads, from_page_size, features] bytes, four in a word
//           target  [n_parts, n_pages, n_heads, to_page_size, features] bytes
// Grid      linear, one invocation per word that a run and head has a part of
// Races     no place is written twice: the host sees to it; words with bytes of several runs are changed byte by byte, atomically
// Needs     core WebGPU only
// Precision exact: bytes are copied

@group(0) @binding(2) var<storage, read> source: array<u32>;
@group(0) @binding(3) var<storage, read_write> target_pages: array<atomic<u32>>;

fn source_word(i: u32) -> u32 {
    return source[i];
}

fn put(i: u32, bits: u32, mask: u32) {
    if (mask == 0xffffffffu) {
        atomicStore(&target_pages[i], bits);
    } else {
        atomicAnd(&target_pages[i], ~mask);
        atomicOr(&target_pages[i], bits);
    }
}

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn move_runs(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (item < params.n_items) {
        copy_word(item);
    }
}
