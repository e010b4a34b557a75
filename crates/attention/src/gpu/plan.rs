//! The checked sizes of a call on the device, as the tiled kernels have them.

use llm_gpu::{Binding, GpuTensor, Grid, Kernel, Recorder};

use super::{MAX_LENGTH, axes, axes_of, word};
use crate::{AttentionConfig, AttentionError, CausalAlignment, Mask};

/// Rows and columns of a tile of scores, as in `flash_tile.wgsl`.
pub(super) const TILE: usize = 32;
/// Columns of the result that a workgroup has.
pub(super) const COLUMNS: usize = 128;
/// What stands for no limit in a mask: further than any position.
const UNLIMITED: i32 = 1 << 30;

llm_gpu::params! {
    /// The parameter block of the tiled kernels, see `flash_params.wgsl`.
    pub(super) struct FlashParams {
        n_items: u32,
        n_column_tiles: u32,
        n_tiles: u32,
        n_sequences: u32,
        n_heads: u32,
        n_kv_heads: u32,
        queries_per_kv: u32,
        head_dim: u32,
        value_dim: u32,
        q_len: u32,
        kv_len: u32,
        q_batch: u32,
        q_head: u32,
        q_token: u32,
        kv_batch: u32,
        kv_head: u32,
        kv_token: u32,
        lse_batch: u32,
        lse_head: u32,
        is_packed: u32,
        cu_seqlens: u32,
        cu_kv_seqlens: u32,
        tiles: u32,
        slopes: u32,
        alibi_origin: u32,
        has_bias: u32,
        bias_batch: u32,
        bias_head: u32,
        bias_query: u32,
        bias_key: u32,
        bottom_right: u32,
        left: i32,
        right: i32,
        chunk: i32,
        prefix: i32,
        scale: f32,
        softcap: f32,
        has_dropout: u32,
        last_dropped: u32,
        keep_scale: f32,
        key_low: u32,
        key_high: u32,
        stream_low: u32,
        stream_high: u32,
        grad_batch: u32,
        grad_head: u32,
        grad_query: u32,
        grad_key: u32,
    }
}

/// The sizes of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) seq: usize,
    pub(super) kv_seq: usize,
    pub(super) head_dim: usize,
    pub(super) value_dim: usize,
}

/// The arrays of a call and what the kernels are told about them.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) sizes: Sizes,
    pub(super) params: FlashParams,
    pub(super) q: &'a GpuTensor<f32>,
    pub(super) k: &'a GpuTensor<f32>,
    pub(super) v: &'a GpuTensor<f32>,
    /// Bound as `small`.
    pub(super) slopes: Option<&'a GpuTensor<f32>>,
    /// Bound as `small` where sequences are packed; `params` says what is where.
    pub(super) lists: Option<GpuTensor<u32>>,
    /// Tiles of queries and of keys, of all sequences together.
    pub(super) tiles: [usize; 2],
    /// Where in the lists the tiles of queries and of keys are.
    pub(super) tile_lists: [u32; 2],
    /// Tiles of keys of the longest sequence.
    pub(super) longest: usize,
    pub(super) bias: Option<GpuTensor<f32>>,
}

impl<'a> Plan<'a> {
    /// Checks `[batch, heads, tokens, features]`.
    pub(super) fn new(
        q: &'a GpuTensor<f32>,
        k: &'a GpuTensor<f32>,
        v: &'a GpuTensor<f32>,
        config: &AttentionConfig,
    ) -> Result<Self, AttentionError> {
        let [batch, n_heads, seq, head_dim] = axes("q", q)?;
        let [_, n_kv_heads, kv_seq, _] = axes("k", k)?;
        let [.., value_dim] = axes::<_, 4>("v", v)?;
        expect("k", k, [batch, n_kv_heads, kv_seq, head_dim])?;
        expect("v", v, [batch, n_kv_heads, kv_seq, value_dim])?;
        let sizes = Sizes {
            batch,
            n_heads,
            n_kv_heads,
            seq,
            kv_seq,
            head_dim,
            value_dim,
        };
        Self::of_sizes([q, k, v], sizes, config)
    }

