//! The first tokens and the newest.

/// Keeps the first `n_sinks` tokens and the last `window` of `len`.
///
/// ```text
/// { i < n_sinks } ∪ { i ≥ len - window }
/// ```
///
/// # Shapes
///
/// - returns: rising indices below `len`, each once
///
/// # Errors
///
/// None: more than there are is all that there are.
///
/// # Example
///
/// ```
/// use llm_kvcache::eviction::window;
///
/// assert_eq!(window(10, 2, 3), [0, 1, 7, 8, 9]);
/// assert_eq!(window(4, 2, 3), [0, 1, 2, 3]);
/// ```
///
/// Source: Xiao et al., `StreamingLLM`, arXiv:2309.17453v4, section 3.2; without sinks the window of
/// Beltagy et al., Longformer, arXiv:2004.05150v2.
#[must_use]
pub fn window(len: usize, n_sinks: usize, window: usize) -> Vec<usize> {
    let sinks = n_sinks.min(len);
    let first = len.saturating_sub(window).max(sinks);
    (0..sinks).chain(first..len).collect()
}
