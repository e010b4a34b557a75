//! The loops of RoPE: rows of contiguous features, many planes at a time.
//!
//! Memory is the limit, not arithmetic, and `examples/rope_bandwidth.rs` measures how near it is. What was fastest:
//!
//! - Half-split planes where they lie: each token in several heads side by side, in vectors of 16 bytes. The processor
//!   fetches ahead in twice as many places as there are heads, and no vector touches two cache lines.
//! - All else: one head after the other, in the widest vectors, so that few instructions stand between two reads.

use ndarray::{
    Array4, ArrayRef4, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4, Axis, s,
};

use super::{RopePairing, RopeTable};
use crate::PosencError;
use crate::memory::check_size;
use llm_numerics::{Float, simd, threads};

/// At most this many elements are one task.
const TASK: usize = 1 << 18;

/// At most this many heads are turned side by side: their rows often lie a power of two apart, so that more of them would
/// push each other out of the cache.
const HEADS: usize = 8;

/// Where the two features of plane `i` lie among `2 n` features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// At `2 i` and `2 i + 1`.
    Pairs,
    /// At `i` and `i + n`.
    Halves,
}

impl RopePairing {
    /// Where a rotation reads and where it writes; the backward swaps the two.
    pub(super) const fn layouts(self) -> (Layout, Layout) {
        match self {
            Self::Interleaved => (Layout::Pairs, Layout::Pairs),
            Self::HalfSplit => (Layout::Halves, Layout::Halves),
            Self::ReadInterleavedWriteHalfSplit => (Layout::Pairs, Layout::Halves),
        }
    }
}

/// By which sign of the angle to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// Where a rotation by this sign reads and where it writes.
    pub(crate) const fn layouts(self, pairing: RopePairing) -> (Layout, Layout) {
        let (read, write) = pairing.layouts();
        match self {
            Self::Forward => (read, write),
            Self::Backward => (write, read),
        }
    }

    /// What the sines are multiplied with.
    pub(crate) const fn sign(self) -> f32 {
        match self {
            Self::Forward => 1.0,
            Self::Backward => -1.0,
        }
    }
}

/// What [`into_new`] and [`inplace`] do to one plane: `(x1, x2, cos, sin)` to `(y1, y2)`.
pub(super) trait Turn<E>: Fn(E, E, f32, f32) -> (E, E) + Copy + Send + Sync {}
impl<E, T: Fn(E, E, f32, f32) -> (E, E) + Copy + Send + Sync> Turn<E> for T {}

/// Two products and a sum in `F`.
#[inline(always)]
// ANCHOR: pair
pub(super) fn turn<F: Float>(x1: F, x2: F, cos: f32, sin: f32) -> (F, F) {
    let (cos, sin) = (F::from_f64(f64::from(cos)), F::from_f64(f64::from(sin)));
    (x1 * cos - x2 * sin, x1 * sin + x2 * cos)
}
// ANCHOR_END: pair

/// The rows of the table for each `[seq]` of the batch.
#[derive(Clone, Copy)]
struct Rotation<'a, T> {
    table: &'a RopeTable,
    /// 0 if all of the batch share the rows.
    rows_per_batch: usize,
    read: Layout,
    write: Layout,
    turn: T,
}

impl<'a, T> Rotation<'a, T> {
    fn new(
        (batch, _, seq, head_dim): (usize, usize, usize, usize),
        table: &'a RopeTable,
        pairing: RopePairing,
        direction: Direction,
        turn: T,
    ) -> Result<Self, PosencError> {
        let got = table.rows();
        let rows_per_batch = if got == seq {
            0
        } else if batch.checked_mul(seq) == Some(got) {
            seq
        } else {
            return Err(PosencError::TableRows { seq, batch, got });
        };
        if table.rotary_dim() > head_dim {
            return Err(PosencError::RotaryDimAboveHeadDim {
                rotary_dim: table.rotary_dim(),
                head_dim,
            });
        }
        let (read, write) = direction.layouts(pairing);
        Ok(Self {
            table,
            rows_per_batch,
            read,
            write,
            turn,
        })
    }
}

/// Rotates into a new array, made of zeros. `turn` must turn by the negative angle if `direction` is backward.
pub(super) fn into_new<E: Copy + Send + Sync>(
    x: &ArrayRef4<E>,
    zero: E,
    table: &RopeTable,
    pairing: RopePairing,
    direction: Direction,
    turn: impl Turn<E>,
) -> Result<Array4<E>, PosencError> {
    let (batch, heads, seq, head_dim) = x.dim();
    let rotation = Rotation::new(x.dim(), table, pairing, direction, turn)?;
    // The product of the non-zero axes of an array fits into `isize`.
    let rows = if head_dim == 0 {
        0
    } else {
        batch * heads * seq
    };
    check_size::<E>(rows, head_dim)?;
    let mut out = Array4::from_elem(x.dim(), zero);
    run(out.view_mut(), Some(x.view()), &rotation);
    Ok(out)
}

