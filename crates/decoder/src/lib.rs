#![doc = include_str!("../README.md")]

mod backward;
mod batch;
pub mod checkpoint;
mod config;
mod error;
mod forward;
mod model;
mod params;
mod session;

pub use batch::TokenBatch;
pub use config::{DecoderConfig, Family};
pub use error::DecoderError;
pub use forward::Activations;
pub use model::Decoder;
pub use ndarray; // the version our signatures speak
pub use params::{LayerParams, Params};
pub use session::Session;
