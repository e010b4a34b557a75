// alibi_at_backward.wgsl: the gradient of ALiBi's slopes where each batch row has key positions of its own.
//
// Twin      src/alibi/at.rs `backward_at`; compared in tests/it/gpu/alibi.rs
// Math      dslopes[h] = sum over batch, queries and keys of dbias[b, h, i, j] * positions[b, j]
// Shapes    dbias      [batch, heads, seq, kv_seq] f32
//           positions  [batch, kv_seq] u32
//           dslopes    [heads] f32
// Grid      linear, one workgroup per head
// Races     none: partial sums meet in tree_sum.wgsl; invocation 0 writes the result
// Needs     core WebGPU only
// Precision f32 sums: over keys, then rows, then invocations

struct AlibiAtBackwardParams {
    batch: u32,
    heads: u32,
    seq: u32,
    kv_seq: u32,
}

@group(0) @binding(0) var<uniform> params: AlibiAtBackwardParams;
@group(0) @binding(1) var<storage, read> dbias: array<f32>;          // [batch, heads, seq, kv_seq]
@group(0) @binding(2) var<storage, read> positions: array<u32>;      // [batch, kv_seq]
@group(0) @binding(3) var<storage, read_write> dslopes: array<f32>;  // [heads]

@compute @workgroup_size(TREE_INVOCATIONS)
fn alibi_at_backward(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let head = linear_workgroup(workgroup_id, num_workgroups);
    if (head >= params.heads) {
        return;
    }
    var sum = 0.0;
    for (var batch_query = 0u; batch_query < params.batch * params.seq; batch_query++) {
        let batch = batch_query / params.seq;
        let query = batch_query % params.seq;
        let row = ((batch * params.heads + head) * params.seq + query) * params.kv_seq;
        var row_sum = 0.0;
        for (var key = local_index; key < params.kv_seq; key += TREE_INVOCATIONS) {
            row_sum += dbias[row + key] * f32(positions[batch * params.kv_seq + key]);
        }
        sum += row_sum;
    }
    let total = tree_sum(local_index, sum);
    if (local_index == 0u) {
        dslopes[head] = total;
    }
}
