//! Walking over the rows of logits.

use llm_numerics::Float;
use ndarray::{ArrayRef1, ArrayRef2};

use crate::{SamplingError, select};

/// What all methods refuse: NaN, and a vocabulary without or with too many ids.
///
/// Errors name row 0; see [`SamplingError::in_row`].
pub(crate) fn check<F: Float>(row: &[F]) -> Result<(), SamplingError> {
    check_vocab(row.len())?;
    check_nan(row, select::extent(row).has_nan)
}

/// [`check`], and the maximum, which must be finite.
pub(crate) fn finite_max<F: Float>(row: &[F]) -> Result<F, SamplingError> {
    check_vocab(row.len())?;
    let extent = select::extent(row);
    check_nan(row, extent.has_nan)?;
    let max = extent.max;
    if max == F::infinity() {
        let token = row.iter().position(|x| *x == max).unwrap_or(0);
        return Err(SamplingError::InfiniteLogits { row: 0, token });
    }
    if max == F::neg_infinity() {
        return Err(SamplingError::MaskedRow { row: 0 });
    }
    Ok(max)
}

/// Refuses NaN in a row that has been looked at.
pub(crate) fn check_nan<F: Float>(row: &[F], has_nan: bool) -> Result<(), SamplingError> {
    if has_nan {
        let token = row.iter().position(|x| x.is_nan()).unwrap_or(0);
        return Err(SamplingError::NanLogits { row: 0, token });
    }
    Ok(())
}

/// A number of token ids that can be.
pub(crate) fn check_vocab(vocab: usize) -> Result<(), SamplingError> {
    if vocab == 0 || vocab as u64 > 1 << 32 {
        return Err(SamplingError::Vocab(vocab));
    }
    Ok(())
}

/// Filters leave at least one token.
pub(crate) const fn check_min_tokens_to_keep(
    min_tokens_to_keep: usize,
) -> Result<(), SamplingError> {
    if min_tokens_to_keep == 0 {
        return Err(SamplingError::MinTokensToKeep(min_tokens_to_keep));
    }
    Ok(())
}

/// Calls `work` with each row as a slice, in order, up to the first error, whose row it corrects.
pub(crate) fn try_for_each<F: Float>(
    logits: &ArrayRef2<F>,
    mut work: impl FnMut(usize, &[F]) -> Result<(), SamplingError>,
) -> Result<(), SamplingError> {
    let mut copy = Vec::new();
    for (row, lane) in logits.rows().into_iter().enumerate() {
        as_slice(&lane, &mut copy, |slice| work(row, slice)).map_err(|e| e.in_row(row))?;
    }
    Ok(())
}

/// Calls `check` on all rows, then, only if none is refused, `change` on all rows.
pub(crate) fn try_for_each_mut<F: Float>(
    logits: &mut ArrayRef2<F>,
    mut check: impl FnMut(&[F]) -> Result<(), SamplingError>,
    mut change: impl FnMut(&mut [F]),
) -> Result<(), SamplingError> {
    try_for_each(logits, |_, row| check(row))?;
    let mut copy = Vec::new();
    for mut row in logits.rows_mut() {
        if let Some(slice) = row.as_slice_mut() {
            change(slice);
            continue;
        }
        copy.clear();
        copy.extend(row.iter().copied());
        change(&mut copy);
        row.iter_mut().zip(&copy).for_each(|(x, y)| *x = *y);
    }
    Ok(())
}

/// Calls `work` with the array as a slice, by way of `copy` if its elements are apart.
pub(crate) fn as_slice<F: Float, R>(
    row: &ArrayRef1<F>,
    copy: &mut Vec<F>,
    work: impl FnOnce(&[F]) -> R,
) -> R {
    match row.as_slice() {
        Some(slice) => work(slice),
        None => {
            copy.clear();
            copy.extend(row.iter().copied());
            work(copy)
        }
    }
}

impl SamplingError {
    /// The same error about another row.
    pub(crate) fn in_row(mut self, new: usize) -> Self {
        if let Self::TemperatureOverflow { row, .. }
        | Self::NanLogits { row, .. }
        | Self::InfiniteLogits { row, .. }
        | Self::NoAllowedTokens { row }
        | Self::GrammarToken(row, _)
        | Self::DraftProbability { row, .. }
        | Self::MaskedRow { row } = &mut self
        {
            *row = new;
        }
        self
    }
}
