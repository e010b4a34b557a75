// flash_forward_3_matrices.wgsl: attention by tiles of keys; adds to flash_forward_2_f16: both products in cooperative matrices.
//
// Twin      src/flash.rs `forward_with_lse`; compared in tests/it/gpu/variants.rs
// Math      as flash_forward.wgsl, with queries, keys, values and weights rounded to f16
// Shapes    inputs as in flash_wide_inputs.wgsl and flash_params.wgsl
//           out    [batch, n_heads, q_len, value_dim] f32, or packed [total, n_heads, value_dim]
//           lse    [batch, n_heads, q_len] f32, or packed [n_heads, total]; LOWEST where no key is seen
// Grid      linear, one workgroup per 128 columns of 32 queries of a head
// Races     none: each workgroup writes its own elements; the log-sum-exp is written by that of the first columns
// Needs     cooperative matrices of f16 with sums in f32, 8 x 8 x 8 or 16 x 16 x 16 (subgroups of 32 or more lanes);
//           f16; subgroups of 8 to 64 lanes; head_dim and value_dim in multiples of 4; 27.0 KiB of workgroup memory
// Precision queries, keys and values rounded to f16, those beyond 65504 to that; weights rounded to f16 where they meet values, not
//           where they are summed; sums in f32: in a matrix in the order of the device, over keys in the order of tiles

// A workgroup of 128 works on 32 queries x 64 keys: invocation (row, x) of 32 x 4 has of each 16 columns those from 4 x on. Matrices
// have no elements that an invocation could reach, so products go through workgroup memory.

@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

const TILE: u32 = 32u;
const INVOCATIONS: u32 = 128u;
const TEAM: u32 = 4u;
const KEYS: u32 = 64u;
const HALF_STRIDE: u32 = 18u;  // of a row of 16 vectors of f16: two more, so that rows lie in different banks
const FLOAT_STRIDE: u32 = 68u; // of a row of 64 f32
const KEY_TILE: u32 = 576u;    // where the tile of keys begins

override COLUMN_VECTORS: u32 = 4u; // 1 to 4: how much of 128 columns there is, in quarters

var<workgroup> halves: array<vec4<f16>, 1728>;       // [TILE, HALF_STRIDE] of queries, [KEYS, HALF_STRIDE] of keys; or the latter of values
var<workgroup> half_weights: array<vec4<f16>, 576>;  // [TILE, HALF_STRIDE]
var<workgroup> products: array<f32, 2176>;           // [TILE, FLOAT_STRIDE]

@compute @workgroup_size(INVOCATIONS)
fn flash_forward_3_matrices(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(num_subgroups) n_subgroups: u32,
) {
    let index = linear_workgroup(workgroup_id, num_workgroups);
    if (index >= params.n_items) {
        return;
    }
    forward_matrices(index, role_of(subgroup, lane, subgroup_size), subgroup, n_subgroups);
}

fn forward_matrices(index: u32, role: u32, subgroup: u32, n_subgroups: u32) {
    let item = item_at(index, params.n_heads);
    let kv_head = item.head / params.queries_per_kv;
    let row = role / 4u;
    let x = role % 4u;
    let query = item.first + row;
    var seen = vec2<u32>();
    if (query < item.q_len) {
        seen = mask_keys(query, item.q_len, item.kv_len);
    }
    let last = min(item.first + TILE, item.q_len) - 1u;
    let end = mask_keys(last, item.q_len, item.kv_len).y;
    let head_vectors = params.head_dim / 4u;
    let n_halves = (COLUMN_VECTORS + 1u) / 2u;
    var sums: array<vec4<f32>, 8>; // of half h of the columns, vector x + 4 c is element 4 h + c
    var top = LOWEST;
    var total = 0.0;
    for (var first = mask_keys(item.first, item.q_len, item.kv_len).x; first < end; first += KEYS) {
        let left_is_hidden = tile_is_hidden(item, item.head, item.first, first, role);
        let right_is_hidden = tile_is_hidden(item, item.head, item.first, first + TILE, role);
        if (left_is_hidden && right_is_hidden) {
            continue;
        }
        for (var feature = 0u; feature < head_vectors; feature += 16u) {
            workgroupBarrier();
            for (var i = role; i < TILE * 16u; i += INVOCATIONS) {
                let one = item.first + i / 16u;
                halves[i / 16u * HALF_STRIDE + i % 16u] =
                    to_half(q_at(q_row(item, item.head, one), feature + i % 16u, one < item.q_len));
            }
            for (var i = role; i < KEYS * 16u; i += INVOCATIONS) {
                let key = first + i / 16u;
                halves[KEY_TILE + i / 16u * HALF_STRIDE + i % 16u] =
                    to_half(k_at(kv_row(item, kv_head, key), feature + i % 16u, key < end));
            }
            if (feature == 0u) {
                for (var i = role; i < TILE * FLOAT_STRIDE; i += INVOCATIONS) {
                    products[i] = 0.0;
                }
            }
            workgroupBarrier();
            key_products(subgroup, n_subgroups);
        }
        workgroupBarrier();
        var scores: array<vec4<f32>, 4>;
        var largest = top;
        for (var c = 0u; c < 4u; c++) {
            for (var i = 0u; i < 4u; i++) {
                let column = 4u * x + 16u * c + i;
                let product = products[row * FLOAT_STRIDE + column];
                scores[c][i] = score_at(product, item, item.head, query, first + column, seen).value;
                largest = max(largest, scores[c][i]);
            }
        }
        largest = team_max(vec4<f32>(largest)).x;
        let rescale = exp(max(top - largest, -200.0));
        top = largest;
        var sum = vec4<f32>();
        for (var c = 0u; c < 4u; c++) {
            var weight = exp(max(scores[c] - largest, vec4<f32>(-200.0)));
            weight = select(vec4<f32>(), weight, scores[c] > vec4<f32>(LOWEST));
            sum += weight;
            for (var i = 0u; i < 4u; i++) {
                // What stays is multiplied at the end: here it might not fit into f16.
                if (dropout_factor(item, item.head, query, first + 4u * x + 16u * c + i) == 0.0) {
                    weight[i] = 0.0;
                }
            }
            half_weights[row * HALF_STRIDE + x + 4u * c] = vec4<f16>(weight);
        }
        total = total * rescale + team_sum(vec4<f32>(sum.x + sum.y + sum.z + sum.w)).x;
        for (var h = 0u; h < n_halves; h++) {
            for (var i = role; i < KEYS * 16u; i += INVOCATIONS) {
                let key = first + i / 16u;
                halves[i / 16u * HALF_STRIDE + i % 16u] =
                    to_half(v_at(kv_row(item, kv_head, key), item.column / 4u + 16u * h + i % 16u, key < end));
            }
            workgroupBarrier();
            value_products(subgroup, n_subgroups);
            workgroupBarrier();
            for (var c = 0u; c < 4u; c++) {
                let at = row * FLOAT_STRIDE + 4u * x + 16u * c;
                let product = vec4<f32>(products[at], products[at + 1u], products[at + 2u], products[at + 3u]);
                sums[4u * h + c] = sums[4u * h + c] * rescale + product;
            }
        }
    }
    if (query >= item.q_len) {
        return;
    }
    let keep_scale = select(1.0, params.keep_scale, params.has_dropout != 0u);
    let inverse = keep_scale * select(0.0, 1.0 / max(total, 1e-30), total > 0.0);
    let out_row = q_row(item, item.head, query) * (params.value_dim / 4u);
    for (var i = 0u; i < 4u * n_halves; i++) {
        let column = item.column / 4u + i / 4u * 16u + x + i % 4u * 4u;
        if (4u * column < params.value_dim) {
            out[out_row + column] = sums[i] * inverse;
        }
    }
    if (item.column == 0u && x == 0u) {
        lse[lse_row(item, item.head, query)] = select(LOWEST, top + log(max(total, 1e-30)), total > 0.0);
    }
}

