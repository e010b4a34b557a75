//! Split-KV decoding: few queries, many keys, in pieces that are merged by their log-sum-exp.

use llm_gpu::{
    Access, Binding, Capabilities, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet,
};

use super::flash::{MASK, TANH};
use super::forward::TEAMS;
use super::plan::{COLUMNS, Plan};
use super::{Variant, WORKGROUP_SIZE, word};
use crate::AttentionError;

/// Most rows of a workgroup, as in `decode.wgsl` and `decode_subgroups.wgsl`.
const ROWS: usize = 8;

llm_gpu::params! {
    /// The parameter block of the decode kernels, see `decode_params.wgsl`.
    pub(super) struct DecodeParams {
        n_items: u32,
        n_column_tiles: u32,
        n_pieces: u32,
        keys_per_piece: u32,
        n_row_tiles: u32,
        batch: u32,
        n_heads: u32,
        n_kv_heads: u32,
        queries_per_kv: u32,
        head_dim: u32,
        value_dim: u32,
        seq: u32,
        kv_len: u32,
        page_size: u32,
        max_pages: u32,
        n_pages: u32,
        bottom_right: u32,
        left: i32,
        right: i32,
        chunk: i32,
        prefix: i32,
        scale: f32,
        softcap: f32,
        pad0: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `flash_decode_merge.wgsl`.
    pub(super) struct FlashDecodeMergeParams {
        n_elements: u32,
        n_rows: u32,
        value_dim: u32,
        n_pieces: u32,
        has_values: u32,
        pad0: u32,
        pad1: u32,
        pad2: u32,
    }
}

pub(super) const PARAMS: Snippet = Snippet {
    name: "decode_params",
    source: include_str!("decode_params.wgsl"),
};
pub(super) const DECODE: Snippet = Snippet {
    name: "decode",
    source: include_str!("decode.wgsl"),
};

pub(super) const DECODE_SUBGROUPS: Snippet = Snippet {
    name: "decode_subgroups",
    source: include_str!("decode_subgroups.wgsl"),
};

/// Tiles of 8 queries and 32 keys in rows of 9 vectors, and 2 times 32 vectors of weights.
pub(super) const DECODE_BYTES: u32 = (8 * 9 + 32 * 9 + 64) * 16;

/// Sums of 16 teams in rows of 32 vectors, and two numbers of 8 rows of each team.
const DECODE_SUBGROUPS_NEEDS: Needs = Needs::CORE
    .with_subgroups()
    .with_workgroup_bytes(16 * 32 * 16 + 2 * 16 * 8 * 4);

/// The kernel with subgroups that takes the place of a base one.
pub(super) const fn subgroups_kernel(
    base: &Kernel,
    name: &'static str,
    source: &'static str,
    snippets: &'static [Snippet],
) -> Kernel {
    Kernel {
        name,
        source,
        snippets,
        constants: &["TEAM", "ROWS", "COLUMN_VECTORS"],
        needs: DECODE_SUBGROUPS_NEEDS,
        ..*base
    }
}

pub(super) static FLASH_DECODE: Kernel = Kernel {
    name: "flash_decode",
    source: include_str!("flash_decode.wgsl"),
    snippets: &[snippet::LINEAR, PARAMS, MASK, TANH, DECODE],
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    params_size: size_of::<DecodeParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(DECODE_BYTES),
};

pub(super) static FLASH_DECODE_1_SUBGROUPS: Kernel = subgroups_kernel(
    &FLASH_DECODE,
    "flash_decode_1_subgroups",
    include_str!("flash_decode_1_subgroups.wgsl"),
    &[snippet::LINEAR, PARAMS, MASK, TANH, TEAMS, DECODE_SUBGROUPS],
);

pub(super) static FLASH_DECODE_MERGE: Kernel = Kernel {
    name: "flash_decode_merge",
    source: include_str!("flash_decode_merge.wgsl"),
    snippets: &[snippet::LINEAR],
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    params_size: size_of::<FlashDecodeMergeParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// The kernels that do the same work: for every device, and for one with subgroups.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecodeKernels {
    pub(super) base: &'static Kernel,
    pub(super) subgroups: &'static Kernel,
}

/// How the work is shared out.
struct Shares {
    kernel: &'static Kernel,
    constants: Vec<(&'static str, f64)>,
    /// Rows of a workgroup.
    rows: usize,
    /// The fewest keys that are worth a workgroup, a multiple of those that a kernel has at a time.
    keys_per_piece: usize,
    /// Workgroups that keep a large device busy. A function of nothing but shapes, so that results of a kernel do not depend on
    /// the device.
    enough: usize,
}

impl Shares {
    fn new(
        kernels: DecodeKernels,
        variant: Variant,
        capabilities: &Capabilities,
        plan: &Plan<'_>,
        n_rows: usize,
    ) -> Result<Self, AttentionError> {
        let sizes = &plan.sizes;
        let Some(lanes) = variant.decode_lanes(capabilities, sizes)? else {
            return Ok(Self {
                kernel: kernels.base,
                constants: Vec::new(),
                rows: ROWS,
                keys_per_piece: 256,
                enough: 512,
            });
        };
        // Few features would leave half of a large team without a vector.
        let few = sizes.head_dim.max(sizes.value_dim) <= 16;
        let team = if few { 4 } else { lanes.min(8) };
        let rows = n_rows.clamp(1, ROWS).next_power_of_two();
        let vectors = sizes.value_dim.min(COLUMNS).div_ceil(4 * team as usize);
        Ok(Self {
            kernel: kernels.subgroups,
            constants: vec![
                ("TEAM", f64::from(team)),
                ("ROWS", rows as f64),
                ("COLUMN_VECTORS", vectors as f64),
            ],
            rows,
            // Its workgroups wait for memory and for nothing else: many of them hide that.
            keys_per_piece: 128,
            enough: 2048,
        })
    }
}

/// Attention of one query of each head.
pub(super) fn record(
    recorder: &mut Recorder,
    plan: &Plan<'_>,
    variant: Variant,
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
) -> Result<(), AttentionError> {
    let kernels = DecodeKernels {
        base: &FLASH_DECODE,
        subgroups: &FLASH_DECODE_1_SUBGROUPS,
    };
    // Where there are no keys any tensor takes their place.
    let [k, v] = [plan.k, plan.v].map(|x| if x.is_empty() { plan.q } else { x });
    let inputs = [plan.q.read(), k.read(), v.read()];
    record_pieces(recorder, kernels, variant, plan, [0; 3], &inputs, out, lse)
}

/// Records a decode kernel for pieces of the keys, and what merges them. `plan.sizes.kv_seq` is the most keys that a sequence can
/// have; `pages` are the size of a page, the length of a row of the block table and the number of pages.
#[allow(
    clippy::too_many_arguments,
    reason = "a recorder, what to run, its tensors and their sizes"
)]
pub(super) fn record_pieces(
    recorder: &mut Recorder,
    kernels: DecodeKernels,
    variant: Variant,
    plan: &Plan<'_>,
    pages: [usize; 3],
    inputs: &[Binding<'_>],
    out: &GpuTensor<f32>,
    lse: &GpuTensor<f32>,
) -> Result<(), AttentionError> {
    if lse.is_empty() {
        return Ok(()); // nor is there an output
    }
    let (sizes, of) = (&plan.sizes, &plan.params);
    let n_column_tiles = sizes.value_dim.div_ceil(COLUMNS).max(1);
    let n_rows = sizes.n_heads / sizes.n_kv_heads.max(1) * sizes.seq;
    let capabilities = recorder.gpu().capabilities();
    let Shares {
        kernel,
        constants,
        rows,
        keys_per_piece: fewest,
        enough,
    } = Shares::new(kernels, variant, capabilities, plan, n_rows)?;
    let n_row_tiles = n_rows.div_ceil(rows);
    let workgroups = [sizes.batch, sizes.n_kv_heads, n_row_tiles, n_column_tiles]
        .into_iter()
        .fold(1, usize::saturating_mul);
    let wanted = enough.div_ceil(workgroups.max(1));
    let most = sizes.kv_seq.div_ceil(fewest).max(1);
    let keys_per_piece = sizes
        .kv_seq
        .div_ceil(wanted.min(most))
        .max(1)
        .next_multiple_of(fewest);
    let n_pieces = sizes.kv_seq.div_ceil(keys_per_piece).max(1);
    let n_items = workgroups.saturating_mul(n_pieces);
    let [page_size, max_pages, n_pages] = pages.map(word);
    let params = DecodeParams {
        n_items: word(n_items),
        n_column_tiles: word(n_column_tiles),
        n_pieces: word(n_pieces),
        keys_per_piece: word(keys_per_piece),
        n_row_tiles: word(n_row_tiles),
        batch: of.n_sequences,
        n_heads: of.n_heads,
        n_kv_heads: of.n_kv_heads,
        queries_per_kv: of.queries_per_kv,
        head_dim: of.head_dim,
        value_dim: of.value_dim,
        seq: of.q_len,
        kv_len: of.kv_len,
        page_size,
        max_pages,
        n_pages,
        bottom_right: of.bottom_right,
        left: of.left,
        right: of.right,
        chunk: of.chunk,
        prefix: of.prefix,
        scale: of.scale,
        softcap: of.softcap,
        pad0: 0,
    };
    let grid = Grid::linear(n_items, 1)?;
    if n_pieces == 1 {
        let bindings = [inputs, &[out.write(), lse.write()]].concat();
        recorder.dispatch(kernel, &constants, &params, &bindings, grid)?;
        return Ok(());
    }
    let pieces = recorder.scratch::<f32>(&[n_pieces, lse.len(), sizes.value_dim])?;
    let piece_lse = recorder.scratch::<f32>(&[n_pieces, lse.len()])?;
    let bindings = [inputs, &[pieces.write(), piece_lse.write()]].concat();
    recorder.dispatch(kernel, &constants, &params, &bindings, grid)?;
    let n_elements = out.len().max(if out.is_empty() { lse.len() } else { 0 });
    let params = FlashDecodeMergeParams {
        n_elements: word(n_elements),
        n_rows: word(lse.len()),
        value_dim: word(sizes.value_dim.max(1)),
        n_pieces: word(n_pieces),
        has_values: u32::from(!out.is_empty()),
        pad0: 0,
        pad1: 0,
        pad2: 0,
    };
    let bindings = [pieces.read(), piece_lse.read(), out.write(), lse.write()];
    let grid = Grid::linear(n_elements, WORKGROUP_SIZE)?;
    recorder.dispatch(&FLASH_DECODE_MERGE, &[], &params, &bindings, grid)?;
    Ok(())
}