/// Rotates in place. `turn` must turn by the negative angle if `direction` is backward.
pub(super) fn inplace<E: Copy + Send + Sync>(
    x: &mut ArrayRef4<E>,
    table: &RopeTable,
    pairing: RopePairing,
    direction: Direction,
    turn: impl Turn<E>,
) -> Result<(), PosencError> {
    let rotation = Rotation::new(x.dim(), table, pairing, direction, turn)?;
    run(x.view_mut(), None, &rotation);
    Ok(())
}

/// A part of the array, and of the input where that is another one.
struct Part<'a, E> {
    out: ArrayViewMut4<'a, E>,
    source: Option<ArrayView4<'a, E>>,
    /// Its first batch and sequence element.
    first: [usize; 2],
}

/// Rotates part after part. Elements do not mix, so the cut changes nothing.
fn run<'a, E: Copy + Send + Sync>(
    out: ArrayViewMut4<'a, E>,
    source: Option<ArrayView4<'a, E>>,
    rotation: &Rotation<'_, impl Turn<E>>,
) {
    if out.is_empty() {
        return;
    }
    let is_side_by_side =
        source.is_none() && (rotation.read, rotation.write) == (Layout::Halves, Layout::Halves);
    let mut parts = Vec::new();
    let whole = Part {
        out,
        source,
        first: [0, 0],
    };
    halve(whole, is_side_by_side, &mut parts);
    threads::for_each(parts, |part| {
        if is_side_by_side {
            rotate(part, rotation);
        } else {
            simd::vectorize(
                #[inline(always)]
                || rotate(part, rotation),
            );
        }
    });
}

/// Halves batch, heads or seq until parts are small: whichever is outermost in memory, or batch, then heads, then seq.
fn halve<'a, E>(part: Part<'a, E>, is_side_by_side: bool, parts: &mut Vec<Part<'a, E>>) {
    let (batch, heads, seq, _) = part.out.dim();
    let outermost = (0..3)
        .filter(|&axis| part.out.shape()[axis] > 1)
        .max_by_key(|&axis| part.out.strides()[axis].unsigned_abs());
    let axis = if part.out.len() <= TASK {
        None
    } else if !is_side_by_side || batch > 1 {
        outermost
    } else if heads > HEADS {
        Some(1)
    } else if seq > 1 {
        Some(2)
    } else {
        outermost
    };
    let Some(axis) = axis else {
        return parts.push(part);
    };
    let middle = part.out.shape()[axis] / 2;
    let (out, out_rest) = part.out.split_at(Axis(axis), middle);
    let (source, source_rest) = part
        .source
        .map(|source| source.split_at(Axis(axis), middle))
        .unzip();
    let mut first_rest = part.first;
    match axis {
        0 => first_rest[0] += middle,
        2 => first_rest[1] += middle,
        _ => {}
    }
    let half = Part {
        out,
        source,
        first: part.first,
    };
    halve(half, is_side_by_side, parts);
    let half = Part {
        out: out_rest,
        source: source_rest,
        first: first_rest,
    };
    halve(half, is_side_by_side, parts);
}

/// Rotates a part, sequence by sequence.
#[inline(always)]
fn rotate<E: Copy>(part: Part<'_, E>, rotation: &Rotation<'_, impl Turn<E>>) {
    let Part {
        mut out,
        source,
        first: [batch, start],
    } = part;
    for (b, out) in out.outer_iter_mut().enumerate() {
        let source = source.as_ref().map(|source| source.index_axis(Axis(0), b));
        let start = (batch + b) * rotation.rows_per_batch + start;
        let n_planes = rotation.table.cos.ncols();
        let rows = start * n_planes..(start + out.len_of(Axis(1))) * n_planes;
        let cos = &rotation.table.cos.as_slice().unwrap_or_default()[rows.clone()];
        let sin = &rotation.table.sin.as_slice().unwrap_or_default()[rows];
        sequence(out, source, (cos, sin), rotation);
    }
}

