// diagonal_sums.wgsl: the sum of each diagonal of a bias gradient: all that a bias of the distance alone can feel.
//
// Twin      src/t5.rs and src/kerple.rs `backward`; compared in tests/it/gpu/t5.rs and tests/it/gpu/kerple.rs
// Math      y[h, d] = sum over queries i of dbias[h, i, i + d - (seq - 1)]
// Shapes    dbias  [heads, seq, kv_seq] f32
//           y      [heads, seq + kv_seq - 1] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element
// Needs     core WebGPU only
// Precision f32 sum in the order of the queries

struct DiagonalSumsParams {
    n_elements: u32,
    seq: u32,
    kv_seq: u32,
    pad0: u32,
}

@group(0) @binding(0) var<uniform> params: DiagonalSumsParams;
@group(0) @binding(1) var<storage, read> dbias: array<f32>;       // [heads, seq, kv_seq]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;     // [heads, seq + kv_seq - 1]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn diagonal_sums(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let n_diagonals = params.seq + params.kv_seq - 1u;
    let head = element / n_diagonals;
    let diagonal = element % n_diagonals;
    // Queries whose key i + diagonal - (seq - 1) is one of the keys.
    let first = select(params.seq - 1u - diagonal, 0u, diagonal >= params.seq - 1u);
    let past = min(params.seq, n_diagonals - diagonal);
    var sum = 0.0;
    for (var query = first; query < past; query++) {
        let key = query + diagonal - (params.seq - 1u);
        sum += dbias[(head * params.seq + query) * params.kv_seq + key];
    }
    y[element] = sum;
}
