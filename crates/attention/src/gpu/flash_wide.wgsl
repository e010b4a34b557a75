// flash_wide.wgsl: attention by tiles of keys, by vectors of four and teams of lanes (a snippet, prepended to kernels).
//
// The kernel has `TileVector`, in what tiles lie in workgroup memory, with `to_tile` and `from_tile`; and the outputs `out` and `lse`.
//
// A workgroup of 64 works on 32 x 32 scores: invocation (ty, tx) of 8 x 8 has the rows 4 ty + r and the columns tx + 8 c for r, c < 4,
// and of the result the vectors of four columns tx + 8 c for c < COLUMN_VECTORS. The eight of a row are a team of neighboring lanes.

const TILE: u32 = 32u;
const INVOCATIONS: u32 = 64u;
const TEAM: u32 = 8u;
const VECTORS: u32 = 8u;    // vectors of four features that are in memory at a time
const STRIDE: u32 = 9u;     // of a row of vectors: one more, so that rows lie in different banks
const KEY_TILE: u32 = 288u; // where the tile of keys begins
const VALUES: u32 = 16u;    // values that are in memory at a time

override COLUMN_VECTORS: u32 = 4u; // 1 to 4: how much of 128 columns there is, in quarters

var<workgroup> tiles: array<TileVector, 576>;   // [TILE, STRIDE] of queries, the same of keys; or [VALUES, 8 COLUMN_VECTORS] of values
var<workgroup> weights: array<vec4<f32>, 288>;  // [TILE, 9]: of key j, component r of vector ty is that of row 4 ty + r

fn forward_tile(index: u32, role: u32) {
    let item = item_at(index, params.n_heads);
    let kv_head = item.head / params.queries_per_kv;
    let ty = role / 8u;
    let tx = role % 8u;
    var seen: array<vec2<u32>, 4>;
    for (var r = 0u; r < 4u; r++) {
        if (item.first + 4u * ty + r < item.q_len) {
            seen[r] = mask_keys(item.first + 4u * ty + r, item.q_len, item.kv_len);
        }
    }
    let last = min(item.first + TILE, item.q_len) - 1u;
    let end = mask_keys(last, item.q_len, item.kv_len).y;
    let head_vectors = params.head_dim / 4u;
    let n_columns = 8u * COLUMN_VECTORS;
    var sums: array<vec4<f32>, 16>;
    var top = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    for (var first = mask_keys(item.first, item.q_len, item.kv_len).x; first < end; first += TILE) {
        if (tile_is_hidden(item, item.head, item.first, first, role)) {
            continue;
        }
        var scores = array<vec4<f32>, 4>();
        for (var feature = 0u; feature < head_vectors; feature += VECTORS) {
            workgroupBarrier();
            for (var i = role; i < TILE * VECTORS; i += INVOCATIONS) {
                let row = i / VECTORS;
                let vector = i % VECTORS;
                let query = item.first + row;
                let key = first + row;
                tiles[row * STRIDE + vector] =
                    to_tile(q_at(q_row(item, item.head, query), feature + vector, query < item.q_len));
                tiles[KEY_TILE + row * STRIDE + vector] =
                    to_tile(k_at(kv_row(item, kv_head, key), feature + vector, key < end));
            }
            workgroupBarrier();
            let n_vectors = min(VECTORS, head_vectors - feature);
            for (var d = 0u; d < n_vectors; d++) {
                let at = KEY_TILE + tx * STRIDE + d;
                let k0 = from_tile(tiles[at]);
                let k1 = from_tile(tiles[at + 8u * STRIDE]);
                let k2 = from_tile(tiles[at + 16u * STRIDE]);
                let k3 = from_tile(tiles[at + 24u * STRIDE]);
                for (var r = 0u; r < 4u; r++) {
                    let q = from_tile(tiles[(4u * ty + r) * STRIDE + d]);
                    scores[r] += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
                }
            }
        }
        var largest = top;
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < 4u; c++) {
                let key = first + tx + 8u * c;
                let score = score_at(scores[r][c], item, item.head, item.first + 4u * ty + r, key, seen[r]);
                scores[r][c] = score.value;
                largest[r] = max(largest[r], score.value);
            }
        }
        largest = team_max(largest);
        let rescale = exp(max(top - largest, vec4<f32>(-200.0)));
        top = largest;
        var sum = vec4<f32>();
        for (var c = 0u; c < 4u; c++) {
            let column = tx + 8u * c;
            var weight = vec4<f32>();
            for (var r = 0u; r < 4u; r++) {
                if (scores[r][c] > LOWEST) {
                    weight[r] = exp(max(scores[r][c] - largest[r], -200.0));
                    sum[r] += weight[r];
                    weight[r] *= dropout_factor(item, item.head, item.first + 4u * ty + r, first + column);
                }
            }
            weights[column * 9u + ty] = weight;
        }
        total = total * rescale + team_sum(sum);
        for (var r = 0u; r < 4u; r++) {
            for (var c = 0u; c < COLUMN_VECTORS; c++) {
                sums[4u * r + c] *= rescale[r];
            }
        }
        let n_keys = min(TILE, end - first);
        for (var part = 0u; part < n_keys; part += VALUES) {
            workgroupBarrier();
            for (var i = role; i < VALUES * n_columns; i += INVOCATIONS) {
                let key = first + part + i / n_columns;
                tiles[i] = to_tile(v_at(kv_row(item, kv_head, key), item.column / 4u + i % n_columns, key < end));
            }
            workgroupBarrier();
            let past = min(part + VALUES, n_keys);
            for (var j = part; j < past; j++) {
                let w = weights[j * 9u + ty];
                for (var c = 0u; c < COLUMN_VECTORS; c++) {
                    let x = from_tile(tiles[(j - part) * n_columns + tx + 8u * c]);
                    sums[c] += w.x * x;
                    sums[4u + c] += w.y * x;
                    sums[8u + c] += w.z * x;
                    sums[12u + c] += w.w * x;
                }
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let query = item.first + 4u * ty + r;
        if (query >= item.q_len) {
            continue;
        }
        let inverse = select(0.0, 1.0 / max(total[r], 1e-30), total[r] > 0.0);
        let row = q_row(item, item.head, query) * (params.value_dim / 4u);
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            let column = item.column / 4u + tx + 8u * c;
            if (4u * column < params.value_dim) {
                out[row + column] = sums[4u * r + c] * inverse;
            }
        }
        if (item.column == 0u && tx == 0u) {
            lse[lse_row(item, item.head, query)] = select(LOWEST, top[r] + log(max(total[r], 1e-30)), total[r] > 0.0);
        }
    }
}
