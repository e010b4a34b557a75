//! The loops of RoPE: rows of contiguous features, many planes at a time.

use ndarray::{
    Array4, ArrayRef4, ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut4, Axis, Slice, s,
};

use super::{RopePairing, RopeTable};
use crate::PosencError;
use llm_numerics::{Float, simd, threads};

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 17;

/// Planes that are turned together: two vectors of eight.
const LANES: usize = 16;

/// Where the two features of plane `i` lie among `2 n` features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
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
pub(super) enum Direction {
    Forward,
    Backward,
}

impl Direction {
    /// What the sines are multiplied with.
    pub(super) const fn sign(self) -> f32 {
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

/// Refuses arrays whose bytes the address space cannot hold.
pub(super) fn check_size<E>(rows: usize, columns: usize) -> Result<(), PosencError> {
    rows.checked_mul(columns)
        .and_then(|n| n.checked_mul(size_of::<E>()))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .map(|_| ())
        .ok_or(PosencError::TooLarge { rows, columns })
}

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
        let (mut read, mut write) = pairing.layouts();
        if direction == Direction::Backward {
            (read, write) = (write, read);
        }
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

/// Cuts the longest of batch, heads and seq into tasks. Elements do not mix, so the cut changes nothing.
fn run<E: Copy + Send + Sync>(
    mut out: ArrayViewMut4<'_, E>,
    source: Option<ArrayView4<'_, E>>,
    rotation: &Rotation<'_, impl Turn<E>>,
) {
    if out.is_empty() {
        return;
    }
    let n_tasks = out.len() / TASK;
    if n_tasks < 2 {
        return simd::vectorize(
            #[inline(always)]
            || block(out, source, [0, 0], rotation),
        );
    }
    // Of equally long axes the last: a block of the sequence uses its rows of the table for all heads.
    let axis = (0..3).max_by_key(|&axis| out.shape()[axis]).unwrap_or(0);
    let (axis, length) = (Axis(axis), out.shape()[axis].div_ceil(n_tasks));
    let tasks = out.axis_chunks_iter_mut(axis, length).enumerate().collect();
    threads::for_each(tasks, |(i, out): (usize, ArrayViewMut4<'_, E>)| {
        let start = i * length;
        let range = Slice::from(start..start + out.len_of(axis));
        let source = source.as_ref().map(|x| x.slice_axis(axis, range));
        let first = [0, 2].map(|a| if axis == Axis(a) { start } else { 0 });
        simd::vectorize(
            #[inline(always)]
            || block(out, source, first, rotation),
        );
    });
}

/// Rotates the rows of a part of the array, whose first batch and sequence element are `first`.
#[inline(always)]
fn block<E: Copy>(
    mut out: ArrayViewMut4<'_, E>,
    source: Option<ArrayView4<'_, E>>,
    first: [usize; 2],
    rotation: &Rotation<'_, impl Turn<E>>,
) {
    let n_planes = rotation.table.cos.ncols();
    for (b, mut out) in out.outer_iter_mut().enumerate() {
        let start = (first[0] + b) * rotation.rows_per_batch + first[1];
        let rows = start * n_planes..(start + out.len_of(Axis(1))) * n_planes;
        let cos = &rotation.table.cos.as_slice().unwrap_or_default()[rows.clone()];
        let sin = &rotation.table.sin.as_slice().unwrap_or_default()[rows];
        for (h, out) in out.outer_iter_mut().enumerate() {
            let source = source.as_ref().map(|x| x.slice(s![b, h, .., ..]));
            head(out, source, cos, sin, n_planes, rotation);
        }
    }
}

/// Rotates `[seq, head_dim]` with tables of `[seq, n_planes]`.
#[inline(always)]
fn head<E: Copy>(
    mut out: ArrayViewMut2<'_, E>,
    source: Option<ArrayView2<'_, E>>,
    cos: &[f32],
    sin: &[f32],
    n_planes: usize,
    rotation: &Rotation<'_, impl Turn<E>>,
) {
    let rotary_dim = 2 * n_planes;
    let (read, write, turn) = (rotation.read, rotation.write, rotation.turn);
    // Rows that are not contiguous, or may not be overwritten while they are read, are copied.
    let (mut input, mut output) = (Vec::new(), Vec::new());
    for (t, mut row) in out.outer_iter_mut().enumerate() {
        let planes = t * n_planes..(t + 1) * n_planes;
        let (cos, sin) = (&cos[planes.clone()], &sin[planes]);
        let source = source.as_ref().map(|source| source.row(t));
        match (row.as_slice_mut(), &source) {
            (Some(row), None) if read == write => {
                turn_row_inplace(&mut row[..rotary_dim], cos, sin, read, turn);
            }
            (Some(row), None) => {
                let row = &mut row[..rotary_dim];
                input.clear();
                input.extend_from_slice(row);
                turn_row(&input, row, cos, sin, read, write, turn);
            }
            (Some(row), Some(source)) if source.as_slice().is_some() => {
                let source = source.as_slice().unwrap_or_default();
                let (x, rest) = source.split_at(rotary_dim);
                let (y, tail) = row.split_at_mut(rotary_dim);
                tail.copy_from_slice(rest);
                turn_row(x, y, cos, sin, read, write, turn);
            }
            (_, source) => {
                input.clear();
                match source {
                    Some(source) => input.extend(source.iter().copied()),
                    None => input.extend(row.iter().copied()),
                }
                output.clone_from(&input);
                let (x, y) = (&input[..rotary_dim], &mut output[..rotary_dim]);
                turn_row(x, y, cos, sin, read, write, turn);
                row.iter_mut().zip(&output).for_each(|(y, x)| *y = *x);
            }
        }
    }
}

/// Turns the planes of one token where they are.
#[inline(always)]
fn turn_row_inplace<E: Copy>(
    x: &mut [E],
    cos: &[f32],
    sin: &[f32],
    layout: Layout,
    turn: impl Turn<E>,
) {
    let n_planes = cos.len();
    let (cos, cos_rest) = cos.as_chunks::<LANES>();
    let (sin, sin_rest) = sin.as_chunks::<LANES>();
    let angles = cos.iter().zip(sin);
    let rest = cos_rest.iter().zip(sin_rest);
    match layout {
        Layout::Halves => {
            let (x1, x2) = x.split_at_mut(n_planes);
            let (x1, x1_rest) = x1.as_chunks_mut::<LANES>();
            let (x2, x2_rest) = x2.as_chunks_mut::<LANES>();
            for ((x1, x2), (cos, sin)) in x1.iter_mut().zip(x2).zip(angles) {
                let (mut y1, mut y2) = (*x1, *x2);
                for i in 0..LANES {
                    (y1[i], y2[i]) = turn(y1[i], y2[i], cos[i], sin[i]);
                }
                (*x1, *x2) = (y1, y2);
            }
            for ((x1, x2), (cos, sin)) in x1_rest.iter_mut().zip(x2_rest).zip(rest) {
                (*x1, *x2) = turn(*x1, *x2, *cos, *sin);
            }
        }
        Layout::Pairs => {
            let (pairs, _) = x.as_chunks_mut::<2>();
            let (chunks, pairs_rest) = pairs.as_chunks_mut::<LANES>();
            for (x, (cos, sin)) in chunks.iter_mut().zip(angles) {
                let mut y = *x;
                for i in 0..LANES {
                    y[i] = turn(y[i][0], y[i][1], cos[i], sin[i]).into();
                }
                *x = y;
            }
            for (x, (cos, sin)) in pairs_rest.iter_mut().zip(rest) {
                *x = turn(x[0], x[1], *cos, *sin).into();
            }
        }
    }
}

/// Turns the planes of one token from `x` to `y`.
#[inline(always)]
fn turn_row<E: Copy>(
    x: &[E],
    y: &mut [E],
    cos: &[f32],
    sin: &[f32],
    read: Layout,
    write: Layout,
    turn: impl Turn<E>,
) {
    if read == write {
        y.copy_from_slice(x);
        return turn_row_inplace(y, cos, sin, read, turn);
    }
    let n_planes = cos.len();
    let (cos, cos_rest) = cos.as_chunks::<LANES>();
    let (sin, sin_rest) = sin.as_chunks::<LANES>();
    let angles = cos.iter().zip(sin);
    let rest = cos_rest.iter().zip(sin_rest);
    match read {
        Layout::Pairs => {
            let (x, x_rest) = x.as_chunks::<2>().0.as_chunks::<LANES>();
            let (y1, y2) = y.split_at_mut(n_planes);
            let (y1, y1_rest) = y1.as_chunks_mut::<LANES>();
            let (y2, y2_rest) = y2.as_chunks_mut::<LANES>();
            for ((x, (cos, sin)), (y1, y2)) in x.iter().zip(angles).zip(y1.iter_mut().zip(y2)) {
                let (mut z1, mut z2) = (*y1, *y2);
                for i in 0..LANES {
                    (z1[i], z2[i]) = turn(x[i][0], x[i][1], cos[i], sin[i]);
                }
                (*y1, *y2) = (z1, z2);
            }
            let y = y1_rest.iter_mut().zip(y2_rest);
            for ((x, (cos, sin)), (y1, y2)) in x_rest.iter().zip(rest).zip(y) {
                (*y1, *y2) = turn(x[0], x[1], *cos, *sin);
            }
        }
        Layout::Halves => {
            let (x1, x2) = x.split_at(n_planes);
            let (x1, x1_rest) = x1.as_chunks::<LANES>();
            let (x2, x2_rest) = x2.as_chunks::<LANES>();
            let (y, y_rest) = y.as_chunks_mut::<2>().0.as_chunks_mut::<LANES>();
            for (((x1, x2), (cos, sin)), y) in x1.iter().zip(x2).zip(angles).zip(y) {
                let mut z = *y;
                for i in 0..LANES {
                    z[i] = turn(x1[i], x2[i], cos[i], sin[i]).into();
                }
                *y = z;
            }
            let x = x1_rest.iter().zip(x2_rest);
            for (((x1, x2), (cos, sin)), y) in x.zip(rest).zip(y_rest) {
                *y = turn(*x1, *x2, *cos, *sin).into();
            }
        }
    }
}