fn to_half(x: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}

// Adds queries times keys of 64 features to the products; two matrices side by side to a subgroup. There are as many pairs as
// subgroups, or a multiple: the host sees to it.
fn key_products(subgroup: u32, n_subgroups: u32) {
    let n_across = KEYS / (2u * MATRIX);
    for (var i = 0u; i < TILE / MATRIX * n_across; i += n_subgroups) {
        let row = (i + subgroup) / n_across * MATRIX;
        let column = (i + subgroup) % n_across * (2u * MATRIX);
        let one = row * FLOAT_STRIDE + column;
        let other = one + MATRIX;
        let float_stride = FLOAT_STRIDE;
        let half_stride = HALF_STRIDE;
        var first = coopLoadT<SumMatrix>(&products[one], float_stride);
        var second = coopLoadT<SumMatrix>(&products[other], float_stride);
        for (var d = 0u; d < 16u; d += MATRIX / 4u) {
            let queries = row * HALF_STRIDE + d;
            let keys = KEY_TILE + column * HALF_STRIDE + d;
            let more_keys = keys + MATRIX * HALF_STRIDE;
            let left = coopLoadT<LeftMatrix>(&halves[queries], half_stride);
            // Rows of keys are columns of the factor.
            let right = coopLoad<RightMatrix>(&halves[keys], half_stride);
            let more = coopLoad<RightMatrix>(&halves[more_keys], half_stride);
            first = coopMultiplyAdd(left, right, first);
            second = coopMultiplyAdd(left, more, second);
        }
        coopStoreT(first, &products[one], float_stride);
        coopStoreT(second, &products[other], float_stride);
    }
}

// Weights of 64 keys times 64 columns of their values.
fn value_products(subgroup: u32, n_subgroups: u32) {
    let n_across = 64u / (2u * MATRIX);
    for (var i = 0u; i < TILE / MATRIX * n_across; i += n_subgroups) {
        let row = (i + subgroup) / n_across * MATRIX;
        let column = (i + subgroup) % n_across * (2u * MATRIX);
        let float_stride = FLOAT_STRIDE;
        let half_stride = HALF_STRIDE;
        var first = SumMatrix();
        var second = SumMatrix();
        for (var j = 0u; j < KEYS; j += MATRIX) {
            let weights = row * HALF_STRIDE + j / 4u;
            let values = j * HALF_STRIDE + column / 4u;
            let more_values = values + MATRIX / 4u;
            let left = coopLoadT<LeftMatrix>(&half_weights[weights], half_stride);
            let right = coopLoadT<RightMatrix>(&halves[values], half_stride);
            let more = coopLoadT<RightMatrix>(&halves[more_values], half_stride);
            first = coopMultiplyAdd(left, right, first);
            second = coopMultiplyAdd(left, more, second);
        }
        let one = row * FLOAT_STRIDE + column;
        let other = one + MATRIX;
        coopStoreT(first, &products[one], float_stride);
        coopStoreT(second, &products[other], float_stride);
    }
}
