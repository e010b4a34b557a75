// beam_histogram.wgsl: how many sums of each group have each value of a digit.
//
// Twin      src/search/best.rs `cut`; compared in tests/it/gpu/beam.rs
// Math      s = sum of the beam + log-probability, in f64; of the elements that share the known digits of the cut: their number by the next
// Shapes    log_probs  [n_prompts, n_beams, vocab] bits of f32
//           beams      [n_prompts, n_beams, 4] u32, sums as real.wgsl has them
//           search     [n_prompts, SEARCH_WORDS] u32
//           partial    [n_prompts, n_groups, BUCKETS, BUCKET_WORDS] u32
// Grid      linear, one workgroup per group of a prompt
// Races     additions are atomic, and of integers: their order changes nothing
// Needs     core WebGPU only
// Precision exact: sums have the bits of f64

struct BeamHistogramParams {
    n_prompts: u32,
    n_beams: u32,
    vocab: u32,
    n_groups: u32,
    word: u32, // of the composite key: upper and lower half of the sum, place
    shift: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: BeamHistogramParams;
@group(0) @binding(1) var<storage, read> log_probs: array<u32>;
@group(0) @binding(2) var<storage, read> beams: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> search: array<u32>;
@group(0) @binding(4) var<storage, read_write> partial_buckets: array<u32>;

var<workgroup> numbers: array<atomic<u32>, BUCKETS>;

@compute @workgroup_size(INVOCATIONS)
fn beam_histogram(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let at_group = linear_workgroup(workgroup_id, num_workgroups);
    if (at_group >= params.n_prompts * params.n_groups) {
        return;
    }
    let prompt = at_group / params.n_groups;
    let at = prompt * SEARCH_WORDS;
    if (search[at + PHASE] != SEARCHING) {
        return;
    }
    atomicStore(&numbers[local_index], 0u);
    workgroupBarrier();
    let cut = vec3<u32>(search[at + CUT], search[at + CUT + 1u], search[at + CUT + 2u]);
    let n_places = params.n_beams * params.vocab;
    let first = at_group % params.n_groups * GROUP_TOKENS;
    let end = min(first + GROUP_TOKENS, n_places);
    for (var place = first + local_index; place < end; place += INVOCATIONS) {
        let beam = prompt * params.n_beams + place / params.vocab;
        let key = key_of_sum(beams[beam], log_probs[prompt * n_places + place]);
        if (wide_is_zero(key)) {
            continue;
        }
        let digits = array<u32, 3>(key.y, key.x, place);
        let known = array<u32, 3>(cut.x, cut.y, cut.z);
        var shares = true;
        for (var word = 0u; word < params.word; word++) {
            shares = shares && digits[word] == known[word];
        }
        if (shares && same_above(digits[params.word], known[params.word], params.shift)) {
            atomicAdd(&numbers[(digits[params.word] >> params.shift) & 255u], 1u);
        }
    }
    workgroupBarrier();
    let to = (at_group * BUCKETS + local_index) * BUCKET_WORDS;
    partial_buckets[to] = atomicLoad(&numbers[local_index]);
    partial_buckets[to + 1u] = 0u;
    partial_buckets[to + 2u] = 0u;
}
