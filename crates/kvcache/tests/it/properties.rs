//! Laws of the caches, each against a plain list.

mod contiguous;
mod eviction;
mod pool;
mod prefixes;
mod quantized;
mod smooth;
mod windows;