/// Rotates `[heads, seq, head_dim]` with tables of `[seq, n_planes]`.
#[inline(always)]
fn sequence<E: Copy>(
    mut out: ArrayViewMut3<'_, E>,
    source: Option<ArrayView3<'_, E>>,
    (cos, sin): (&[f32], &[f32]),
    rotation: &Rotation<'_, impl Turn<E>>,
) {
    let (_, seq, head_dim) = out.dim();
    let (read, write, turn) = (rotation.read, rotation.write, rotation.turn);
    let n_planes = cos.len() / seq; // seq is not zero: the array is not empty
    let angles = |t: usize| {
        let planes = t * n_planes..(t + 1) * n_planes;
        (&cos[planes.clone()], &sin[planes])
    };
    let row = |t: usize| t * head_dim..(t + 1) * head_dim;
    let mut x = Vec::new();

    let sources: Option<Vec<&[E]>> = source
        .as_ref()
        .and_then(|source| source.outer_iter().map(|head| head.to_slice()).collect());
    let heads: Option<Vec<&mut [E]>> = out
        .outer_iter_mut()
        .map(ArrayViewMut2::into_slice)
        .collect();
    match (heads, sources) {
        (Some(mut heads), None) if source.is_none() && read == write => match read {
            Layout::Halves => {
                for t in 0..seq {
                    for head in &mut heads {
                        turn_halves(&mut head[row(t)], angles(t), turn);
                    }
                }
            }
            Layout::Pairs => {
                for head in heads {
                    for t in 0..seq {
                        turn_pairs(&mut head[row(t)], angles(t), turn);
                    }
                }
            }
        },
        (Some(heads), None) if source.is_none() => {
            for head in heads {
                for t in 0..seq {
                    let y = &mut head[row(t)];
                    x.clear();
                    x.extend_from_slice(y);
                    turn_row(&x, y, angles(t), read, write, turn);
                }
            }
        }
        (Some(heads), Some(sources)) => {
            for (head, source) in heads.into_iter().zip(sources) {
                for t in 0..seq {
                    let y = &mut head[row(t)];
                    turn_row(&source[row(t)], y, angles(t), read, write, turn);
                }
            }
        }
        // Heads that are not contiguous go by way of two rows that are.
        _ => {
            let mut y = Vec::new();
            for (t, mut rows) in out.axis_iter_mut(Axis(1)).enumerate() {
                for (h, mut row) in rows.outer_iter_mut().enumerate() {
                    x.clear();
                    match &source {
                        Some(source) => x.extend(source.slice(s![h, t, ..]).iter().copied()),
                        None => x.extend(row.iter().copied()),
                    }
                    y.clone_from(&x);
                    turn_row(&x, &mut y, angles(t), read, write, turn);
                    row.iter_mut().zip(&y).for_each(|(place, y)| *place = *y);
                }
            }
        }
    }
}

/// Turns the half-split planes of one token where they are.
///
/// Not inlined: as arguments, the slices are known to be apart from each other.
#[inline(never)]
fn turn_halves<E: Copy>(row: &mut [E], (cos, sin): (&[f32], &[f32]), turn: impl Turn<E>) {
    let n_planes = cos.len();
    let (x1, rest) = row.split_at_mut(n_planes);
    let x2 = &mut rest[..n_planes];
    for ((x1, x2), (cos, sin)) in x1.iter_mut().zip(x2).zip(cos.iter().zip(sin)) {
        (*x1, *x2) = turn(*x1, *x2, *cos, *sin);
    }
}

/// Turns the interleaved planes of one token where they are.
#[inline(always)]
fn turn_pairs<E: Copy>(row: &mut [E], (cos, sin): (&[f32], &[f32]), turn: impl Turn<E>) {
    let (pairs, _) = row[..2 * cos.len()].as_chunks_mut::<2>();
    for ([x1, x2], (cos, sin)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
        (*x1, *x2) = turn(*x1, *x2, *cos, *sin);
    }
}

/// Turns the planes of one token from `x` to `y` and copies the features behind them.
#[inline(always)]
fn turn_row<E: Copy>(
    x: &[E],
    y: &mut [E],
    (cos, sin): (&[f32], &[f32]),
    read: Layout,
    write: Layout,
    turn: impl Turn<E>,
) {
    let n_planes = cos.len();
    let angles = cos.iter().zip(sin);
    let (x, x_tail) = x.split_at(2 * n_planes);
    let (y, y_tail) = y.split_at_mut(2 * n_planes);
    y_tail.copy_from_slice(x_tail);
    let (x1, x2) = x.split_at(n_planes);
    let halves = x1.iter().zip(x2);
    let pairs = x.as_chunks::<2>().0.iter();
    match (read, write) {
        (Layout::Pairs, Layout::Pairs) => {
            let y = y.as_chunks_mut::<2>().0;
            for (([x1, x2], y), (cos, sin)) in pairs.zip(y).zip(angles) {
                *y = turn(*x1, *x2, *cos, *sin).into();
            }
        }
        (Layout::Halves, Layout::Pairs) => {
            let y = y.as_chunks_mut::<2>().0;
            for (((x1, x2), y), (cos, sin)) in halves.zip(y).zip(angles) {
                *y = turn(*x1, *x2, *cos, *sin).into();
            }
        }
        (Layout::Pairs, Layout::Halves) => {
            let (y1, y2) = y.split_at_mut(n_planes);
            let y = y1.iter_mut().zip(y2);
            for (([x1, x2], (y1, y2)), (cos, sin)) in pairs.zip(y).zip(angles) {
                (*y1, *y2) = turn(*x1, *x2, *cos, *sin);
            }
        }
        (Layout::Halves, Layout::Halves) => {
            let (y1, y2) = y.split_at_mut(n_planes);
            let y = y1.iter_mut().zip(y2);
            for (((x1, x2), (y1, y2)), (cos, sin)) in halves.zip(y).zip(angles) {
                (*y1, *y2) = turn(*x1, *x2, *cos, *sin);
            }
        }
    }
}
