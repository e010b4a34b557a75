//! Results that there is no room for: refused, instead of an abort.

use crate::AttentionError;

/// Refuses a shape that memory cannot hold: asked for and given back.
///
/// Counted as `ndarray` does: a zero-length axis does not hide that the others overflow.
pub(crate) fn fits<F>(shape: [usize; 4]) -> Result<(), AttentionError> {
    let has_room = |len: usize| Vec::<F>::new().try_reserve_exact(len).ok();
    let lengths = shape.into_iter().filter(|&length| length != 0);
    let bytes = lengths
        .clone()
        .try_fold(size_of::<F>(), usize::checked_mul)
        .filter(|&bytes| isize::try_from(bytes).is_ok());
    bytes
        .and_then(|_| match shape.contains(&0) {
            true => Some(()),
            false => has_room(lengths.product()),
        })
        .ok_or(AttentionError::TooLarge { shape })
}
