//! What the figures show is what the functions return, and the files are fit for use.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod caches;
mod data;
mod decoding;
#[cfg(feature = "png")]
mod png_files;
mod quantized;
mod read;
mod svg_files;
