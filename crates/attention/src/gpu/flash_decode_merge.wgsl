// flash_decode_merge.wgsl: attention to pieces of the keys as attention to all of them.
//
// Twin      src/merge.rs `forward`; compared in tests/it/gpu/decode.rs
// Math      lse = ln sum_p e^(lse_p), out = sum_p e^(lse_p - lse) out_p
// Shapes    pieces     [n_pieces, n_rows, value_dim] f32
//           piece_lse  [n_pieces, n_rows] f32; LOWEST where no key is seen
//           out       [n_rows, value_dim] f32
//           lse       [n_rows] f32
// Grid      linear, one invocation per element of out, or per row if there are no values
// Races     none: each invocation writes its own element; the first of a row writes lse
// Needs     core WebGPU only
// Precision f32 sums in the order of the pieces, relative to the largest

struct FlashDecodeMergeParams {
    n_elements: u32,
    n_rows: u32,
    value_dim: u32,     // at least 1
    n_pieces: u32,
    has_values: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: FlashDecodeMergeParams;
@group(0) @binding(1) var<storage, read> pieces: array<f32>;
@group(0) @binding(2) var<storage, read> piece_lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;

const LOWEST: f32 = -3.4028234e38;

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn flash_decode_merge(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let row = element / params.value_dim;
    var top = LOWEST;
    for (var p = 0u; p < params.n_pieces; p++) {
        top = max(top, piece_lse[p * params.n_rows + row]);
    }
    var total = 0.0;
    var sum = 0.0;
    for (var p = 0u; p < params.n_pieces; p++) {
        let of_piece = piece_lse[p * params.n_rows + row];
        if (of_piece > LOWEST) {
            let weight = exp(max(of_piece - top, -200.0));
            total += weight;
            if (params.has_values != 0u) {
                sum += weight * pieces[p * params.n_elements + element];
            }
        }
    }
    if (params.has_values != 0u) {
        out[element] = select(0.0, sum / max(total, 1e-30), total > 0.0);
    }
    if (element % params.value_dim == 0u) {
        lse[row] = select(LOWEST, top + log(max(total, 1e-30)), total > 0.0);
    }
}
