#![doc = include_str!("../README.md")]

mod axes;
mod canvas;
mod color;
mod error;
mod figure;
mod figures;
mod heatmap;
#[cfg(feature = "png")]
mod raster;

pub use error::PlotError;
pub use figure::{Figure, FigureEntry, Theme};
pub use figures::{
    FIGURES, alibi, attention_io, beam_tree, bf16_positions, block_errors, cache_stores,
    decode_intensity, draw_histogram, find, kept_tokens, nf4_density, quantized_memory, rope_decay,
    sinusoidal_dot, sinusoidal_heatmap, speculative_length, temperature_filters,
};
