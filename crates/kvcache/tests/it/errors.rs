//! One test for each error variant; each also looks that nothing has changed.

mod contiguous;
mod eviction;
mod files;
mod kivi;
mod pool;
mod ring;
mod smooth;
