//! Whether there is room for an array, asked before a constructor that would abort makes it.

use std::hint::black_box;

/// True if memory holds a list of so many elements now: it is asked for and given back.
///
/// For arrays whose size a caller names, and for arguments that repeat one element that often
/// (a broadcast array needs no memory, but to walk through it would take years). Elements without
/// a size count as one byte each, since they are walked through one by one too.
///
/// # Example
///
/// ```
/// use llm_numerics::memory::has_room;
///
/// assert!(has_room::<f32>(1000));
/// assert!(!has_room::<f32>(usize::MAX / 2));
/// assert!(!has_room::<()>(usize::MAX));
/// ```
#[must_use]
pub fn has_room<T>(len: usize) -> bool {
    fn reserve<T>(len: usize) -> bool {
        let mut list = Vec::<T>::new();
        let has_room = list.try_reserve_exact(len).is_ok();
        black_box(list); // or the compiler may do without it
        has_room
    }
    if size_of::<T>() == 0 {
        reserve::<u8>(len)
    } else {
        reserve::<T>(len)
    }
}
