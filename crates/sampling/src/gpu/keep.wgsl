// keep.wgsl: all but the tokens on one side of the cut become -inf.
//
// Twin      src/candidates.rs `keep_some_at_least`; compared in tests/it/gpu/top_k.rs
// Math      x_i stays where its key is above the cut, or at it and the rule says so of i
// Shapes    search  [n_rows, SEARCH_WORDS] u32: rows that were refused stay as they are
//           logits  [n_rows, vocab] bits of f32
// Grid      linear, one invocation per logit
// Races     none: each invocation changes its own logit
// Needs     core WebGPU only
// Precision exact: logits are kept or masked, never changed

struct KeepParams {
    n_elements: u32,
    vocab: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: KeepParams;
@group(0) @binding(1) var<storage, read> search: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn keep(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let at = element / params.vocab * SEARCH_WORDS;
    if (search[at + PHASE] == REFUSED) {
        return;
    }
    let token = element % params.vocab;
    let key = key_of_bits(logits[element]);
    let cut = search[at + CUT];
    let rule = search[at + RULE];
    let last = search[at + CUT + 2u];
    let at_cut = rule == ALL_STAY || (rule == LOW_STAY && token <= last) || (rule == HIGH_STAY && token > last);
    if (key < cut || (key == cut && !at_cut)) {
        logits[element] = MASKED;
    }
}