    /// The same for tensors whose shapes are checked.
    pub(super) fn of_sizes(
        [q, k, v]: [&'a GpuTensor<f32>; 3],
        sizes: Sizes,
        config: &AttentionConfig,
    ) -> Result<Self, AttentionError> {
        let Sizes {
            batch,
            n_heads,
            n_kv_heads,
            seq,
            kv_seq,
            ..
        } = sizes;
        check_length("seq", seq)?;
        check_length("kv_seq", kv_seq)?;
        let params = FlashParams {
            n_sequences: word(batch),
            q_len: word(seq),
            kv_len: word(kv_seq),
            q_batch: rows(n_heads, seq),
            q_head: word(seq),
            q_token: 1,
            kv_batch: rows(n_kv_heads, kv_seq),
            kv_head: word(kv_seq),
            kv_token: 1,
            lse_batch: rows(n_heads, seq),
            lse_head: word(seq),
            ..params(&sizes, config)?
        };
        Ok(Self {
            sizes,
            params,
            q,
            k,
            v,
            slopes: None,
            lists: None,
            tiles: [seq, kv_seq].map(|length| batch.saturating_mul(length.div_ceil(TILE))),
            tile_lists: [0; 2],
            longest: kv_seq.div_ceil(TILE),
            bias: None,
        })
    }

    pub(super) fn out_shape(&self) -> [usize; 4] {
        let sizes = &self.sizes;
        [sizes.batch, sizes.n_heads, sizes.seq, sizes.value_dim]
    }

    pub(super) fn lse_shape(&self) -> [usize; 3] {
        [self.sizes.batch, self.sizes.n_heads, self.sizes.seq]
    }

    /// Records a kernel whose rows are queries: one workgroup for each tile, head, and part of `columns`.
    pub(super) fn over_queries(
        &self,
        recorder: &mut Recorder,
        kernel: &'static Kernel,
        columns: usize,
        more: &[Binding<'_>],
    ) -> Result<(), AttentionError> {
        self.dispatch(recorder, kernel, 0, [self.sizes.n_heads, columns], more)
    }

    /// The same for a kernel whose rows are keys.
    pub(super) fn over_keys(
        &self,
        recorder: &mut Recorder,
        kernel: &'static Kernel,
        columns: usize,
        more: &[Binding<'_>],
    ) -> Result<(), AttentionError> {
        self.dispatch(recorder, kernel, 1, [self.sizes.n_kv_heads, columns], more)
    }

    fn dispatch(
        &self,
        recorder: &mut Recorder,
        kernel: &'static Kernel,
        side: usize, // 0: rows are queries, 1: keys
        [heads, columns]: [usize; 2],
        more: &[Binding<'_>],
    ) -> Result<(), AttentionError> {
        // Without columns there may still be a log-sum-exp.
        let n_column_tiles = columns.div_ceil(COLUMNS).max(1);
        let n_items = [self.tiles[side], heads, n_column_tiles]
            .into_iter()
            .fold(1, usize::saturating_mul);
        let length = [self.sizes.seq, self.sizes.kv_seq][side];
        let params = FlashParams {
            n_items: word(n_items),
            n_column_tiles: word(n_column_tiles),
            n_tiles: word(length.div_ceil(TILE)),
            tiles: self.tile_lists[side],
            ..self.params
        };
        self.dispatch_with(recorder, kernel, columns, &params, n_items, more)
    }

    /// Records a kernel with these parameters: `n_items` workgroups.
    pub(super) fn dispatch_with(
        &self,
        recorder: &mut Recorder,
        kernel: &'static Kernel,
        columns: usize,
        params: &FlashParams,
        n_items: usize,
        more: &[Binding<'_>],
    ) -> Result<(), AttentionError> {
        let grid = Grid::linear(n_items, 1)?;
        let column_vectors = columns.clamp(1, COLUMNS).div_ceil(COLUMNS / 4);
        let constants = [("COLUMN_VECTORS", column_vectors as f64)];
        // What is not there is not read: any tensor takes its place.
        let small = match (&self.lists, self.slopes) {
            (Some(lists), _) => lists.read(),
            (None, slopes) => slopes.unwrap_or(self.q).read(),
        };
        let bias = self.bias.as_ref().unwrap_or(self.q);
        // The same where there are no keys: a kernel that reads vectors refuses to have less than one.
        let [k, v] = [self.k, self.v].map(|x| if x.is_empty() { self.q } else { x });
        let mut bindings = vec![self.q.read(), k.read(), v.read(), small, bias.read()];
        bindings.extend_from_slice(more);
        recorder.dispatch(kernel, &constants, params, &bindings, grid)?;
        Ok(())
    }
}

/// What heads, features and the config say.
pub(super) fn params(
    sizes: &Sizes,
    config: &AttentionConfig,
) -> Result<FlashParams, AttentionError> {
    let Sizes {
        n_heads,
        n_kv_heads,
        head_dim,
        value_dim,
        ..
    } = *sizes;
    let queries_per_kv = n_heads.checked_div(n_kv_heads).unwrap_or(0);
    if queries_per_kv * n_kv_heads != n_heads {
        return Err(AttentionError::Heads {
            n_heads,
            n_kv_heads,
        });
    }
    let scale = config
        .scale
        .unwrap_or_else(|| 1.0 / (head_dim.max(1) as f64).sqrt());
    if !(scale as f32).is_finite() {
        return Err(AttentionError::Scale { got: scale });
    }
    if let Some(got) = config.softcap {
        let softcap = got as f32;
        if !(softcap.is_finite() && softcap > 0.0) {
            return Err(AttentionError::Softcap { got });
        }
    }
    let (query_tile, key_tile) = (config.query_tile, config.key_tile);
    if query_tile == 0 || key_tile == 0 {
        return Err(AttentionError::Tile {
            query_tile,
            key_tile,
        });
    }
    let mut params = FlashParams {
        n_heads: word(n_heads),
        n_kv_heads: word(n_kv_heads),
        // Without queries there may be any number of heads: shaders must not loop over them.
        queries_per_kv: if sizes.seq == 0 {
            0
        } else {
            word(queries_per_kv)
        },
        head_dim: word(head_dim),
        value_dim: word(value_dim),
        left: UNLIMITED,
        right: UNLIMITED,
        chunk: UNLIMITED,
        scale: scale as f32,
        softcap: config.softcap.unwrap_or(0.0) as f32,
        ..llm_gpu::bytemuck::Zeroable::zeroed()
    };
    set_mask(&mut params, config.mask)?;
    Ok(params)
}

/// One formula for all masks, see `mask.wgsl`.
fn set_mask(params: &mut FlashParams, mask: Mask) -> Result<(), AttentionError> {
    let alignment = match mask {
        Mask::Full => CausalAlignment::TopLeft,
        Mask::Causal(alignment) => {
            params.right = 0;
            alignment
        }
        Mask::Window {
            left,
            right,
            alignment,
        } => {
            params.left = limited(left.unwrap_or(usize::MAX));
            params.right = limited(right.unwrap_or(usize::MAX));
            alignment
        }
        Mask::ChunkedCausal { chunk: 0, .. } => return Err(AttentionError::Chunk),
        Mask::ChunkedCausal { chunk, alignment } => {
            params.right = 0;
            params.chunk = limited(chunk);
            alignment
        }
        Mask::PrefixLm { prefix, alignment } => {
            params.right = 0;
            params.prefix = limited(prefix);
            alignment
        }
    };
    params.bottom_right = u32::from(alignment == CausalAlignment::BottomRight);
    Ok(())
}

fn limited(n: usize) -> i32 {
    i32::try_from(n).map_or(UNLIMITED, |n| n.min(UNLIMITED))
}

/// Rows of features of all heads. Where it does not fit into a word there are no features.
fn rows(heads: usize, tokens: usize) -> u32 {
    word(heads.wrapping_mul(tokens))
}

pub(super) fn check_length(name: &'static str, got: usize) -> Result<(), AttentionError> {
    if got > MAX_LENGTH {
        return Err(AttentionError::TooLong {
            name,
            max: MAX_LENGTH,
            got,
        });
    }
    Ok(())
}

/// Refuses a tensor of another shape.
pub(super) fn expect(
    name: &'static str,
    tensor: &GpuTensor<f32>,
    expected: [usize; 4],
) -> Result<(), AttentionError> {
    expect_shape(name, tensor.shape(), expected)
}

/// Refuses another shape.
pub(super) fn expect_shape(
    name: &'static str,
    got: &[usize],
    expected: [usize; 4],
) -> Result<(), AttentionError> {
    let got = axes_of(name, got)?;
    if got == expected {
        return Ok(());
    }
    Err(AttentionError::Shape {
        name,
        expected,
        got,
    })
}
