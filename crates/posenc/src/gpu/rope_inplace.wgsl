// rope_inplace.wgsl: rotary position embedding of a tensor in place.
//
// Twin      src/rope.rs `apply_inplace` and `backward_inplace`; compared in tests/it/gpu/rope.rs
// Math      y1 = x1 cos a - x2 sin a,  y2 = x1 sin a + x2 cos a,  a = direction * angle
//           arXiv:2104.09864v5 equation 34; features from 2 n_planes on stay
// Shapes    cos, sin  [table_rows, n_planes] f32; table_rows = seq, or batch * seq
//           x         [batch, heads, seq, head_dim] f32
// Grid      linear, one invocation per rotation plane
// Races     none: each invocation owns its two elements of x
// Needs     core WebGPU only
// Precision two products and a sum in f32; what they multiply with is as exact as the table: uploaded one rounding, from
//           rope_table.wgsl 3e-7

struct RopeInplaceParams {
    n_pairs: u32,      // rows * n_planes
    heads_seq: u32,    // heads * seq
    seq: u32,
    head_dim: u32,
    n_planes: u32,
    table_stride: u32, // table rows from one batch row to the next: seq, or 0 where all share the table
    pairing: u32,       // 0 = interleaved, 1 = half-split
    direction: f32,    // 1 = rotate, -1 = rotate back
}

@group(0) @binding(0) var<uniform> params: RopeInplaceParams;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;   // [table_rows, n_planes]
@group(0) @binding(2) var<storage, read> sines: array<f32>;     // [table_rows, n_planes]
@group(0) @binding(3) var<storage, read_write> x: array<f32>;   // [batch, heads, seq, head_dim]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn rope_inplace(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let pair = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (pair >= params.n_pairs) {
        return;
    }
    let n_planes = params.n_planes;
    let row = pair / n_planes;
    let plane = pair % n_planes;
    let start = row * params.head_dim;
    var first = start + 2u * plane;
    var second = first + 1u;
    if (params.pairing == 1u) {
        first = start + plane;
        second = first + n_planes;
    }
    let batch = row / params.heads_seq;
    let angle = (batch * params.table_stride + row % params.seq) * n_planes + plane;
    let c = cosines[angle];
    let s = params.direction * sines[angle];
    let x1 = x[first];
    let x2 = x[second];
    x[first] = x1 * c - x2 * s;
    x[second] = x1 * s + x2 * c;
}
