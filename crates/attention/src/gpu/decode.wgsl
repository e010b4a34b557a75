// decode.wgsl: attention of few queries to many keys, one piece of the keys in each workgroup (a snippet, prepended to kernels).
//
// The kernel has `length_of(batch)`, the keys of a sequence; `place_of(batch, kv_head, key)`, the row of features of a key, or NOWHERE;
// `q_element`, `k_element` and `v_element`; and the outputs `pieces` and `piece_lse`.
//
// A workgroup of 64 has 8 rows: invocation (half, lane) of 2 x 32 has the rows 4 half + r for r < 4, of a tile of 32 keys the key
// `lane`, and of the values the four columns from 4 lane on.

const ROWS: u32 = 8u;
const KEYS: u32 = 32u;
const NOWHERE: u32 = 0xffffffffu;

var<workgroup> q_tile: array<vec4<f32>, 72>;       // [ROWS, 9] vectors of four features, see flash_tile.wgsl
var<workgroup> k_tile: array<vec4<f32>, 288>;      // [KEYS, 9]
var<workgroup> row_weights: array<vec4<f32>, 64>;  // [2, KEYS], component r of half h is that of row 4 h + r

fn decode_piece(index: u32, local_index: u32) {
    let column = (index % params.n_column_tiles) * 128u + 4u * (local_index % 32u);
    let piece = index / params.n_column_tiles % params.n_pieces;
    let row_tile = index / params.n_column_tiles / params.n_pieces % params.n_row_tiles;
    let kv_head = index / params.n_column_tiles / params.n_pieces / params.n_row_tiles % params.n_kv_heads;
    let batch = index / params.n_column_tiles / params.n_pieces / params.n_row_tiles / params.n_kv_heads;
    let half = local_index / 32u;
    let lane = local_index % 32u;
    let n_rows = params.queries_per_kv * params.seq;
    let kv_len = length_of(batch);

    // The keys of this piece that one of the rows sees.
    var start = kv_len;
    var end = 0u;
    for (var r = 0u; r < ROWS; r++) {
        let row = row_tile * ROWS + r;
        if (row < n_rows) {
            let keys = mask_keys(row % params.seq, params.seq, kv_len);
            start = min(start, keys.x);
            end = max(end, keys.y);
        }
    }
    start = max(start, piece * params.keys_per_piece);
    end = min(end, (piece + 1u) * params.keys_per_piece);

    var seen: array<vec2<u32>, 4>;
    for (var r = 0u; r < 4u; r++) {
        let row = row_tile * ROWS + 4u * half + r;
        if (row < n_rows) {
            seen[r] = mask_keys(row % params.seq, params.seq, kv_len);
        }
    }
    var sums: array<vec4<f32>, 4>;
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    for (var first = start; first < end; first += KEYS) {
        let key = first + lane;
        var place = NOWHERE;
        if (key < end) {
            place = place_of(batch, kv_head, key);
        }
        var scores = vec4<f32>();
        for (var feature = 0u; feature < params.head_dim; feature += 32u) {
            workgroupBarrier();
            let q_row = row_tile * ROWS + local_index / 8u;
            q_tile[local_index / 8u * 9u + local_index % 8u] =
                q_vector(batch, kv_head, q_row, feature + 4u * (local_index % 8u), q_row < n_rows);
            for (var i = local_index; i < 256u; i += 64u) {
                var at = NOWHERE;
                if (first + i / 8u < end) {
                    at = place_of(batch, kv_head, first + i / 8u);
                }
                k_tile[i / 8u * 9u + i % 8u] = k_vector(at, feature + 4u * (i % 8u));
            }
            workgroupBarrier();
            for (var d = 0u; d < 8u; d++) {
                let k = k_tile[lane * 9u + d];
                let row = 4u * half * 9u + d;
                scores += vec4<f32>(
                    dot(q_tile[row], k),
                    dot(q_tile[row + 9u], k),
                    dot(q_tile[row + 18u], k),
                    dot(q_tile[row + 27u], k),
                );
            }
        }
        for (var r = 0u; r < 4u; r++) {
            var score = LOWEST;
            if (place != NOWHERE && key >= seen[r].x && key < seen[r].y) {
                score = params.scale * scores[r];
                if (params.softcap > 0.0) {
                    score = params.softcap * score_tanh(score / params.softcap);
                }
            }
            scores[r] = max(score, LOWEST);
        }
        row_weights[local_index] = scores;
        workgroupBarrier();
        // All invocations of a half find the same numbers.
        var largest = top;
        for (var i = 0u; i < KEYS; i++) {
            largest = max(largest, row_weights[32u * half + i]);
        }
        workgroupBarrier();
        let weight = exp(max(scores - largest, vec4<f32>(-200.0)));
        row_weights[local_index] = select(vec4<f32>(), weight, scores > vec4<f32>(LOWEST));
        workgroupBarrier();
        let rescale = exp(max(top - largest, vec4<f32>(-200.0)));
        top = largest;
        total *= rescale;
        for (var r = 0u; r < 4u; r++) {
            sums[r] *= rescale[r];
        }
        for (var i = 0u; i < KEYS && first + i < end; i++) {
            let w = row_weights[32u * half + i];
            let v = v_vector(place_of(batch, kv_head, first + i), column);
            total += w;
            sums[0] += w.x * v;
            sums[1] += w.y * v;
            sums[2] += w.z * v;
            sums[3] += w.w * v;
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        let row = row_tile * ROWS + 4u * half + r;
        if (row >= n_rows) {
            continue;
        }
        let n_all = params.batch * params.n_heads * params.seq;
        let out_row = piece * n_all + (batch * params.n_kv_heads + kv_head) * n_rows + row;
        let x = sums[r] * select(0.0, 1.0 / max(total[r], 1e-30), total[r] > 0.0);
        for (var i = 0u; i < 4u; i++) {
            if (column + i < params.value_dim) {
                pieces[out_row * params.value_dim + column + i] = x[i];
            }
        }
        if (column == 0u) {
            piece_lse[out_row] = select(LOWEST, top[r] + log(max(total[r], 1e-30)), total[r] > 0.0);
        }
    }
}

// Row `row` of a key-value head: the queries of its first query head, then those of the next.
fn q_vector(batch: u32, kv_head: u32, row: u32, feature: u32, is_row: bool) -> vec4<f32> {
    let n_rows = params.queries_per_kv * params.seq;
    let at = ((batch * params.n_kv_heads + kv_head) * n_rows + row) * params.head_dim + feature;
    var x = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if (is_row && feature + i < params.head_dim) {
            x[i] = q_element(at + i);
        }
    }
    return x;
}

fn k_vector(place: u32, feature: u32) -> vec4<f32> {
    var x = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if (place != NOWHERE && feature + i < params.head_dim) {
            x[i] = k_element(place * params.head_dim + feature + i, place);
        }
    }
    return x;
}

fn v_vector(place: u32, feature: u32) -> vec4<f32> {
    var x = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if (place != NOWHERE && feature + i < params.value_dim) {
            x[i] = v_element(place * params.value_dim + feature + i, place);
        }
    }
    return x;
}
