//! Results that there is no room for: refused, instead of an abort.

use crate::AttentionError;
use llm_numerics::memory::has_room;

/// Refuses a shape that memory cannot hold.
///
/// Counted as `ndarray` does: a zero-length axis does not hide that the others overflow.
pub(crate) fn fits<F>(shape: [usize; 4]) -> Result<(), AttentionError> {
    let lengths = shape.into_iter().filter(|&length| length != 0);
    let bytes = lengths
        .clone()
        .try_fold(size_of::<F>(), usize::checked_mul)
        .filter(|&bytes| isize::try_from(bytes).is_ok());
    let has_room = |_| shape.contains(&0) || has_room::<F>(lengths.product());
    if bytes.is_some_and(has_room) {
        Ok(())
    } else {
        Err(AttentionError::TooLarge { shape })
    }
}
