// beam_sort.wgsl: the candidates of each prompt, the best first.
//
// Twin      src/search/best.rs `order`; compared in tests/it/gpu/beam.rs
// Math      by sum, of equals the lower place (beam, then token) first; each candidate counts those before it
// Shapes    log_probs   [n_prompts, n_beams, vocab] bits of f32
//           search      [n_prompts, SEARCH_WORDS] u32; its word LISTED is the length of the list
//           list        [n_prompts, n, 3] u32
//           candidates  [n_prompts, n, CANDIDATE_WORDS] u32: token, beam, sum as f64 with the lower word first, log-probability; the token is
//                       2^32 - 1 where there is none
// Grid      linear, one workgroup per prompt
// Races     none: no two candidates have the same place, so none has the same rank
// Needs     core WebGPU only
// Precision exact

struct BeamSortParams {
    n_prompts: u32,
    n_beams: u32,
    vocab: u32,
    n: u32,
}

@group(0) @binding(0) var<uniform> params: BeamSortParams;
@group(0) @binding(1) var<storage, read> log_probs: array<u32>;
@group(0) @binding(2) var<storage, read> search: array<u32>;
@group(0) @binding(3) var<storage, read> list: array<u32>;
@group(0) @binding(4) var<storage, read_write> candidates: array<u32>;

const CANDIDATE_WORDS: u32 = 5u;

@compute @workgroup_size(INVOCATIONS)
fn beam_sort(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let prompt = linear_workgroup(workgroup_id, num_workgroups);
    if (prompt >= params.n_prompts) {
        return;
    }
    let at = prompt * SEARCH_WORDS;
    let length = min(select(search[at + LISTED], 0u, search[at + PHASE] == REFUSED), params.n);
    let first = prompt * params.n;
    for (var i = local_index; i < params.n; i += INVOCATIONS) {
        if (i >= length) {
            candidates[(first + i) * CANDIDATE_WORDS] = NO_TOKEN;
            continue;
        }
        let own = listed(first + i);
        var rank = 0u;
        for (var j = 0u; j < length; j++) {
            let other = listed(first + j);
            let is_before = wide_less(own.xy, other.xy) || (all(own.xy == other.xy) && other.z < own.z);
            rank += select(0u, 1u, is_before);
        }
        let sum = wide_bits_of_key(own.xy);
        let to = (first + rank) * CANDIDATE_WORDS;
        candidates[to] = own.z % params.vocab;
        candidates[to + 1u] = own.z / params.vocab;
        candidates[to + 2u] = sum.x;
        candidates[to + 3u] = sum.y;
        candidates[to + 4u] = log_probs[prompt * params.n_beams * params.vocab + own.z];
    }
}

fn listed(index: u32) -> vec3<u32> {
    return vec3<u32>(list[3u * index], list[3u * index + 1u], list[3u * index + 2u]);
}
