//! Tests of the chat formats.

mod errors;
mod golden;
mod masks;
mod properties;
mod stand_ins;
