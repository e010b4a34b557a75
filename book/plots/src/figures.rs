//! The figures, one file each, and their registry.
//!
//! A new figure is a file with an `ENTRY` and a function, and a line in [`FIGURES`].

mod alibi;
mod attention_io;
mod beam_tree;
mod bf16_positions;
mod block_errors;
mod cache_stores;
mod decode_intensity;
mod draw_histogram;
mod kept_tokens;
mod nf4_density;
mod quantized_memory;
mod rope_decay;
mod sinusoidal_dot;
mod sinusoidal_heatmap;
mod speculative_length;
mod temperature_filters;

pub use alibi::alibi;
pub use attention_io::attention_io;
pub use beam_tree::beam_tree;
pub use bf16_positions::bf16_positions;
pub use block_errors::block_errors;
pub use cache_stores::cache_stores;
pub use decode_intensity::decode_intensity;
pub use draw_histogram::draw_histogram;
pub use kept_tokens::kept_tokens;
pub use nf4_density::nf4_density;
pub use quantized_memory::quantized_memory;
pub use rope_decay::rope_decay;
pub use sinusoidal_dot::sinusoidal_dot;
pub use sinusoidal_heatmap::sinusoidal_heatmap;
pub use speculative_length::speculative_length;
pub use temperature_filters::temperature_filters;

use crate::figure::FigureEntry;

/// Every figure, in the order of the book.
pub static FIGURES: [FigureEntry; 16] = [
    sinusoidal_heatmap::ENTRY,
    sinusoidal_dot::ENTRY,
    rope_decay::ENTRY,
    alibi::ENTRY,
    bf16_positions::ENTRY,
    attention_io::ENTRY,
    decode_intensity::ENTRY,
    cache_stores::ENTRY,
    temperature_filters::ENTRY,
    kept_tokens::ENTRY,
    draw_histogram::ENTRY,
    beam_tree::ENTRY,
    speculative_length::ENTRY,
    nf4_density::ENTRY,
    quantized_memory::ENTRY,
    block_errors::ENTRY,
];

/// The figure of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static FigureEntry> {
    FIGURES.iter().find(|entry| entry.name == name)
}
