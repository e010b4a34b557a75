// beam_gather.wgsl: a list of the candidates of each prompt, in any order.
//
// Twin      src/search/best.rs `push`; compared in tests/it/gpu/beam.rs
// Math      those whose sum is above that of the cut, or equal to it and at a place up to that of the cut
// Shapes    log_probs  [n_prompts, n_beams, vocab] bits of f32
//           beams      [n_prompts, n_beams, 4] u32, sums as real.wgsl has them
//           search     [n_prompts, SEARCH_WORDS] u32; its word LISTED counts
//           list       [n_prompts, n, 3] u32: key with the lower word first, place
// Grid      linear, one invocation per log-probability
// Races     each invocation writes where its own atomic addition to LISTED says; the order in the list is left to beam_sort.wgsl
// Needs     core WebGPU only
// Precision exact: sums have the bits of f64

struct BeamGatherParams {
    n_elements: u32,
    n_beams: u32,
    vocab: u32,
    n: u32,
}

@group(0) @binding(0) var<uniform> params: BeamGatherParams;
@group(0) @binding(1) var<storage, read> log_probs: array<u32>;
@group(0) @binding(2) var<storage, read> beams: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> search: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> list: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn beam_gather(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let beam = element / params.vocab;
    let prompt = beam / params.n_beams;
    let place = element - prompt * params.n_beams * params.vocab;
    let at = prompt * SEARCH_WORDS;
    let key = key_of_sum(beams[beam], log_probs[element]);
    if (wide_is_zero(key) || atomicLoad(&search[at + PHASE]) == REFUSED) {
        return;
    }
    let cut = vec2<u32>(atomicLoad(&search[at + CUT + 1u]), atomicLoad(&search[at + CUT]));
    let is_equal = all(key == cut);
    if (wide_less(key, cut) || (is_equal && place > atomicLoad(&search[at + CUT + 2u]))) {
        return;
    }
    let index = atomicAdd(&search[at + LISTED], 1u);
    if (index < params.n) {
        let to = 3u * (prompt * params.n + index);
        list[to] = key.x;
        list[to + 1u] = key.y;
        list[to + 2u] = place;
    }
}
