//! Arrays `[heads, seq, kv_seq]` whose rows are windows of one list of values per head.
//!
//! A bias that depends on `key - query` has `seq + kv_seq - 1` different values in a head, not
//! `seq * kv_seq`: they are computed once and copied. Its gradient sums along the diagonals first.

use llm_numerics::{Float, simd, threads};
use ndarray::{Array3, ArrayRef3, ArrayView1, ArrayView2, ArrayViewMut2};

use crate::alibi::MAX_HEADS;
use crate::{PosencError, memory};

/// Elements that are worth the start of threads.
const TASK: usize = 1 << 17;

/// Which entries of a head share a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Those with the same `key - query`.
    Diagonal,
    /// Those with the same key.
    Column,
}

impl Sharing {
    /// The first place `(query, key)` of each value, in the order of the list.
    pub(crate) fn places(
        self,
        seq: usize,
        kv_seq: usize,
    ) -> impl ExactSizeIterator<Item = (usize, usize)> + Clone {
        let last = match self {
            Self::Diagonal => seq.saturating_sub(1),
            Self::Column => 0,
        };
        (0..self.len(seq, kv_seq)).map(move |i| (last.saturating_sub(i), i.saturating_sub(last)))
    }

    fn len(self, seq: usize, kv_seq: usize) -> usize {
        match self {
            _ if seq == 0 || kv_seq == 0 => 0,
            Self::Diagonal => (seq - 1).saturating_add(kv_seq),
            Self::Column => kv_seq,
        }
    }

    /// Where the row of a query begins in the list.
    fn start(self, seq: usize, query: usize) -> usize {
        match self {
            Self::Diagonal => seq - 1 - query,
            Self::Column => 0,
        }
    }
}

/// Refuses no heads, and more heads than anything has.
pub(crate) fn check_heads(got: usize) -> Result<(), PosencError> {
    match got {
        1..=MAX_HEADS => Ok(()),
        _ => Err(PosencError::Heads { got }),
    }
}

/// Refuses arrays that memory cannot hold, and those without elements whose other axes no array can have.
pub(crate) fn check_size<T>(shape: [usize; 3]) -> Result<(), PosencError> {
    let too_large = || PosencError::BiasTooLarge { shape };
    shape
        .iter()
        .filter(|&&axis| axis > 0)
        .try_fold(1_usize, |n, &axis| n.checked_mul(axis))
        .and_then(|n| isize::try_from(n).ok())
        .ok_or_else(too_large)?;
    memory::check_size::<T>(shape.iter().product(), 1).map_err(|_| too_large())
}

/// Makes the array: `values(head)` goes through the values at [`Sharing::places`].
pub(crate) fn fill<F: Float, V: ExactSizeIterator<Item = F>>(
    shape: [usize; 3],
    sharing: Sharing,
    values: impl Fn(usize) -> V + Sync + Send,
) -> Result<Array3<F>, PosencError> {
    let [heads, seq, kv_seq] = shape;
    check_heads(heads)?;
    check_size::<F>(shape)?;
    let mut out = Array3::zeros(shape);
    if out.is_empty() {
        return Ok(out);
    }
    let is_small = out.len() < TASK;
    let tasks: Vec<_> = out.outer_iter_mut().enumerate().collect();
    let work = |(head, mut out): (usize, ArrayViewMut2<'_, F>)| -> Result<(), PosencError> {
        let values = values(head);
        if seq == 1 {
            out.iter_mut().zip(values).for_each(|(out, x)| *out = x);
            return Ok(());
        }
        let values = memory::list(values).ok_or(PosencError::BiasTooLarge { shape })?;
        for (query, mut row) in out.outer_iter_mut().enumerate() {
            let start = sharing.start(seq, query);
            let window = &values[start..start + kv_seq];
            match row.as_slice_mut() {
                Some(row) => row.copy_from_slice(window),
                None => row.assign(&ArrayView1::from(window)),
            }
        }
        Ok(())
    };
    if is_small {
        tasks.into_iter().try_for_each(work)?;
    } else {
        threads::map(tasks, work)
            .into_iter()
            .collect::<Result<(), _>>()?;
    }
    Ok(out)
}

/// Sums `dbias` over the entries that share a value, in `f64` and in the order of the queries, and
/// gives `finish` each head with its list of sums (empty if the head is).
pub(crate) fn sum<F: Float, R: Send>(
    dbias: &ArrayRef3<F>,
    sharing: Sharing,
    finish: impl Fn(usize, &[f64]) -> R + Sync + Send,
) -> Result<Vec<R>, PosencError> {
    let (heads, seq, kv_seq) = dbias.dim();
    check_heads(heads)?;
    check_size::<F>([heads, seq, kv_seq])?; // of what is walked through
    let n_values = sharing.len(seq, kv_seq);
    let work = |(head, dbias): (usize, ArrayView2<'_, F>)| {
        let shape = [1, 1, n_values];
        let zeros = std::iter::repeat_n(0.0, n_values);
        let mut sums = memory::list(zeros).ok_or(PosencError::BiasTooLarge { shape })?;
        if n_values > 0 {
            simd::vectorize(
                #[inline(always)]
                || sum_head(&dbias, sharing, &mut sums),
            );
        }
        Ok(finish(head, &sums))
    };
    let tasks: Vec<_> = dbias.outer_iter().enumerate().collect();
    if dbias.len() < TASK {
        tasks.into_iter().map(work).collect()
    } else {
        threads::map(tasks, work).into_iter().collect()
    }
}

#[inline(always)]
fn sum_head<F: Float>(dbias: &ArrayView2<'_, F>, sharing: Sharing, sums: &mut [f64]) {
    let (seq, kv_seq) = dbias.dim();
    for (query, row) in dbias.outer_iter().enumerate() {
        let start = sharing.start(seq, query);
        let sums = &mut sums[start..start + kv_seq];
        match row.as_slice() {
            Some(row) => add(sums, row.iter()),
            None => add(sums, row.iter()),
        }
    }
}

#[inline(always)]
fn add<'a, F: Float>(sums: &mut [f64], row: impl Iterator<Item = &'a F>) {
    sums.iter_mut()
        .zip(row)
        .for_each(|(sum, x)| *sum += x.as_f64());
}
