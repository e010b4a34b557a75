// radix_histogram.wgsl: how many logits of each group, and which weight, have each value of a digit.
//
// Twin      src/top_p.rs `histogram`; compared in tests/it/gpu/top_k.rs, tests/it/gpu/top_p.rs
// Math      of the elements that share the known digits of the cut: number, and sum of e^(x - max), by the next digit
// Shapes    logits   [n_rows, vocab] bits of f32
//           extent   [n_rows, EXTENT_WORDS] u32; read for weights only
//           search   [n_rows, SEARCH_WORDS] u32
//           partial  [n_rows, n_groups, BUCKETS, BUCKET_WORDS] u32
// Grid      linear, one workgroup per group of a row
// Races     additions are atomic, and of integers: their order changes nothing. Of the two words of a weight the lower one is added
//           first; who sees it wrap around adds the carry, and as many do as there are carries
// Needs     core WebGPU only
// Precision numbers are exact, weights as in row_mass.wgsl

struct RadixHistogramParams {
    n_rows: u32,
    vocab: u32,
    n_groups: u32,
    by_token: u32, // the digit is one of the token, for logits at the cut
    shift: u32,
    use_mass: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: RadixHistogramParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> extents: array<u32>;
@group(0) @binding(3) var<storage, read> search: array<u32>;
@group(0) @binding(4) var<storage, read_write> partial_buckets: array<u32>;

var<workgroup> numbers: array<atomic<u32>, BUCKETS>;
var<workgroup> lower: array<atomic<u32>, BUCKETS>;
var<workgroup> upper: array<atomic<u32>, BUCKETS>;

@compute @workgroup_size(INVOCATIONS)
fn radix_histogram(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let place = linear_workgroup(workgroup_id, num_workgroups);
    if (place >= params.n_rows * params.n_groups) {
        return;
    }
    let row = place / params.n_groups;
    let at = row * SEARCH_WORDS;
    if (search[at + PHASE] != SEARCHING) {
        return;
    }
    atomicStore(&numbers[local_index], 0u);
    atomicStore(&lower[local_index], 0u);
    atomicStore(&upper[local_index], 0u);
    workgroupBarrier();
    let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
    let cut = search[at + CUT];
    let cut_token = search[at + CUT + 2u];
    let first = place % params.n_groups * GROUP_TOKENS;
    let end = min(first + GROUP_TOKENS, params.vocab);
    for (var token = first + local_index; token < end; token += INVOCATIONS) {
        let bits = logits[row * params.vocab + token];
        let key = key_of_bits(bits);
        var digits = key;
        var shares = same_above(key, cut, params.shift);
        if (params.by_token == 1u) {
            digits = token;
            shares = key == cut && same_above(token, cut_token, params.shift);
        }
        if (!shares) {
            continue;
        }
        let bucket = (digits >> params.shift) & 255u;
        atomicAdd(&numbers[bucket], 1u);
        if (params.use_mass == 1u) {
            let weight = weight_of_logit(bits, largest);
            if (!wide_is_zero(weight)) {
                let before = atomicAdd(&lower[bucket], weight.x);
                let carry = select(0u, 1u, before + weight.x < before);
                atomicAdd(&upper[bucket], weight.y + carry);
            }
        }
    }
    workgroupBarrier();
    let to = (place * BUCKETS + local_index) * BUCKET_WORDS;
    partial_buckets[to] = atomicLoad(&numbers[local_index]);
    partial_buckets[to + 1u] = atomicLoad(&lower[local_index]);
    partial_buckets[to + 2u] = atomicLoad(&upper[local_index]);
}
