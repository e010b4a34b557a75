// decode_subgroups.wgsl: decode.wgsl by teams of lanes, which need no barrier from key to key (a snippet, prepended to kernels).
//
// The kernel has `length_of(batch)`, the keys of a sequence; `place_of(batch, kv_head, key)`, the row of features of a key, or NOWHERE;
// `q_at(i)`, `k_at(i, place)` and `v_at(i, place)`, vector i of four features; and the outputs `pieces` and `piece_lse`.
//
// A team is TEAM neighboring lanes of a subgroup, which has at least as many. It has four keys at a time: its lanes load neighboring
// vectors of a key, so that a load is one run of memory, and add their products by shuffles. Each team goes over keys of its own
// and keeps their maximum, sum and result; teams meet once, behind the last key.

const INVOCATIONS: u32 = 64u;
const NOWHERE: u32 = 0xffffffffu;
const MAX_ROWS: u32 = 8u;
const MAX_VECTORS: u32 = 8u;

override TEAM: u32 = 4u;            // 4 or 8, see teams.wgsl
override ROWS: u32 = 8u;            // 1 to MAX_ROWS
override COLUMN_VECTORS: u32 = 8u;  // how many of 32 vectors of columns a lane has: at most 32 / TEAM

var<workgroup> team_sums: array<vec4<f32>, 512>;  // [teams, 32]
var<workgroup> team_top: array<f32, 128>;         // [teams, MAX_ROWS]
var<workgroup> team_total: array<f32, 128>;

fn decode_piece(index: u32, role: u32) {
    let lane = role % TEAM;
    let team = role / TEAM;
    let n_teams = INVOCATIONS / TEAM;
    let column_tile = index % params.n_column_tiles;
    let piece = index / params.n_column_tiles % params.n_pieces;
    let row_tile = index / params.n_column_tiles / params.n_pieces % params.n_row_tiles;
    let kv_head = index / params.n_column_tiles / params.n_pieces / params.n_row_tiles % params.n_kv_heads;
    let batch = index / params.n_column_tiles / params.n_pieces / params.n_row_tiles / params.n_kv_heads;
    let n_rows = params.queries_per_kv * params.seq;
    let first_row = row_tile * ROWS;
    let kv_len = length_of(batch);

    // The keys of this piece that one of the rows sees.
    var seen: array<vec2<u32>, MAX_ROWS>;
    var start = kv_len;
    var end = 0u;
    for (var r = 0u; r < ROWS; r++) {
        let row = first_row + r;
        if (row < n_rows) {
            seen[r] = mask_keys(row % params.seq, params.seq, kv_len);
            start = min(start, seen[r].x);
            end = max(end, seen[r].y);
        }
    }
    start = max(start, piece * params.keys_per_piece);
    end = min(end, (piece + 1u) * params.keys_per_piece);

    let head_vectors = params.head_dim / 4u;
    let value_vectors = params.value_dim / 4u;
    let q_rows = (batch * params.n_kv_heads + kv_head) * n_rows;
    var sums: array<vec4<f32>, 64>;       // [MAX_ROWS, MAX_VECTORS]
    var top: array<f32, MAX_ROWS>;
    var total: array<f32, MAX_ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        top[r] = LOWEST;
    }
    for (var first = start; first < end; first += 4u * n_teams) {
        var places = vec4<u32>(NOWHERE);
        for (var i = 0u; i < 4u; i++) {
            let key = first + i * n_teams + team;
            if (key < end) {
                places[i] = place_of(batch, kv_head, key);
            }
        }
        // Component i of scores[r] is that of row r and key i.
        var scores = array<vec4<f32>, MAX_ROWS>();
        for (var d = lane; d < head_vectors; d += TEAM) {
            var k = array<vec4<f32>, 4>();
            for (var i = 0u; i < 4u; i++) {
                if (places[i] != NOWHERE) {
                    k[i] = k_at(places[i] * head_vectors + d, places[i]);
                }
            }
            for (var r = 0u; r < ROWS; r++) {
                let q = q_at((q_rows + min(first_row + r, n_rows - 1u)) * head_vectors + d);
                scores[r] += vec4<f32>(dot(q, k[0]), dot(q, k[1]), dot(q, k[2]), dot(q, k[3]));
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            let products = team_sum(scores[r]);
            var score = vec4<f32>(LOWEST);
            for (var i = 0u; i < 4u; i++) {
                let key = first + i * n_teams + team;
                if (places[i] != NOWHERE && key >= seen[r].x && key < seen[r].y) {
                    var value = params.scale * products[i];
                    if (params.softcap > 0.0) {
                        value = params.softcap * score_tanh(value / params.softcap);
                    }
                    score[i] = max(value, LOWEST);
                }
            }
            let largest = max(top[r], max(max(score.x, score.y), max(score.z, score.w)));
            let rescale = exp(max(top[r] - largest, -200.0));
            let weight = exp(max(score - largest, vec4<f32>(-200.0)));
            // From here on these are the weights.
            scores[r] = select(vec4<f32>(), weight, score > vec4<f32>(LOWEST));
            total[r] = total[r] * rescale + scores[r].x + scores[r].y + scores[r].z + scores[r].w;
            top[r] = largest;
            for (var c = 0u; c < COLUMN_VECTORS; c++) {
                sums[r * MAX_VECTORS + c] *= rescale;
            }
        }
        for (var i = 0u; i < 4u; i++) {
            if (places[i] == NOWHERE) {
                continue;
            }
            for (var c = 0u; c < COLUMN_VECTORS; c++) {
                let column = column_tile * 32u + lane + TEAM * c;
                if (column < value_vectors) {
                    let v = v_at(places[i] * value_vectors + column, places[i]);
                    for (var r = 0u; r < ROWS; r++) {
                        sums[r * MAX_VECTORS + c] += scores[r][i] * v;
                    }
                }
            }
        }
    }

    // The teams meet, row by row.
    if (lane == 0u) {
        for (var r = 0u; r < ROWS; r++) {
            team_top[team * MAX_ROWS + r] = top[r];
            team_total[team * MAX_ROWS + r] = total[r];
        }
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS && first_row + r < n_rows; r++) {
        var largest = LOWEST;
        for (var t = 0u; t < n_teams; t++) {
            largest = max(largest, team_top[t * MAX_ROWS + r]);
        }
        let rescale = exp(max(top[r] - largest, -200.0));
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            team_sums[team * 32u + lane + TEAM * c] = rescale * sums[r * MAX_VECTORS + c];
        }
        var all = 0.0;
        for (var t = 0u; t < n_teams; t++) {
            all += team_total[t * MAX_ROWS + r] * exp(max(team_top[t * MAX_ROWS + r] - largest, -200.0));
        }
        workgroupBarrier();
        let n_all = params.batch * params.n_heads * params.seq;
        let out_row = piece * n_all + q_rows + first_row + r;
        let column = column_tile * 32u + role;
        if (role < min(32u, TEAM * COLUMN_VECTORS) && column < value_vectors) {
            var sum = vec4<f32>();
            for (var t = 0u; t < n_teams; t++) {
                sum += team_sums[t * 32u + role];
            }
            pieces[out_row * value_vectors + column] = sum * select(0.0, 1.0 / max(all, 1e-30), all > 0.0);
        }
        if (column_tile == 0u && role == 0u) {
            piece_lse[out_row] = select(LOWEST, largest + log(max(all, 1e-30)), all > 0.0);
        }
        workgroupBarrier();
    }
}
