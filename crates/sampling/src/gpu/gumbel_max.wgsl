// gumbel_max.wgsl: the largest sum of a logit and Gumbel noise of each group of a row.
//
// Twin      src/gumbel_max.rs `choose`; compared in tests/it/gpu/draws.rs
// Math      score_i = x_i - max + g_i, g_i = -ln(-ln u_i), u_i of words 2 (i % 2) and 2 (i % 2) + 1 of block i / 2 of Philox(key)
// Shapes    logits   [n_rows, vocab] bits of f32
//           extent   [n_rows, EXTENT_WORDS] u32
//           status   [n_rows, STATUS_WORDS] u32: rows that were refused have results of no meaning
//           keys     [n_rows, 2] u32
//           partial  [n_rows, n_groups, 3] u32: score with the lower word first, 0 if there is none; its lowest token
// Grid      linear, one workgroup per group of a row
// Races     none: results meet in workgroup memory behind barriers; invocation 0 writes
// Needs     core WebGPU only
// Precision a score is right to 2^-26; tokens 41 below the largest logit never win

struct GumbelMaxParams {
    n_rows: u32,
    vocab: u32,
    n_groups: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: GumbelMaxParams;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> extents: array<u32>;
@group(0) @binding(3) var<storage, read> status: array<u32>;
@group(0) @binding(4) var<storage, read> keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> partial_best: array<u32>;

var<workgroup> best: array<vec3<u32>, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS)
fn gumbel_max(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let place = linear_workgroup(workgroup_id, num_workgroups);
    if (place >= params.n_rows * params.n_groups) {
        return;
    }
    let row = place / params.n_groups;
    if (status[row * STATUS_WORDS] != 0u) {
        return;
    }
    let largest = real_of_f32(bits_of_key(extents[row * EXTENT_WORDS]));
    let philox_key = vec2<u32>(keys[2u * row], keys[2u * row + 1u]);
    let first = place % params.n_groups * GROUP_TOKENS;
    let end = min(first + GROUP_TOKENS, params.vocab);
    var own = vec3<u32>(0u, 0u, NO_TOKEN);
    for (var token = first + local_index; token < end; token += INVOCATIONS) {
        let bits = logits[row * params.vocab + token];
        if (bits == MASKED) {
            continue;
        }
        let depth = real_sub(largest, real_of_f32(bits));
        let fixed = score_depth(depth);
        if (fixed.y >= 41u) {
            continue;
        }
        let words = philox_block(philox_key, vec4<u32>(token / 2u, 0u, 0u, 0u));
        let score = wide_sub(gumbel_noise(select(words.xy, words.zw, vec2<bool>(token % 2u == 1u))), fixed);
        if (wide_less(own.xy, score)) {
            own = vec3<u32>(score, token);
        }
    }
    best[local_index] = own;
    for (var width = INVOCATIONS / 2u; width > 0u; width /= 2u) {
        workgroupBarrier();
        if (local_index < width) {
            let other = best[local_index + width];
            let mine = best[local_index];
            let is_better = wide_less(mine.xy, other.xy)
                || (all(mine.xy == other.xy) && other.z < mine.z);
            best[local_index] = select(mine, other, vec3<bool>(is_better));
        }
    }
    if (local_index == 0u) {
        partial_best[3u * place] = best[0].x;
        partial_best[3u * place + 1u] = best[0].y;
        partial_best[3u * place + 2u] = best[0].z;
    }
}

// A depth in units of 2^-32; 2^63 from 64 on.
fn score_depth(depth: Real) -> vec2<u32> {
    if (real_is_zero(depth)) {
        return vec2<u32>(0u, 0u);
    }
    if (depth.exponent + 52 >= 6) {
        return vec2<u32>(0u, 0x80000000u);
    }
    return wide_right(depth.mantissa, u32(-32 - depth.exponent));
}
