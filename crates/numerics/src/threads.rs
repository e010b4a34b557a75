//! Work shared out to threads, with results that do not depend on how many there are.

/// Calls `work` on each item, on the threads of the current `rayon` pool.
///
/// The items fix how the work is cut; threads only decide who does which. So the
/// result is the same for any number of threads. Without the feature `fast`, one
/// after the other.
pub fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync + Send) {
    #[cfg(feature = "fast")]
    {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        if items.len() > 1 && rayon::current_num_threads() > 1 {
            items.into_par_iter().with_max_len(1).for_each(work);
            return;
        }
    }
    items.into_iter().for_each(work);
}

/// Like [`for_each`], and returns the results in the order of the items.
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "fast")]
    {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        if items.len() > 1 && rayon::current_num_threads() > 1 {
            return items.into_par_iter().with_max_len(1).map(work).collect();
        }
    }
    items.into_iter().map(work).collect()
}
