// double_mean.wgsl: the mean of all scales from the levels of the cascade, and what no level has taken.
//
// Twin      src/double.rs `sum` and `cascade`; compared in tests/it/gpu/double.rs
// Math      offset = (x_1 + x_2 + ...) / n_scales
// Shapes    scales  [n_scales] bits of f32, of which n_turns turns of 32
//           level1  [n_first, 32], level2  [n_second, 32], level3  [n_third, 32] bits of f32: sums over runs of the level before
//           nested  [1 or more] bits of f32; the first is written
// Grid      one workgroup
// Races     none: columns, then lanes, then one invocation alone
// Needs     core WebGPU only; 128 bytes of workgroup memory
// Precision that of the CPU, bit for bit: sums and the quotient are rounded in integers

struct DoubleMeanParams {
    n_scales: u32,
    divisor: u32,
    n_turns: u32,
    run: u32,
    n_first: u32,
    n_second: u32,
    n_third: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: DoubleMeanParams;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> level1: array<u32>;
@group(0) @binding(3) var<storage, read> level2: array<u32>;
@group(0) @binding(4) var<storage, read> level3: array<u32>;
@group(0) @binding(5) var<storage, read_write> nested: array<u32>;

const ROWS: u32 = 4u;
const LANES: u32 = 8u;
const COLUMNS: u32 = 32u;

var<workgroup> sums: array<u32, 32>; // [ROWS, LANES]

@compute @workgroup_size(COLUMNS)
fn double_mean(@builtin(local_invocation_index) local_index: u32) {
    // What is left of each level, the lowest first.
    var level = 0u;
    for (var turn = params.n_first * params.run; turn < params.n_turns; turn++) {
        level = signed_sum(level, scales[COLUMNS * turn + local_index]);
    }
    var sum = level;
    level = 0u;
    for (var turn = params.n_second * params.run; turn < params.n_first; turn++) {
        level = signed_sum(level, level1[COLUMNS * turn + local_index]);
    }
    sum = signed_sum(sum, level);
    level = 0u;
    for (var turn = params.n_third * params.run; turn < params.n_second; turn++) {
        level = signed_sum(level, level2[COLUMNS * turn + local_index]);
    }
    sum = signed_sum(sum, level);
    level = 0u;
    for (var turn = 0u; turn < params.n_third; turn++) {
        level = signed_sum(level, level3[COLUMNS * turn + local_index]);
    }
    sums[local_index] = signed_sum(sum, level);
    workgroupBarrier();
    if (local_index < LANES) {
        add_rows(local_index);
    }
    workgroupBarrier();
    if (local_index == 0u) {
        let sum = total();
        let magnitude = sum & MAGNITUDE;
        if (magnitude >= INFINITY) {
            nested[0] = sum;
        } else {
            nested[0] = single_quotient(magnitude, params.divisor) | (sum & SIGN);
        }
    }
}

// The registers of a lane and the vectors that filled no turn.
fn add_rows(lane: u32) {
    var sum = sums[lane];
    for (var vector = ROWS * params.n_turns; vector < params.n_scales / LANES; vector++) {
        sum = signed_sum(sum, scales[LANES * vector + lane]);
    }
    for (var row = 1u; row < ROWS; row++) {
        sum = signed_sum(sum, sums[LANES * row + lane]);
    }
    sums[lane] = sum;
}

// The scales that filled no vector and the lanes. Less than eight scales are vectors of one lane.
fn total() -> u32 {
    var sum = 0u;
    if (params.n_scales < LANES) {
        let is_turn = params.n_scales >= ROWS;
        if (is_turn) {
            sum = signed_sum(sum, scales[0]);
        }
        for (var i = select(0u, ROWS, is_turn); i < params.n_scales; i++) {
            sum = signed_sum(sum, scales[i]);
        }
        if (is_turn) {
            for (var row = 1u; row < ROWS; row++) {
                sum = signed_sum(sum, scales[row]);
            }
        }
        return sum;
    }
    for (var i = params.n_scales - params.n_scales % LANES; i < params.n_scales; i++) {
        sum = signed_sum(sum, scales[i]);
    }
    for (var lane = 0u; lane < LANES; lane++) {
        sum = signed_sum(sum, sums[lane]);
    }
    return sum;
}
