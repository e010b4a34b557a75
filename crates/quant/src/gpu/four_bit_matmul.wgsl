// four_bit_matmul.wgsl: many rows times packed weights, or times their transpose, and times a low-rank update of them.
//
// Twin      src/matmul.rs `forward` and `backward`, and those of src/matmul/low_rank.rs; compared in tests/it/gpu/matmul.rs, tests/it/gpu/low_rank.rs
// Math      y_tj = sum_i x_ti * w_ij + sum_r low_tr * scaling * f_rj, where w_ij is the weight number i * inner_stride + j * outer_stride, and
//           f_rj the factor number r * factor_inner_stride + j * factor_outer_stride
// Shapes    packed, scales, nested_scales, table as in four_bit_dequantize.wgsl
//           x  [seq, inner] f32
//           low  [seq, rank] f32, factors  [rank, outer] f32 with strides; any if rank is 0
//           y  [seq, outer] f32
// Grid      linear, one workgroup per tile of 32 by 32 elements
// Races     none: each workgroup writes its own elements
// Needs     core WebGPU only, all of its eight storage buffers; 8.3 KiB of workgroup memory
// Precision f32: each weight is rounded, sums in the order of the inner axis, the update last

struct FourBitMatmulParams {
    seq: u32,
    inner: u32,
    outer: u32,
    n_column_tiles: u32,
    n_items: u32,
    inner_stride: u32,
    outer_stride: u32,
    block: u32,
    is_nested: u32,
    rank: u32,
    scaling: f32,
    factor_inner_stride: u32,
    factor_outer_stride: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: FourBitMatmulParams;
@group(0) @binding(1) var<storage, read> packed: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read> nested_scales: array<f32>;
@group(0) @binding(4) var<storage, read> table: array<f32>;
@group(0) @binding(5) var<storage, read> x: array<f32>;
@group(0) @binding(6) var<storage, read> low: array<f32>;
@group(0) @binding(7) var<storage, read> factors: array<f32>;
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

const INVOCATIONS: u32 = 64u;
const TILE: u32 = 32u;
const STRIDE: u32 = 33u;

// [TILE, STRIDE] each: rows of x, and columns of the weights.
var<workgroup> tile_x: array<f32, 1056>;
var<workgroup> tile_w: array<f32, 1056>;

@compute @workgroup_size(INVOCATIONS)
fn four_bit_matmul(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(local_invocation_index) local_index: u32,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
) {
    let item = linear_workgroup(workgroup_id, num_workgroups);
    if (item >= params.n_items) {
        return;
    }
    let first_row = TILE * (item / params.n_column_tiles);
    let first_column = TILE * (item % params.n_column_tiles);
    let ty = local_index / 8u;
    let tx = local_index % 8u;
    var sums: array<vec4<f32>, 4>; // rows 4 ty + r, columns tx + 8 c
    let n_tiles = (params.inner + TILE - 1u) / TILE;
    let n_update_tiles = (params.rank + TILE - 1u) / TILE;
    for (var tile = 0u; tile < n_tiles + n_update_tiles; tile++) {
        let is_update = tile >= n_tiles;
        let first = TILE * select(tile, tile - n_tiles, is_update);
        let end = select(params.inner, params.rank, is_update);
        workgroupBarrier();
        for (var i = local_index; i < TILE * TILE; i += INVOCATIONS) {
            // Neighbors have neighboring elements of x, and of the weights if those of a row are summed over.
            let place = i / TILE;
            let step = i % TILE;
            let inner = first + step;
            let row = first_row + place;
            var value = 0.0;
            if (row < params.seq && inner < end) {
                if (is_update) {
                    value = low[row * params.rank + inner];
                } else {
                    value = x[row * params.inner + inner];
                }
            }
            tile_x[place * STRIDE + step] = value;
            let column = first_column + place;
            value = 0.0;
            if (column < params.outer && inner < end) {
                if (is_update) {
                    let index = inner * params.factor_inner_stride + column * params.factor_outer_stride;
                    value = params.scaling * factors[index];
                } else {
                    value = weight(inner * params.inner_stride + column * params.outer_stride);
                }
            }
            tile_w[place * STRIDE + step] = value;
        }
        workgroupBarrier();
        for (var step = 0u; step < TILE; step++) {
            let w = vec4<f32>(
                tile_w[tx * STRIDE + step],
                tile_w[(tx + 8u) * STRIDE + step],
                tile_w[(tx + 16u) * STRIDE + step],
                tile_w[(tx + 24u) * STRIDE + step],
            );
            for (var r = 0u; r < 4u; r++) {
                sums[r] += tile_x[(4u * ty + r) * STRIDE + step] * w;
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let row = first_row + 4u * ty + r;
        for (var c = 0u; c < 4u; c++) {
            let column = first_column + tx + 8u * c;
            if (row < params.seq && column < params.outer) {
                y[row * params.outer + column] = sums[r][c];
            }
        }
    }
}
