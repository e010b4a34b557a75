//! The loops of RoPE: rows of contiguous features, many planes at a time.

use ndarray::{
    Array4, ArrayRef4, ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut4, Axis, Slice, s,
};

use super::{RopePairing, RopeTable};
use crate::PosencError;
use llm_numerics::{Float, simd, threads};

/// Elements that are worth a task of their own.
const TASK: usize = 1 << 17;

/// Refuses arrays whose bytes the address space cannot hold.
pub(super) fn check_size<F>(rows: usize, columns: usize) -> Result<(), PosencError> {
    rows.checked_mul(columns)
        .and_then(|n| n.checked_mul(size_of::<F>()))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .map(|_| ())
        .ok_or(PosencError::TooLarge { rows, columns })
}

fn check(seq: usize, head_dim: usize, table: &RopeTable) -> Result<(), PosencError> {
    if table.seq() != seq {
        return Err(PosencError::TableSeq {
            expected: seq,
            got: table.seq(),
        });
    }
    if table.rotary_dim() > head_dim {
        return Err(PosencError::RotaryDimAboveHeadDim {
            rotary_dim: table.rotary_dim(),
            head_dim,
        });
    }
    Ok(())
}

/// Rotates into a new array; `direction` is 1 or -1 and multiplies the sines.
pub(super) fn into_new<F: Float>(
    x: &ArrayRef4<F>,
    table: &RopeTable,
    pairing: RopePairing,
    direction: F,
) -> Result<Array4<F>, PosencError> {
    let (batch, heads, seq, head_dim) = x.dim();
    check(seq, head_dim, table)?;
    // The product of the non-zero axes of an array fits into `isize`.
    let rows = if head_dim == 0 {
        0
    } else {
        batch * heads * seq
    };
    check_size::<F>(rows, head_dim)?;
    let mut out = Array4::zeros(x.dim());
    run(out.view_mut(), Some(x.view()), table, pairing, direction);
    Ok(out)
}

/// Rotates in place; `direction` is 1 or -1 and multiplies the sines.
pub(super) fn inplace<F: Float>(
    x: &mut ArrayRef4<F>,
    table: &RopeTable,
    pairing: RopePairing,
    direction: F,
) -> Result<(), PosencError> {
    let (_, _, seq, head_dim) = x.dim();
    check(seq, head_dim, table)?;
    run(x.view_mut(), None, table, pairing, direction);
    Ok(())
}

/// Cuts the longest of batch, heads and seq into tasks. Elements do not mix, so the cut changes nothing.
fn run<F: Float>(
    mut out: ArrayViewMut4<'_, F>,
    source: Option<ArrayView4<'_, F>>,
    table: &RopeTable,
    pairing: RopePairing,
    direction: F,
) {
    if out.is_empty() {
        return;
    }
    let n_tasks = out.len() / TASK;
    if n_tasks < 2 {
        return block(out, source, 0, table, pairing, direction);
    }
    let axis = (0..3).max_by_key(|&axis| out.shape()[axis]).unwrap_or(0);
    let (axis, length) = (Axis(axis), out.shape()[axis].div_ceil(n_tasks));
    let tasks = out.axis_chunks_iter_mut(axis, length).enumerate().collect();
    threads::for_each(tasks, |(i, out): (usize, ArrayViewMut4<'_, F>)| {
        let start = i * length;
        let range = Slice::from(start..start + out.len_of(axis));
        let source = source.as_ref().map(|x| x.slice_axis(axis, range));
        let first = if axis == Axis(2) { start } else { 0 };
        block(out, source, first, table, pairing, direction);
    });
}

/// Rotates the rows of a part of the array; `first` is the table's row of its first sequence element.
fn block<F: Float>(
    mut out: ArrayViewMut4<'_, F>,
    source: Option<ArrayView4<'_, F>>,
    first: usize,
    table: &RopeTable,
    pairing: RopePairing,
    direction: F,
) {
    let n_planes = table.cos.ncols();
    let rows = first * n_planes..(first + out.len_of(Axis(2))) * n_planes;
    let cos = &table.cos.as_slice().unwrap_or_default()[rows.clone()];
    let sin = &table.sin.as_slice().unwrap_or_default()[rows];
    for (b, mut out) in out.outer_iter_mut().enumerate() {
        for (h, out) in out.outer_iter_mut().enumerate() {
            let source = source.as_ref().map(|x| x.slice(s![b, h, .., ..]));
            simd::vectorize(
                #[inline(always)]
                || head(out, source, cos, sin, n_planes, pairing, direction),
            );
        }
    }
}

/// Rotates `[seq, head_dim]` with tables of `[seq, n_planes]`.
#[inline(always)]
fn head<F: Float>(
    mut out: ArrayViewMut2<'_, F>,
    source: Option<ArrayView2<'_, F>>,
    cos: &[f32],
    sin: &[f32],
    n_planes: usize,
    pairing: RopePairing,
    direction: F,
) {
    let mut buffer = Vec::new();
    for (i, mut row) in out.outer_iter_mut().enumerate() {
        let planes = i * n_planes..(i + 1) * n_planes;
        let (cos, sin) = (&cos[planes.clone()], &sin[planes]);
        if let Some(source) = &source {
            let source = source.row(i);
            match (row.as_slice_mut(), source.as_slice()) {
                (Some(row), Some(source)) => row.copy_from_slice(source),
                _ => row.assign(&source),
            }
        }
        if let Some(row) = row.as_slice_mut() {
            rotate(row, cos, sin, pairing, direction);
        } else {
            buffer.clear();
            buffer.extend(row.iter().copied());
            rotate(&mut buffer, cos, sin, pairing, direction);
            row.iter_mut().zip(&buffer).for_each(|(y, x)| *y = *x);
        }
    }
}

/// Rotates the features of one token.
#[inline(always)]
fn rotate<F: Float>(row: &mut [F], cos: &[f32], sin: &[f32], pairing: RopePairing, direction: F) {
    let turn = |x1: &mut F, x2: &mut F, cos: f32, sin: f32| {
        let cos = F::from_f64(f64::from(cos));
        let sin = F::from_f64(f64::from(sin)) * direction;
        (*x1, *x2) = (*x1 * cos - *x2 * sin, *x1 * sin + *x2 * cos);
    };
    let n_planes = cos.len();
    match pairing {
        RopePairing::HalfSplit => {
            let (first, rest) = row.split_at_mut(n_planes);
            let second = &mut rest[..n_planes];
            let pairs = first.iter_mut().zip(second);
            for ((x1, x2), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
                turn(x1, x2, cos, sin);
            }
        }
        RopePairing::Interleaved => {
            let (pairs, _) = row[..2 * n_planes].as_chunks_mut::<2>();
            for ([x1, x2], (&cos, &sin)) in pairs.iter_mut().zip(cos.iter().zip(sin)) {
                turn(x1, x2, cos, sin);
            }
        }
    }
}
