// double_sum.wgsl: a level of the cascade that adds up scales: sums over runs of turns, in each of 32 columns.
//
// Twin      src/double.rs `cascade`; compared in tests/it/gpu/double.rs
// Math      y_rc = 0 + x_(r * run)c + x_(r * run + 1)c + ..., run terms in this order
// Shapes    x  [n_runs * run or more, 32] bits of f32
//           y  [n_runs, 32] bits of f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision that of the CPU, bit for bit: sums are rounded in integers

struct DoubleSumParams {
    n_runs: u32,
    run: u32,
    pad0: u32,
    pad1: u32,
}

@group(0) @binding(0) var<uniform> params: DoubleSumParams;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

override WORKGROUP_SIZE: u32 = 64u;

// Four registers of eight lanes.
const COLUMNS: u32 = 32u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn double_sum(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let index = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (index >= COLUMNS * params.n_runs) {
        return;
    }
    let first = (index / COLUMNS) * params.run;
    var sum = 0u;
    for (var turn = first; turn < first + params.run; turn++) {
        sum = signed_sum(sum, x[COLUMNS * turn + index % COLUMNS]);
    }
    y[index] = sum;
}
