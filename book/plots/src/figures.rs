//! The figures, one file each, and their registry.
//!
//! A new figure is a file with an `ENTRY` and a function, and a line in [`FIGURES`].

mod alibi;
mod attention_io;
mod bf16_positions;
mod rope_decay;
mod sinusoidal_dot;
mod sinusoidal_heatmap;

pub use alibi::alibi;
pub use attention_io::attention_io;
pub use bf16_positions::bf16_positions;
pub use rope_decay::rope_decay;
pub use sinusoidal_dot::sinusoidal_dot;
pub use sinusoidal_heatmap::sinusoidal_heatmap;

use crate::figure::FigureEntry;

/// Every figure, in the order of the book.
pub static FIGURES: [FigureEntry; 6] = [
    sinusoidal_heatmap::ENTRY,
    sinusoidal_dot::ENTRY,
    rope_decay::ENTRY,
    alibi::ENTRY,
    bf16_positions::ENTRY,
    attention_io::ENTRY,
];

/// The figure of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static FigureEntry> {
    FIGURES.iter().find(|entry| entry.name == name)
}
