// alibi_backward.wgsl: the gradient of ALiBi's slopes.
//
// Twin      src/alibi.rs `backward`; compared in tests/it/gpu/alibi.rs
// Math      dslopes[h] = sum over queries and keys of dbias[h, query, key] * distance
// Shapes    dbias    [heads, seq, kv_seq] f32
//           dslopes  [heads] f32
// Grid      linear, one workgroup per head
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the result
// Needs     core WebGPU only
// Precision f32 sums: over keys, then rows, then invocations

struct AlibiBackwardParams {
    heads: u32,
    seq: u32,
    kv_seq: u32,
    origin: u32, // see alibi_score.wgsl
}

@group(0) @binding(0) var<uniform> params: AlibiBackwardParams;
@group(0) @binding(1) var<storage, read> dbias: array<f32>;          // [heads, seq, kv_seq]
@group(0) @binding(2) var<storage, read_write> dslopes: array<f32>;  // [heads]

@compute @workgroup_size(TREE_INVOCATIONS)
fn alibi_backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let head = linear_workgroup(workgroup_id, num_workgroups);
    if (head >= params.heads) {
        return;
    }
    var sum = 0.0;
    for (var query = 0u; query < params.seq; query++) {
        let row = (head * params.seq + query) * params.kv_seq;
        var row_sum = 0.0;
        for (var key = local_index; key < params.kv_seq; key += TREE_INVOCATIONS) {
            row_sum += dbias[row + key] * alibi_distance(query, key, params.seq, params.kv_seq, params.origin);
        }
        sum += row_sum;
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        dslopes[head] = total;
    }
}
