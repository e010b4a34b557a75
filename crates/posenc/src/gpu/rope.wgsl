// rope.wgsl: rotary position embedding of a tensor into a new one.
//
// Twin      src/rope.rs `apply` and `backward`; compared in tests/it/gpu/rope.rs
// Math      y1 = x1 cos a - x2 sin a,  y2 = x1 sin a + x2 cos a,  a = direction * angle
//           arXiv:2104.09864v5 equation 34; features from 2 n_planes on are copied
// Shapes    cos, sin  [table_rows, n_planes] f32; table_rows = seq, or batch * seq
//           x, y      [batch, heads, seq, head_dim] f32
// Grid      linear, one invocation per element of y
// Races     none: each invocation writes its own element, and y is not x
// Needs     core WebGPU only
// Precision two products and a sum in f32; what they multiply with is as exact as the table: uploaded one rounding, from
//           rope_table.wgsl 3e-7

struct RopeParams {
    n_elements: u32,
    heads_seq: u32,    // heads * seq
    seq: u32,
    head_dim: u32,
    n_planes: u32,
    table_stride: u32, // table rows from one batch row to the next: seq, or 0 where all share the table
    read_layout: u32,  // 0 = interleaved, 1 = half-split
    write_layout: u32,
    direction: f32,    // 1 = rotate, -1 = rotate back
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: RopeParams;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;   // [table_rows, n_planes]
@group(0) @binding(2) var<storage, read> sines: array<f32>;     // [table_rows, n_planes]
@group(0) @binding(3) var<storage, read> x: array<f32>;         // [batch, heads, seq, head_dim]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // [batch, heads, seq, head_dim]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn rope(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let element = linear_invocation(workgroup_id, local_index, WORKGROUP_SIZE, num_workgroups);
    if (element >= params.n_elements) {
        return;
    }
    let row = element / params.head_dim;
    let feature = element % params.head_dim;
    if (feature >= 2u * params.n_planes) {
        y[element] = x[element];
        return;
    }
    let n_planes = params.n_planes;
    // ANCHOR: turn
    // Which plane this feature belongs to, and whether it is the plane's first or second.
    var plane = feature / 2u;
    var is_second = (feature & 1u) == 1u;
    if (params.write_layout == 1u) {
        is_second = feature >= n_planes;
        plane = select(feature, feature - n_planes, is_second);
    }
    var first = 2u * plane;
    var second = first + 1u;
    if (params.read_layout == 1u) {
        first = plane;
        second = plane + n_planes;
    }
    let start = row * params.head_dim;
    let x1 = x[start + first];
    let x2 = x[start + second];
    let batch = row / params.heads_seq;
    let angle = (batch * params.table_stride + row % params.seq) * n_planes + plane;
    let c = cosines[angle];
    let s = params.direction * sines[angle];
    y[element] = select(x1 * c - x2 * s, x1 * s + x2 * c, is_second);
    // ANCHOR_END: turn
}
