//! What stores on the device can refuse.

use llm_gpu::GpuError;

use crate::KvCacheError;
use crate::paged::PageShape;

/// What stores on the device refuse: the rules of the CPU, those of the device, and those about tensors and slots.
///
/// It is a type of its own so that [`KvCacheError`] is the same with and without the feature `gpu`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuKvCacheError {
    /// What the CPU refuses too.
    #[error(transparent)]
    KvCache(#[from] KvCacheError),
    /// The device refuses, or cannot do it.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A tensor has another number of axes.
    #[error("{name} must have {expected} axes, got the shape {got:?}")]
    Rank {
        /// Name of the tensor.
        name: &'static str,
        /// Its axes, in words.
        expected: &'static str,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// A tensor does not fit the pages, the slots or another tensor.
    #[error("{name} must have the shape {expected:?}, got {got:?}")]
    Shape {
        /// Name of the tensor.
        name: &'static str,
        /// What it must have.
        expected: Vec<usize>,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// Slots, or a table, of a pool of other sizes.
    #[error("slots and tables must be of a pool of the sizes {expected:?}, got {got:?}")]
    Pool {
        /// Sizes of the pages.
        expected: PageShape,
        /// Sizes of what came; of a table the number of pages and tokens in a page.
        got: PageShape,
    },
    /// Slots that were made for reading may lie in pages that others share.
    #[error("slots must be made for writing to be written")]
    ReadOnly,
    /// Tokens do not fill whole rows.
    #[error("tokens must be a multiple of batch {batch}, got {tokens}")]
    Batch {
        /// Rows that were asked for.
        batch: usize,
        /// Tokens that the slots name.
        tokens: usize,
    },
    /// A slot that the device made is not in the pool.
    #[error("slot {token} must be below {n_slots} (n_pages * page_size) or none, got {got}")]
    Slot {
        /// Its place in the list.
        token: usize,
        /// Places of the pool.
        n_slots: usize,
        /// The slot.
        got: u32,
    },
    /// A table on the device gives a token no page of the pool.
    #[error("the block table must name a page below {n_pages} for new token {token} of row {row}")]
    TablePage {
        /// Row of the table.
        row: usize,
        /// The token, counted among the last of its sequence.
        token: usize,
        /// Pages of the pool.
        n_pages: usize,
    },
    /// A page of a list is not in the pool, or a place not in its page.
    #[error(
        "page {page} and place {place} must be in the pool ({n_pages} pages of {page_size} tokens)"
    )]
    Place {
        /// The page that was named.
        page: u32,
        /// The place in it that was named.
        place: usize,
        /// Pages of the pool.
        n_pages: usize,
        /// Tokens of a page.
        page_size: usize,
    },
    /// Two tokens were to go to one place.
    #[error("place {place} of page {page} must be written once, got it twice")]
    Twice {
        /// The page.
        page: u32,
        /// The place in it.
        place: usize,
    },
}
