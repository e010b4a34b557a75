// flash_tile.wgsl: products of tiles in workgroup memory (a snippet, prepended to kernels).
//
// A workgroup of 64 works on 32 x 32 scores: invocation (ty, tx) of 8 x 8 has the rows 4 ty + r and the columns tx + 8 c for
// r, c < 4, and of the result the rows 4 ty + r and the vectors of four columns tx + 8 c for c < COLUMN_VECTORS.

const TILE: u32 = 32u;
const INVOCATIONS: u32 = 64u;
const VECTORS: u32 = 8u;      // vectors of four features that are in memory at a time
const STRIDE: u32 = 9u;       // of a row of vectors: one more, so that rows lie in different banks

override COLUMN_VECTORS: u32 = 4u; // 1 to 4: how much of 128 columns there is, in quarters

var<workgroup> left_tile: array<vec4<f32>, 288>;    // [TILE, STRIDE]
var<workgroup> right_tile: array<vec4<f32>, 288>;   // the same; or [8, 32] vectors of tile_accumulate
var<workgroup> weights: array<f32, 1056>;           // [TILE, 33]

// Adds the products of the rows of both tiles: component c of scores[r] belongs to row 4 ty + r and column tx + 8 c.
fn tile_product(scores: ptr<function, array<vec4<f32>, 4>>, ty: u32, tx: u32) {
    for (var d = 0u; d < VECTORS; d++) {
        let r0 = right_tile[tx * STRIDE + d];
        let r1 = right_tile[(tx + 8u) * STRIDE + d];
        let r2 = right_tile[(tx + 16u) * STRIDE + d];
        let r3 = right_tile[(tx + 24u) * STRIDE + d];
        for (var r = 0u; r < 4u; r++) {
            let l = left_tile[(4u * ty + r) * STRIDE + d];
            (*scores)[r] += vec4<f32>(dot(l, r0), dot(l, r1), dot(l, r2), dot(l, r3));
        }
    }
}

// Adds weights times eight rows of the right tile, [8, 32] vectors, whose weights are in the columns from `first` on.
fn tile_accumulate(sums: ptr<function, array<vec4<f32>, 16>>, first: u32, ty: u32, tx: u32) {
    for (var i = 0u; i < 8u; i++) {
        let at = 4u * ty * 33u + first + i;
        let w = vec4<f32>(weights[at], weights[at + 33u], weights[at + 66u], weights[at + 99u]);
        for (var c = 0u; c < COLUMN_VECTORS; c++) {
            let x = right_tile[i * 32u + tx + 8u * c];
            (*sums)[c] += w.x * x;
            (*sums)[4u + c] += w.y * x;
            (*sums)[8u + c] += w.z * x;
            (*sums)[12u + c] += w.w * x;
        }
    }
}
